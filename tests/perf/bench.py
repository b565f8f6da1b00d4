"""``make bench``: every measurement in one run, one table, and ``build/bench.json``.

A row is ``{"name", "value", "unit", "ratios": {peer: ours / peer}, "note"}``; peers are measured in
the same run, never remembered. What could not be measured has no value and says why in its note.
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

PARTS = (
    "bench_engine",
    "bench_backtest",
    "bench_replay",
    "bench_load",
    "bench_chain",
    "bench_oanda",
    "bench_kill",
    "bench_execution",
    "bench_service",
)
Row = dict[str, Any]


def machine() -> Row:
    """Return what the figures were taken on."""
    cpu = platform.processor()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    return {"cpu": cpu, "python": platform.python_version(), "system": platform.platform()}


def main() -> None:
    """Run the parts named on the command line (all by default), print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=PARTS, help=f"of {', '.join(PARTS)}")
    parser.add_argument("--out", default="build/bench.json")
    chosen = parser.parse_args()
    rows: list[Row] = []
    for part in chosen.parts:
        rows += importlib.import_module(f"tests.perf.{part}").rows()
    table = Table("what", "value", "unit", "ours / peer", "note", title="manifold-streams bench")
    for row in rows:
        ratios = ", ".join(f"{peer} {ratio:.2f}x" for peer, ratio in row.get("ratios", {}).items())
        value = "-" if row["value"] is None else f"{row['value']:,.4g}"
        table.add_row(row["name"], value, row["unit"], ratios, row.get("note", ""))
    Console(width=180).print(table)
    out = Path(chosen.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")
    print(f"written: {out}")


if __name__ == "__main__":
    main()
