"""Load candle files into the log: newer candles only, merged by time, each once."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping

import numpy as np

from streams.candles.columns import SeriesKey
from streams.candles.load_report import LoadReport, Progress, no_progress
from streams.candles.series import Series
from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.feeds.plan import FeedPlan
from streams.feeds.survey import Survey, survey
from streams.feeds.writer import FactWriter, bars_of, write_feed
from streams.instants import GRANULARITY_MS
from streams.kafka.partitioner import partition_of
from streams.records.codec import Codec
from streams.records.control import UniverseChange
from streams.records.events import Candle


def load_series(
    runtime: Runtime,
    codec: Codec,
    config: Config,
    series: dict[SeriesKey, Series],
    report: LoadReport,
    now_ms: int,
    progress: Progress = no_progress,
) -> None:
    """Write the candles that are newer than the log; a repeated load writes nothing.

    Raises
    ------
    Fatal, Recoverable
        As ``FactWriter`` and ``survey``.
    """
    if not series:
        return
    writer = FactWriter(runtime, codec, config, now_ms)
    since_ms = min(int(one.bars()[0]) for one in series.values())
    partitions = {partition_of(key.instrument.encode(), writer.partitions) for key in series}
    looked = [0]

    def looking(count: int) -> None:
        looked[0] += count
        progress("looking at the log", looked[0], None)

    known = survey(
        *(runtime, codec, sorted(partitions), series, since_ms, writer.control, now_ms),
        progress=looking,
    )
    ends = {key: int(one.bars()[-1]) for key, one in series.items()}
    for key in sorted(series):
        _only_newer(series[key], known, report)
    for granularity in sorted({key.granularity for key in series}):
        chosen = {key: one for key, one in series.items() if key.granularity == granularity}
        _load_granularity(writer, chosen, ends, known, report, progress)


def _only_newer(one: Series, known: Survey, report: LoadReport) -> None:
    bars = one.bars()
    last_bar_ms = known.last_bar_ms(one.key)
    newer = bars > last_bar_ms
    if newer.all():
        return
    logged_bars, logged_digests = known.series[one.key].sorted()
    place = np.minimum(np.searchsorted(logged_bars, bars), len(logged_bars) - 1)
    there = ~newer & (logged_bars[place] == bars)
    same = there & (logged_digests[place] == one.digests())
    report.already_there += int(same.sum())
    report.refused += one.refuse(
        there & ~same, "conflict", "the log holds this bar with other numbers"
    )
    report.refused += one.refuse(
        ~newer & ~there,
        "out_of_order",
        f"the log is past this bar: its last of {one.key.instrument} starts at {last_bar_ms}",
    )
    one.keep(newer)


def _load_granularity(
    writer: FactWriter,
    series: dict[SeriesKey, Series],
    ends: dict[SeriesKey, int],
    known: Survey,
    report: LoadReport,
    progress: Progress,
) -> None:
    new = {key: one for key, one in series.items() if len(one)}
    length = GRANULARITY_MS[next(iter(series)).granularity]
    granularity = next(iter(series)).granularity
    before = writer.written
    total = sum(len(one) for one in new.values())
    if new:
        names = sorted(key.instrument for key in new)
        from_ms = min(int(one.bars()[0]) for one in new.values())
        until_ms = max(int(one.bars()[-1]) for one in new.values()) + length
        if granularity == writer.config.candle_gran:
            change = UniverseChange("add", tuple(names), from_ms, until_ms)
            writer.declare(change, "manifold load")
        done = [0]

        def wrote(count: int) -> None:
            done[0] += count
            progress(f"writing {granularity}", done[0], total)

        plan = FeedPlan(names, granularity, writer.partitions)
        write_feed(writer, plan, bars_of(merge_series(new)), from_ms, wrote)
    else:
        _complete(writer, series, ends, known, granularity, length)
    report.written += total
    report.watermarks += writer.written - before - total


def merge_series(series: Mapping[SeriesKey, Series]) -> Iterator[Candle]:
    """Yield the candles of all series by end time, ties by instrument."""
    return heapq.merge(
        *(one.candles() for one in series.values()), key=lambda c: (c.as_of_ms, c.instrument)
    )


def _complete(
    writer: FactWriter,
    series: dict[SeriesKey, Series],
    ends: dict[SeriesKey, int],
    known: Survey,
    granularity: str,
    length: int,
) -> None:
    """Write the closing watermarks that an interrupted load did not write."""
    short = [
        key.instrument
        for key in series
        if known.last_bar_ms(key) == ends[key]
        and known.watermark_ms.get(key, -1) < ends[key] + length
    ]
    if short:
        plan = FeedPlan(short, granularity, writer.partitions)
        last_ms = max(ends[key] for key in series if key.instrument in short) + length
        writer.write(plan.closing(last_ms, writer.control.end))
        writer.flush()
