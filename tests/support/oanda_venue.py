"""A test broker in a market week of the past, and what its candles are."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from streams.instants import GRANULARITY_MS
from streams.records.events import Candle, Ohlc
from tests.support.v20 import Handle, V20Process
from tests.support.v20.amounts import parse_time

MONDAY = "2024-03-04T12:00:00Z"
MONDAY_MS = 1_709_553_600_000


def venue(start: str = MONDAY, **options: Any) -> V20Process:
    """Return a broker whose clock, its ``Date`` included, began at ``start`` just now.

    The market is open then, on whatever day the tests run; the machine's clock is years off.
    """
    return V20Process(start=start, heartbeat_sec=0.5, **options).start()


def candles_of(
    broker: Handle, instruments: Sequence[str], granularity: str, from_ms: int
) -> dict[tuple[str, int], Candle]:
    """Return the complete candles that the broker gives now, by instrument and bar, in order."""
    found = {}
    for name in instruments:
        start_ms, more = from_ms, True
        while more:
            status, answer = broker.api(
                "GET",
                f"/instruments/{name}/candles?price=BA&granularity={granularity}&count=5000"
                f"&from={start_ms / 1000:.3f}",
            )
            assert status == 200, answer
            for given in answer["candles"]:
                if given["complete"]:
                    candle = _candle(name, granularity, given)
                    found[name, candle.bar_ms] = candle
                    start_ms = candle.as_of_ms
            more = len(answer["candles"]) == 5000
    return found


def require_candles(
    broker: Handle,
    found: Sequence[Candle],
    instruments: Sequence[str],
    granularity: str,
    until_ms: int | None = None,
) -> None:
    """Assert that a log's candles are the broker's: each once, in order, and none left out.

    Parameters
    ----------
    found
        All that the log holds, those of an instrument in its order.
    until_ms
        Up to which end none may be missing; each instrument's last one by default.
    """
    assert len({(c.instrument, c.bar_ms) for c in found}) == len(found), "one is there twice"
    theirs = candles_of(broker, instruments, granularity, min(c.bar_ms for c in found))
    for name in instruments:
        mine = [c for c in found if c.instrument == name]
        end_ms = max(mine[-1].as_of_ms, until_ms or 0)
        wanted = [
            c
            for c in theirs.values()
            if c.instrument == name and mine[0].bar_ms <= c.bar_ms and c.as_of_ms <= end_ms
        ]
        assert mine == wanted, f"{name}: {len(mine)} in the log, {len(wanted)} at the broker"


def _candle(name: str, granularity: str, given: dict[str, Any]) -> Candle:
    bar_ms = parse_time(given["time"]) // 1_000_000
    bid, ask = (Ohlc(*(float(given[s][p]) for p in "ohlc")) for s in ("bid", "ask"))
    # not the product's rule: the mean of fractions is rounded once, too
    means = ((Fraction(given["bid"][p]) + Fraction(given["ask"][p])) / 2 for p in "ohlc")
    mid = Ohlc(*map(float, means))
    end_ms = bar_ms + GRANULARITY_MS[granularity]
    return Candle(name, granularity, bar_ms, end_ms, mid, bid, ask, True, given["volume"], "oanda")
