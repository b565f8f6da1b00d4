"""A test broker in a market week of the past, and what its candles are."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from streams.events import GRANULARITY_MS, Candle, Ohlc
from tests.v20 import V20Process
from tests.v20.amounts import parse_time

MONDAY = "2024-03-04T12:00:00Z"
MONDAY_MS = 1_709_553_600_000


def venue(start: str = MONDAY, **options: Any) -> V20Process:
    """Return a broker whose clock, its ``Date`` included, began at ``start`` just now.

    The market is open then, on whatever day the tests run; the machine's clock is years off.
    """
    broker = V20Process(start=start, heartbeat_sec=0.5, **options).start()
    _tell_time(broker)
    return broker


def advance(broker: V20Process, seconds: float) -> None:
    """Move the broker's clock, its ``Date`` included."""
    broker.advance(seconds)
    for fault in broker.faults():
        if fault["kind"] == "clock_skew":
            broker.control("DELETE", f"/faults/{fault['id']}")
    _tell_time(broker)


def _tell_time(broker: V20Process) -> None:
    broker.fault("clock_skew", seconds=now_ms(broker) / 1000 - time.time())


def now_ms(broker: V20Process) -> int:
    """Return the broker's time."""
    return parse_time(broker.state()["time"]) // 1_000_000


def candles_of(
    broker: V20Process, instruments: Sequence[str], granularity: str, from_ms: int
) -> dict[tuple[str, int], Candle]:
    """Return the complete candles that the broker gives now, by instrument and bar."""
    found = {}
    for name in instruments:
        status, answer = broker.api(
            "GET",
            f"/instruments/{name}/candles?price=MBA&granularity={granularity}&count=5000"
            f"&from={from_ms / 1000:.3f}",
        )
        assert status == 200, answer
        for given in answer["candles"]:
            if given["complete"]:
                bar_ms = parse_time(given["time"]) // 1_000_000
                found[name, bar_ms] = Candle(
                    name,
                    granularity,
                    bar_ms,
                    bar_ms + GRANULARITY_MS[granularity],
                    *(_ohlc(given[side]) for side in ("mid", "bid", "ask")),
                    False,
                    given["volume"],
                    "oanda",
                )
    return found


def _ohlc(given: dict[str, str]) -> Ohlc:
    return Ohlc(*(float(given[name]) for name in "ohlc"))
