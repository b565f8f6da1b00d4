"""Other backtesters on our candles, each in a virtual environment of its own under build/peers."""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from streams.candles.columns import CandleColumns
from tests.perf.backtest_columns import part_of, saved
from tests.perf.peer_environment import PeerFailed, installed, output
from tests.perf.rows import ROUNDS, Row, row

HERE = Path(__file__).resolve().parent
MEASURE = (
    f"candles / seconds of its run, one core, median of {ROUNDS} processes; imports, reading of "
    "the candles and compiling are not in it"
)
_OURS_ONLY = "no guards, sessions, rolling summaries, floors or gate"


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
        "has what ours has not: orders, accounts, margin; the newest release for Python 3.11",
    ),
)


def rows(candles: CandleColumns, ours: Row) -> list[Row]:
    """Return a row a peer; one that cannot be measured says why.

    Parameters
    ----------
    candles
        What ours was measured on; a peer gets the first of them.
    ours
        Our row of the same rule, which gets its ratio to each peer.
    """
    found = []
    for peer in PEERS:
        theirs = _row(peer, candles)
        found.append(theirs)
        if theirs["value"] is not None:
            ours["ratios"][peer.name] = ours["value"] / theirs["value"]
    return found


def _row(peer: Peer, candles: CandleColumns) -> Row:
    key, name = f"backtest.{peer.name}", f"peer: {peer.pins[0]}, the rule alone"
    try:
        runs = _measured(peer, candles)
    except PeerFailed as failed:
        return row(key, name, None, "candles/s", MEASURE, note=f"not measured: {failed}")
    rate = statistics.median(run["bars"] / run["seconds"] for run in runs)
    note = f"the first {runs[0]['bars']:,} candles, {runs[0]['trades']:,} trades; "
    note += f"{peer.leaves_out}; with {', '.join(peer.pins[1:])}"
    return row(key, name, rate, "candles/s", MEASURE, note=note)


def _measured(peer: Peer, candles: CandleColumns) -> list[Row]:
    python = installed(peer.name, peer.pins)
    with tempfile.TemporaryDirectory(prefix="manifold-peer-") as place:
        data = Path(place) / "candles.npz"
        np.savez(data, **saved(part_of(candles, 0, peer.bars)))
        # isolated: of this checkout it sees the one file and nothing else
        command = [str(python), "-I", str(HERE / peer.script), str(data)]
        return [json.loads(output(command, 300).splitlines()[-1]) for _ in range(ROUNDS)]
