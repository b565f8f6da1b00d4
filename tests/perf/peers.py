"""Other backtesters on our candles, each in a virtual environment of its own under build/peers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from streams.feed.columns import CandleColumns
from tests.perf.backtest_columns import part_of, saved

Row = dict[str, Any]
HERE = Path(__file__).resolve().parent
PLACE = HERE.parents[1] / "build" / "peers"
ROUNDS = 2
_WITHOUT = "no QFH metrics and so no coherence or guards, no sessions, no rolling summaries, floors"
_OURS_ONLY = f"{_WITHOUT} or gate"


class Peer(NamedTuple):
    """A backtester.

    Attributes
    ----------
    name
        As its package is called.
    pins
        What is installed.
    script
        Its runner, beside this file.
    bars
        How many candles it gets: what it does in some seconds.
    leaves_out
        What of the rule and of our output it does not do.
    """

    name: str
    pins: tuple[str, ...]
    script: str
    bars: int
    leaves_out: str


PEERS = (
    Peer(
        "vectorbt",
        ("vectorbt==1.2.0", "numpy==2.4.6", "pandas==3.1.1", "numba==0.68.1"),
        "peer_vectorbt.py",
        1_000_000,
        f"{_OURS_ONLY}; mid prices with half the spread as slippage; no stop in the entry bar; "
        "no excursions; compiled before",
    ),
    Peer(
        "backtesting",
        ("backtesting==0.6.6", "numpy==2.4.6", "pandas==3.1.1", "bokeh==3.9.2"),
        "peer_backtesting.py",
        100_000,
        f"{_OURS_ONLY}; mid prices with one spread for all bars; levels from the close before the "
        "entry; no excursions",
    ),
    Peer(
        "nautilus_trader",
        ("nautilus_trader==1.221.0", "numpy==2.4.6", "pandas==2.3.3", "pyarrow==26.0.1"),
        "peer_nautilus.py",
        20_000,
        f"{_OURS_ONLY}; fills at bid and ask, but of the close that decides; no excursions. It "
        "has what ours has not: orders, accounts, margin",
    ),
)


class PeerFailed(Exception):
    """A peer cannot be installed or run; says why in one line."""


def rows(candles: CandleColumns, ours: Sequence[Row]) -> list[Row]:
    """Return a row a peer; one that cannot be measured says why.

    Parameters
    ----------
    candles
        What ours was measured on; a peer gets the first of them.
    ours
        Our rows, which get their ratio to each peer.
    """
    found = []
    for peer in PEERS:
        row = _row(peer, candles)
        found.append(row)
        if row["value"] is not None:
            for own in ours:
                own["ratios"][peer.name] = own["value"] / row["value"]
    return found


def _row(peer: Peer, candles: CandleColumns) -> Row:
    name = f"peer: {' '.join(peer.pins)}, the rule alone"
    row: Row = {"name": name, "value": None, "unit": "candles/s", "ratios": {}}
    try:
        found = _measured(peer, candles)
    except PeerFailed as failed:
        return row | {"note": f"not measured: {failed}"}
    rate = found["bars"] / found["seconds"]
    note = f"{found['bars']:,} bars, {found['trades']:,} trades; leaves out: {peer.leaves_out}"
    return row | {"value": rate, "note": note}


def _measured(peer: Peer, candles: CandleColumns) -> Row:
    python = _installed(peer)
    with tempfile.TemporaryDirectory(prefix="manifold-peer-") as place:
        data = Path(place) / "candles.npz"
        np.savez(data, **saved(part_of(candles, 0, peer.bars)))
        # isolated: of this checkout it sees the one file and nothing else
        command = [str(python), "-I", str(HERE / peer.script), str(data)]
        runs = [json.loads(_output(command, 300).splitlines()[-1]) for _ in range(ROUNDS)]
    best: Row = min(runs, key=lambda run: run["seconds"])
    return best


def _installed(peer: Peer) -> Path:
    """Return the interpreter of the peer's environment, made where it is missing or of old pins."""
    place = PLACE / peer.name
    python, stamp = place / "bin" / "python", place / "pins"
    pins = "\n".join((*peer.pins, sys.version.split()[0]))
    if stamp.exists() and stamp.read_text() == pins:
        return python
    print(f"bench: installing {' '.join(peer.pins)} into {place.relative_to(PLACE.parents[1])}")
    shutil.rmtree(place, ignore_errors=True)
    _output([sys.executable, "-m", "venv", str(place)], 120)
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    _output([*pip, *peer.pins], 600)
    stamp.write_text(pins)
    return python


def _output(command: list[str], seconds: float) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as late:
        raise PeerFailed(f"{Path(command[0]).name} took more than {seconds:.0f} s") from late
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()
        raise PeerFailed(said[-1][:200])
    return done.stdout
