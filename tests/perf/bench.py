"""``make bench``: every measurement in one run, one table, and ``build/bench.json``.

Peers are measured in the same run as ours, never remembered; each row says what is divided by what.
What could not be measured has no value and says why in its note. ``make bench ROWS=chain`` runs one
part, ``ROWS="engine chain.rate"`` more; a part is run as a whole, of it the rows named are shown.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.perf.rows import Row

PARTS = (
    "engine",
    "backtest",
    "state",
    "replay",
    "load",
    "signals",
    "chain",
    "latency",
    "demo",
    "oanda",
    "kill",
    "execution",
    "service",
)
WIDTH = 96


def machine() -> dict[str, Any]:
    """Return what the figures were taken on."""
    cpu = platform.processor()
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "system": platform.platform(),
    }


def table_of(rows: list[Row]) -> Table:
    """Return the rows as a table: the figure, and below its name what it is and is not."""
    table = Table(title="manifold-streams bench", show_lines=True, width=WIDTH)
    table.add_column("what", ratio=3)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("ours / peer", ratio=1)
    for row in rows:
        said = "\n".join(line for line in (row["name"], row["measure"], row["note"]) if line)
        ratios = "\n".join(f"{peer} {ratio:.2f}x" for peer, ratio in row["ratios"].items())
        value = "-" if row["value"] is None else f"{shown(row['value'])}\n{row['unit']}"
        table.add_row(said, value, ratios)
    return table


def shown(value: float) -> str:
    """Return a figure with three digits that count, and thousands apart."""
    digits = float(f"{value:.3g}")
    return f"{digits:,.0f}" if abs(digits) >= 100 else f"{digits:.3g}"


def main() -> None:
    """Run the parts named on the command line (all by default), print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", help=f"parts or rows; parts: {', '.join(PARTS)}")
    parser.add_argument("--out", default="build/bench.json", help="write the rows here, as JSON")
    chosen = parser.parse_args()
    wanted = chosen.rows or list(PARTS)
    unknown = sorted({name.partition(".")[0] for name in wanted} - set(PARTS))
    if unknown:
        parser.error(f"there is no part {', '.join(unknown)}; parts: {', '.join(PARTS)}")
    content: dict[str, Any] = {"machine": machine(), "seconds": {}, "failed": [], "rows": []}
    out = Path(chosen.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        if any(name.partition(".")[0] == part for name in wanted):
            _run(part, wanted, content)
            out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    Console(width=WIDTH).print(table_of(content["rows"]))
    print(f"{sum(content['seconds'].values()):.0f} s in all; written: {out}")
    if content["failed"]:
        sys.exit(f"bench: not measured, see above: {', '.join(content['failed'])}")


def _run(part: str, wanted: list[str], content: dict[str, Any]) -> None:
    """Measure a part and add its rows; one that fails is named, and the others go on."""
    begun = time.monotonic()
    try:
        measured: list[Row] = importlib.import_module(f"tests.perf.bench_{part}").rows()
    except Exception:
        traceback.print_exc()
        content["failed"].append(part)
        return
    content["seconds"][part] = round(time.monotonic() - begun, 1)
    rows = [row for row in measured if part in wanted or row["key"] in wanted]
    if not rows:
        print(f"bench: {part} has these rows: {', '.join(row['key'] for row in measured)}")
        content["failed"].append(part)
    print(f"bench: {part} took {content['seconds'][part]:.0f} s", flush=True)
    content["rows"] += rows


if __name__ == "__main__":
    main()
