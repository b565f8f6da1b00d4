"""A continuous feed: writes each bar when it is due, and continues at the end of the log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain

from streams.candles.columns import SeriesKey
from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.feeds.plan import Fact, FeedPlan
from streams.feeds.survey import survey
from streams.feeds.synthetic import BarArrivals
from streams.feeds.writer import FactWriter, write_feed
from streams.instants import GRANULARITY_MS
from streams.kafka.partitioner import partition_of
from streams.records.codec import Codec
from streams.records.control import UniverseChange
from streams.records.events import Candle

SETTLE_MS = 500
"""Delay after a bar's end until it counts as complete, ms."""

Bar = tuple[int, Sequence[Candle]]
Pace = Callable[[int], None]
"""Waits until a bar is due, given its ``as_of_ms``."""


def unpaced(_: int) -> None:
    """Do not wait: as fast as possible."""


def run_feed(
    runtime: Runtime,
    codec: Codec,
    config: Config,
    instruments: Sequence[str],
    granularity: str,
    arrivals: Iterator[BarArrivals],
    actor: str,
    now_ms: int,
    pace: Pace = unpaced,
    progress: Callable[[int], None] = lambda count: None,
) -> int:
    """Write a feed's bars; return the number of records written.

    A restarted feed continues after the log: for each instrument only newer candles are written.
    Nothing is written before the first bar has begun: a feed started at a weekend waits for the
    opening. A feed replaces the universe; for instruments that it drops it writes watermarks up to
    its start, so that no epoch waits for them.

    Parameters
    ----------
    config
        The settings of this environment.
    arrivals
        The candles that arrive at the end of each bar, ascending.
    actor
        Who declares the universe.
    now_ms
        Wall clock.
    pace
        Waits until a bar is due, given its ``as_of_ms``; first called with the start of the first
        bar.
    progress
        Called with the number of candles written since the last call.
    """
    writer = FactWriter(runtime, codec, config, now_ms, live=pace is not unpaced)
    names = sorted(instruments)
    series = [SeriesKey(name, granularity) for name in names]
    partitions = sorted({partition_of(n.encode(), writer.partitions) for n in names})
    known = survey(runtime, codec, partitions, series, 1 << 62, writer.control, now_ms)
    bars = _newer(arrivals, {key.instrument: known.last_bar_ms(key) for key in series})
    first = next(bars, None)
    if first is None:
        return 0
    length = GRANULARITY_MS[granularity]
    from_ms = first[0] - length
    # the opening watermark has this timestamp, and brokers refuse timestamps in the future
    pace(from_ms)
    writer.refresh_control()
    writer.write(take_over(writer, names, granularity, from_ms, actor))
    plan = FeedPlan(names, granularity, writer.partitions)
    paced = chain([first], bars) if pace is unpaced else _paced(chain([first], bars), pace, writer)
    write_feed(writer, plan, paced, from_ms, progress)
    return writer.written


def take_over(
    writer: FactWriter, names: Sequence[str], granularity: str, from_ms: int, actor: str
) -> list[Fact]:
    """Replace the universe by a feed's instruments; return the watermarks of the dropped ones.

    Parameters
    ----------
    names
        The feed's instruments, sorted.
    from_ms
        Start of its first bar.
    actor
        Who declares the universe.
    """
    before = writer.members(from_ms)
    writer.declare(UniverseChange("replace", tuple(names), from_ms, None), actor)
    dropped = [name for name in before if name not in names]
    farewell = FeedPlan(dropped, granularity, writer.partitions)
    return farewell.closing(from_ms, writer.control.end)


def _newer(arrivals: Iterator[BarArrivals], last_bars: dict[str, int]) -> Iterator[Bar]:
    resume_ms = max(last_bars.values(), default=-1)
    for bar in arrivals:
        kept = [c for c in bar.candles if c.bar_ms > last_bars.get(c.instrument, -1)]
        if kept or (bar.candles == () and bar.as_of_ms > resume_ms):
            yield bar.as_of_ms, kept


def _paced(bars: Iterable[Bar], pace: Pace, writer: FactWriter) -> Iterator[Bar]:
    for bar in bars:
        # a bar is sent when it is complete, not when the producer's buffer is full
        writer.flush()
        pace(bar[0])
        yield bar


def accelerated(speed: float) -> Pace:
    """Return a pace of ``speed`` event seconds per second, from the start of the first bar."""
    started: list[tuple[int, float]] = []

    def wait(as_of_ms: int) -> None:
        if not started:
            started.append((as_of_ms, time.monotonic()))
        origin_ms, at = started[0]
        time.sleep(max(0.0, at + (as_of_ms - origin_ms) / 1000 / speed - time.monotonic()))

    return wait


def wall_clock(require: Callable[[], None], settle_ms: int = SETTLE_MS) -> Pace:
    """Return the pace of the wall clock: history immediately, each later bar when it has ended.

    Parameters
    ----------
    require
        Called when a bar is due and during the wait; raises when the clock is not reliable.
    settle_ms
        Delay between a bar's end and the time when it is due, ms.
    """

    def wait(as_of_ms: int) -> None:
        # in steps, because a suspended machine resumes at another time
        while (left_s := (as_of_ms + settle_ms) / 1000 - time.time()) > 0:
            time.sleep(min(left_s, 1.0))
            require()
        # after reading the clock: a clock set meanwhile makes no bar due
        require()

    return wait
