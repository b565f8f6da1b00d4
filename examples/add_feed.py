"""An example feed: ticks on standard input become one-minute candles in ``md.candles``.

    printf '%s\n' '2024-03-04T10:00:01Z EUR_USD 1.08431 1.08440' ... | \
        python examples/add_feed.py EUR_USD

``run_feed`` declares the instruments, continues after the last candle in the log, and writes the
watermarks up to which all candles are written. A bar is yielded only when it is complete; an
instrument without a tick in a minute has no candle for it.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import datetime

from streams.candles.mid_price import mid_prices
from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.feeds.live import run_feed
from streams.feeds.synthetic import BarArrivals
from streams.kafka.registry import open_codec
from streams.records.events import Candle, Ohlc

MINUTE_MS = 60_000
Tick = tuple[float, float]


def bars(lines: Iterable[str], names: tuple[str, ...]) -> Iterator[BarArrivals]:
    """Yield every complete minute, with a candle for each instrument that had a tick in it."""
    start_ms, ticks = -1, dict[str, list[Tick]]()
    for line in lines:
        when, name, bid, ask = line.split()
        at_ms = int(datetime.fromisoformat(when).timestamp() * 1000)
        bar_ms = at_ms - at_ms % MINUTE_MS
        for begin_ms in range(start_ms, bar_ms, MINUTE_MS) if start_ms >= 0 else ():
            yield complete(begin_ms, ticks if begin_ms == start_ms else {})
        if bar_ms > start_ms:
            start_ms, ticks = bar_ms, {}
        if name in names:
            ticks.setdefault(name, []).append((float(bid), float(ask)))


def complete(bar_ms: int, ticks: dict[str, list[Tick]]) -> BarArrivals:
    """Return a minute's candles."""
    end_ms = bar_ms + MINUTE_MS
    candles = []
    for name, found in sorted(ticks.items()):
        bid, ask = (ohlc([tick[side] for tick in found]) for side in (0, 1))
        mid = mid_prices(bid, ask)
        candles.append(
            Candle(name, "M1", bar_ms, end_ms, mid, bid, ask, True, len(found), "file", True)
        )
    return BarArrivals(end_ms, tuple(candles))


def ohlc(prices: list[float]) -> Ohlc:
    return Ohlc(prices[0], max(prices), min(prices), prices[-1])


def main(names: tuple[str, ...]) -> None:
    runtime = Runtime.from_env()
    written = run_feed(
        runtime,
        asyncio.run(open_codec(runtime)),
        Config.from_env(),
        names,
        "M1",
        bars(sys.stdin, names),
        actor="example feed",
        now_ms=int(time.time() * 1000),
    )
    print(f"{written:,} records written")


if __name__ == "__main__":
    main(tuple(sys.argv[1:]) or sys.exit(__doc__))
