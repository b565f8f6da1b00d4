"""Inputs of a truncation test: candle files, or ``md.candles`` of a log."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

from streams.candles.calendar import calendar_of
from streams.candles.columns import SeriesKey
from streams.candles.series import Series
from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.errors import Fatal
from streams.feeds.load import merge_series
from streams.feeds.plan import FeedPlan
from streams.feeds.writer import bars_of
from streams.instants import GRANULARITY_MS
from streams.kafka.control_topic import read_control, read_refused_watermarks
from streams.kafka.decoding import candle_event_of
from streams.kafka.reader import LogReader
from streams.pipeline.chain import make_chain
from streams.pipeline.memory import Derivation
from streams.records.codec import Codec, locked_codec
from streams.records.control import ControlLog
from streams.records.events import Candle, Watermark
from streams.records.log_record import SourceRecord
from streams.records.topics import CANDLES
from streams.replay.files import Bars, control_of, source_records
from streams.replay.verify.lookahead import Subject

FIRST_RECORDS = 2
"""Number of records at the start of ``ops.control``: a configuration and a universe."""

Progress = Callable[[str, int, int], None]


def subject_of_series(found: dict[SeriesKey, Series], config: Config, partitions: int) -> Subject:
    """Return the subject for a load of these candles.

    Raises
    ------
    Fatal
        There are no candles of CANDLE_GRAN.
    """
    series = {key: one for key, one in found.items() if key.granularity == config.candle_gran}
    if not series:
        there = sorted({key.granularity for key in found}) or ["no candles"]
        raise Fatal(f"the files hold {', '.join(there)}, CANDLE_GRAN is {config.candle_gran}")
    names = tuple(sorted(key.instrument for key in series))
    from_ms = min(int(one.bars()[0]) for one in series.values())
    until_ms = max(int(one.bars()[-1]) for one in series.values()) + config.granularity_ms
    return subject_of_bars(
        bars_of(merge_series(series)), config, names, from_ms, until_ms, partitions
    )


def subject_of_bars(
    bars: Bars,
    config: Config,
    instruments: Sequence[str],
    from_ms: int,
    until_ms: int,
    partitions: int,
) -> Subject:
    """Return the subject for candles in memory; parameters as in
    ``streams.replay.files.derive``."""
    codec = locked_codec()
    control = control_of(config, instruments, from_ms, until_ms)
    plan = FeedPlan(instruments, config.candle_gran, partitions)
    records = list(source_records(plan, bars, from_ms, control.end, codec))
    return _subject(records, codec, control, config)


def subject_of_log(
    runtime: Runtime, codec: Codec, progress: Progress = lambda what, done, total: None
) -> Subject:
    """Return the subject for a deployment's log, read to its end.

    Raises
    ------
    Fatal
        A topic is missing, or the log has no candles or no configuration.
    Recoverable
        No broker answers.
    """
    found: list[list[SourceRecord]] = []
    with LogReader(runtime) as reader:
        bounds = reader.all_bounds(CANDLES, reader.partitions(CANDLES))
        total, done = sum(high - low for low, high in bounds.values()), 0
        for partition, (low, high) in bounds.items():
            found.append([])
            for batch in reader.read(CANDLES, partition, low, high):
                found[-1] += [item.record for item in batch]
                progress(f"reading {CANDLES}", done + batch[-1].record.offset + 1 - low, total)
            done += high - low
    # read after the candles, so that it contains the control offsets of their watermarks
    control = read_refused_watermarks(runtime, codec, read_control(runtime, codec))
    config = control.state(control.end).config
    if config is None:
        raise Fatal("the log holds no configuration yet: nothing has been derived")
    stamped = (at_event_time(records, codec) for records in found)
    records = list(heapq.merge(*stamped, key=lambda record: record.timestamp_ms))
    return _subject(records, codec, control, config)


def _subject(
    records: list[SourceRecord], codec: Codec, control: ControlLog, config: Config
) -> Subject:
    known_ms, ends, names = known_times(records, codec, config.candle_gran, control)
    if not ends:
        raise Fatal(f"there are no candles of {config.candle_gran}")

    def derivation() -> Derivation:
        made = Derivation(keeps_history=_restarts_runs(control))
        made.use(make_chain(codec, control, history=made.history(codec)).stages)
        return made

    bar_ms = GRANULARITY_MS[config.candle_gran]
    changes = len(control.records) > FIRST_RECORDS
    calendar = calendar_of(config)
    return Subject(records, known_ms, derivation, changes, ends, bar_ms, names, calendar)


def at_event_time(records: Sequence[SourceRecord], codec: Codec) -> list[SourceRecord]:
    """Return the records with the time stamp that feeds give them, ``as_of_ms``.

    Other producers may use the wall clock, so that a record would be known later than its output,
    whose time stamp is that of the event. The stages compute nothing from a valid time stamp.
    """
    made = []
    for record in records:
        event = candle_event_of(codec, record)
        made.append(record if event is None else record._replace(timestamp_ms=event.as_of_ms))
    return made


def known_times(
    records: Sequence[SourceRecord], codec: Codec, granularity: str, control: ControlLog
) -> tuple[list[int], list[int], tuple[str, ...]]:
    """Return the known time of each record, the ends of bars, and the instruments.

    A candle or watermark after a later watermark for its instrument (also one that ends the wait
    for it), or after a newer candle of it, is known when that one was
    (``streams.replay.verify.lookahead``). A record that the stages refuse makes no other known
    later, and no bar end at the end of it.
    """
    newest: dict[tuple[int, str, str], int] = {}
    known_ms, ends, names = [], set(), set()
    for record in records:
        known = record.timestamp_ms
        event = candle_event_of(codec, record)
        if isinstance(event, Watermark):
            if control.refuses(record.place, event):
                known_ms.append(known)
                continue
            names_of = (*event.instruments, *event.not_waited_for)
            places = [(record.partition, name, event.granularity) for name in names_of]
            known = max(known, *(newest.get(at, -1) for at in places), -1)
            newest.update(dict.fromkeys(places, known))
        elif isinstance(event, Candle):
            at = (record.partition, event.instrument, event.granularity)
            known = newest[at] = max(newest.get(at, -1), known)
            if event.granularity == granularity:
                ends.add(event.as_of_ms)
                names.add(event.instrument)
        known_ms.append(known)
    return known_ms, sorted(ends), tuple(sorted(names))


def _restarts_runs(control: ControlLog) -> bool:
    kinds = [record.kind for _, record in control.records]
    return "params" in kinds or kinds.count("config") > 1
