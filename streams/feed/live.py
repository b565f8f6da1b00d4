"""A feed that goes on: writes each bar when it is due, and picks up where the log ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from streams.codec import Codec
from streams.control import UniverseChange
from streams.events import GRANULARITY_MS, Candle
from streams.feed.partitioner import partition_of
from streams.feed.plan import FeedPlan
from streams.feed.series import SeriesKey
from streams.feed.survey import survey
from streams.feed.synthetic import BarArrivals
from streams.feed.writer import FactWriter, write_feed
from streams.settings import Config, Runtime

Bar = tuple[int, Sequence[Candle]]


def run_feed(
    runtime: Runtime,
    codec: Codec,
    config: Config,
    instruments: Sequence[str],
    granularity: str,
    arrivals: Iterator[BarArrivals],
    actor: str,
    now_ms: int,
    speed: float = 0.0,
    progress: Callable[[int], None] = lambda count: None,
) -> int:
    """Write a feed's bars; return the number of records written.

    A feed started again goes on after the log: of each instrument only what is newer is written.
    A feed replaces the universe; for instruments that it drops, it says up to its start that
    nothing more of them is to come, so that no epoch waits for them.

    Parameters
    ----------
    arrivals
        What arrives at the end of each bar, ascending.
    actor
        Who declares the universe.
    now_ms
        Wall clock.
    speed
        Event seconds per second; 0 writes as fast as possible.
    progress
        Called with the number of candles written since the last call.
    """
    writer = FactWriter(runtime, codec, config, now_ms)
    names = sorted(instruments)
    series = [SeriesKey(name, granularity) for name in names]
    partitions = sorted({partition_of(n.encode(), writer.partitions) for n in names})
    known = survey(runtime, codec, partitions, series, since_ms=1 << 62)
    bars = _newer(arrivals, {key.instrument: known.last_bar_ms(key) for key in series})
    first = next(bars, None)
    if first is None:
        return 0
    length = GRANULARITY_MS[granularity]
    from_ms = first[0] - length
    before = writer.members(from_ms)
    writer.declare(UniverseChange("replace", tuple(names), from_ms, None), actor)
    dropped = [name for name in before if name not in names]
    if dropped:
        farewell = FeedPlan(dropped, granularity, writer.partitions)
        writer.write(farewell.closing(from_ms, writer.control.end))
    plan = FeedPlan(names, granularity, writer.partitions)
    paced = _paced(_chained(first, bars), speed, writer.flush_soon)
    write_feed(writer, plan, paced, from_ms, progress)
    return writer.written


def _newer(arrivals: Iterator[BarArrivals], last_bars: dict[str, int]) -> Iterator[Bar]:
    resume_ms = max(last_bars.values(), default=-1)
    for bar in arrivals:
        kept = [c for c in bar.candles if c.bar_ms > last_bars.get(c.instrument, -1)]
        if kept or (bar.candles == () and bar.as_of_ms > resume_ms):
            yield bar.as_of_ms, kept


def _chained(first: Bar, rest: Iterator[Bar]) -> Iterator[Bar]:
    yield first
    yield from rest


def _paced(bars: Iterator[Bar], speed: float, before_wait: Callable[[], None]) -> Iterator[Bar]:
    if not speed:
        yield from bars
        return
    started, origin_ms = time.monotonic(), None
    for as_of_ms, candles in bars:
        origin_ms = as_of_ms if origin_ms is None else origin_ms
        due = started + (as_of_ms - origin_ms) / 1000 / speed
        before_wait()
        time.sleep(max(0.0, due - time.monotonic()))
        yield as_of_ms, candles
