"""``manifold up --demo`` as ``make demo`` runs it: how soon there are weights."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.perf.rows import Row, row
from tests.support.environment import kept_environment

ROOT = Path(__file__).resolve().parents[2]


def rows() -> list[Row]:
    """Measure and return the row of the table."""
    with tempfile.TemporaryDirectory(prefix="manifold-bench-") as place:
        command = [sys.executable, "-m", "streams", "up", "--demo", "--data-dir", f"{place}/demo"]
        command += ["--env-file", str(ROOT / "deploy" / "profiles" / "demo.env")]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            env=kept_environment(),
        )
    found = re.search(r"from start to the first weights[ │]+([\d.]+)", done.stdout)
    if found is None:
        raise RuntimeError(f"make demo did not end well: {done.stdout} {done.stderr}")
    measure = "first weights - start of the command, one run, everything installed"
    return [row("demo.weights", "make demo to the first weights", float(found[1]), "s", measure)]


if __name__ == "__main__":
    for measured in rows():
        print(measured)
