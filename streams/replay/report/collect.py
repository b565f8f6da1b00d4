"""The report of a deployment's topics: committed records of a time range, read once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from streams.config.runtime import Runtime
from streams.errors import Fatal
from streams.kafka.control_topic import active_config, read_control
from streams.kafka.decoding import event_of
from streams.kafka.reader import LogReader, LogRecord
from streams.records.codec import Codec
from streams.records.control import ControlLog
from streams.records.events import GateDecision, SimulatedTrade, Summary, Watermark, Weights
from streams.records.topics import CONTROL, GATES, SUMMARIES, TRADES, WEIGHTS
from streams.replay.report.accumulate import ReportAccumulator
from streams.replay.report.data import LogSpan, ReportData, ReportMeta

READ = (TRADES, SUMMARIES, GATES, WEIGHTS)

Progress = Callable[[str, int, int], None]


class TimeRange(NamedTuple):
    """A range of event time, and instruments.

    Attributes
    ----------
    from_ms, to_ms
        Limits of ``as_of_ms``; both inclusive, None for no limit.
    instruments
        Only these; empty for all.
    """

    from_ms: int | None = None
    to_ms: int | None = None
    instruments: tuple[str, ...] = ()

    def includes(self, event: Any) -> bool:
        """Return whether the selection includes a record with this time and instrument."""
        if self.from_ms is not None and event.as_of_ms < self.from_ms:
            return False
        if self.to_ms is not None and event.as_of_ms > self.to_ms:
            return False
        name = getattr(event, "instrument", None)
        return not self.instruments or name is None or name in self.instruments


def collect_report(
    runtime: Runtime,
    codec: Codec,
    chosen: TimeRange,
    progress: Progress = lambda topic, done, total: None,
) -> ReportData:
    """Read the topics of a deployment and return their report.

    Parameters
    ----------
    runtime, codec
        The deployment and its schemas.
    chosen
        Selection of the records.
    progress
        Called with a topic, the number of offsets read, and their total.

    Raises
    ------
    Fatal
        A topic does not exist, or a requested instrument is in none of them.
    Recoverable
        No broker answers.
    """
    control = read_control(runtime, codec)
    reading = _Reading(codec, chosen)
    with LogReader(runtime) as reader:
        for topic in READ:
            reading.topic(reader, topic, progress)
    missing = sorted(set(chosen.instruments) - reading.seen)
    if missing:
        known = ", ".join(sorted(reading.seen)) or "none"
        raise Fatal(f"the log has no records of {', '.join(missing)}; its instruments: {known}")
    notes = []
    if reading.unreadable:
        notes.append(f"{reading.unreadable:,} records could not be decoded and are omitted.")
    notes += [
        f"{topic} has no records in this time range." for topic in READ if not reading.found[topic]
    ]
    span: LogSpan = {
        "topic": CONTROL,
        "partition": 0,
        "start": 0,
        "end": control.end,
        "records": len(control.records),
    }
    meta = ReportMeta(
        source=f"live topics, prefix {runtime.topic_prefix or 'none'}",
        config=active_config(control),
        instruments=chosen.instruments,
        asked_from_ms=chosen.from_ms,
        asked_to_ms=chosen.to_ms,
        engines=tuple(reading.engines),
        params=_params(control),
        log=(*reading.spans, span),
        notes=tuple(notes),
    )
    return reading.accumulator.finish(meta)


class _Reading:
    """The records read so far."""

    def __init__(self, codec: Codec, chosen: TimeRange) -> None:
        self._codec, self._wanted = codec, chosen
        self.accumulator = ReportAccumulator()
        self.spans: list[LogSpan] = []
        self.engines: dict[str, None] = {}
        self.seen: set[str] = set()
        self.found = dict.fromkeys(READ, 0)
        self.unreadable = 0

    def topic(self, reader: LogReader, topic: str, progress: Progress) -> None:
        bounds = reader.all_bounds(topic, reader.partitions(topic))
        spans = {p: self._span(reader, topic, p, *bounds[p]) for p in bounds}
        total, done = sum(end - start for start, end in spans.values()), 0
        progress(topic, 0, total)
        for partition, (start, end) in spans.items():
            records = 0
            for batch in reader.read(topic, partition, start, end):
                for found in batch:
                    records += self._take(found)
                progress(topic, done + batch[-1].record.offset + 1 - start, total)
            done += end - start
            progress(topic, done, total)
            self.found[topic] += records
            self.spans.append(
                {
                    "topic": topic,
                    "partition": partition,
                    "start": start,
                    "end": end,
                    "records": records,
                }
            )

    def _span(
        self, reader: LogReader, topic: str, partition: int, low: int, high: int
    ) -> tuple[int, int]:
        """Return the offsets that can contain selected records.

        The first record of a time is found exactly. The last one is found only in topics ordered by
        time, such as the epochs: in other topics an instrument that was loaded later follows.
        """
        start, end = low, high
        if self._wanted.from_ms is not None and high > low:
            start = max(low, reader.offset_at(topic, partition, self._wanted.from_ms))
        if self._wanted.to_ms is not None and topic == WEIGHTS and high > low:
            end = min(high, reader.offset_at(topic, partition, self._wanted.to_ms + 1))
        return start, max(start, end)

    def _take(self, found: LogRecord) -> int:
        event, headers = event_of(self._codec, found.record), found.headers
        if event is None:
            self.unreadable += 1
            return 0
        if isinstance(event, Watermark):
            return 0
        if not isinstance(event, (GateDecision, Weights, SimulatedTrade, Summary)):
            return 0
        if isinstance(event, Weights):
            event = self._entries(event)
        else:
            self.seen.add(event.instrument)
        if not self._wanted.includes(event):
            return 0
        if "engine" in headers:
            self.engines[headers["engine"]] = None
        self.accumulator.add_event(event)
        return 1

    def _entries(self, event: Weights) -> Weights:
        """Return the epoch with the selected instruments only."""
        self.seen.update(event.universe)
        if not self._wanted.instruments:
            return event
        return event._replace(
            universe=tuple(n for n in event.universe if n in self._wanted.instruments),
            entries=tuple(e for e in event.entries if e.instrument in self._wanted.instruments),
        )


def _params(control: ControlLog) -> tuple[tuple[str, str], ...]:
    """Return the parameter records in force: the last one of each instrument."""
    found: dict[str, str] = {}
    for _, record in control.records:
        if record.kind == "params":
            found[record.instrument or ""] = record.value
    return tuple(sorted(found.items()))
