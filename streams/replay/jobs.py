"""Inputs of a replay: files or a range of the log, as records or as columns."""

from __future__ import annotations

import asyncio
import json
import os
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from streams.candles.load_report import LoadReport
from streams.candles.series import Series, read_series
from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.core import ENGINE_VERSION
from streams.errors import Fatal
from streams.feeds.load import merge_series
from streams.feeds.writer import bars_of
from streams.kafka.control_topic import active_config, read_control, read_refused_watermarks
from streams.kafka.ranges import Span, spans_of
from streams.kafka.reader import LogReader, LogRecord
from streams.kafka.registry import open_codec
from streams.pipeline.columns import ColumnarReplay, replay_series
from streams.records.codec import Codec, locked_codec
from streams.records.control import ControlLog
from streams.records.log_record import DerivedRecord
from streams.records.topics import CANDLES
from streams.replay.files import control_of, derive
from streams.replay.log_columns import replay_log
from streams.replay.log_records import derive_log
from streams.replay.overlay import overlaid, with_settings
from streams.replay.processes import Share, replay_log_in_processes
from streams.replay.report.data import LogSpan, ReportData, ReportMeta
from streams.replay.report_sink import ReportSink
from streams.replay.tail import record_json
from streams.replay.to_topics import TopicWriter

SHORT_RANGE = 500_000
"""Number of offsets that one process replays in the time that other processes need to start."""


class Job(Protocol):
    """A replay; it can be run once, as records or as columns."""

    candles: int
    signals: int
    refused: Counter[str]

    @property
    def load(self) -> LoadReport | None:
        """The report of reading the files; None without files."""
        ...

    def total(self) -> int | None:
        """Return the amount of work, in the units of progress."""
        ...

    def records(self) -> AsyncIterator[tuple[int, list[DerivedRecord]]]:
        """Yield progress and derived records."""
        ...

    def columns(self) -> Iterator[int]:
        """Run over columns; yield progress."""
        ...

    def report(self, *, interrupted: bool) -> ReportData:
        """Return the report of the output of the columns so far."""
        ...

    def line(self, one: DerivedRecord) -> str:
        """Return a derived record as a line of JSON."""
        ...

    def writer(self, prefix: str, topics: Sequence[str]) -> TopicWriter:
        """Return a writer of derived records under another prefix."""
        ...


@dataclass
class _Job(ABC):
    """Common base of both jobs."""

    from_ms: int | None
    to_ms: int | None
    instruments: tuple[str, ...]
    settings: Mapping[str, str]
    candles: int = field(default=0, init=False)
    signals: int = field(default=0, init=False)
    refused: Counter[str] = field(default_factory=Counter, init=False)
    runtime: Runtime = field(default_factory=Runtime.from_env, init=False)
    sink: ReportSink = field(default_factory=ReportSink, init=False)

    @property
    @abstractmethod
    def codec(self) -> Codec:
        """The schemas."""

    def line(self, one: DerivedRecord) -> str:
        """Return a derived record as a line of JSON."""
        headers = {key: value.decode() for key, value in one.output.headers}
        shown: dict[str, Any] = record_json(
            self.codec, LogRecord(one.record, headers), one.record.topic
        )
        return json.dumps(shown, separators=(",", ":"), ensure_ascii=False)

    def writer(self, prefix: str, topics: Sequence[str]) -> TopicWriter:
        """Return a writer of derived records under another prefix."""
        if prefix == self.runtime.topic_prefix:
            raise Fatal(f"--to-topics {prefix!r} is the prefix of the deployment itself")
        target = replace(self.runtime, topic_prefix=prefix)
        return TopicWriter(target, topics)

    def _report(self, meta: ReportMeta, interrupted: bool) -> ReportData:
        notes = meta.notes
        if interrupted:
            notes = (*notes, "The replay was interrupted; the report is incomplete.")
        changed = tuple(f"{name}={value}" for name, value in self.settings.items())
        for what, count in sorted(self.refused.items()):
            notes = (*notes, f"{count:,} records were refused: {what}.")
        if changed:
            notes = (*notes, f"What if: {', '.join(changed)}.")
        return self.sink.report.finish(
            replace(
                meta,
                notes=notes,
                engines=(ENGINE_VERSION,),
                instruments=self.instruments,
                asked_from_ms=self.from_ms,
                asked_to_ms=self.to_ms,
            )
        )


@dataclass
class FileJob(_Job):
    """A replay of candle files, without a broker."""

    files: tuple[str, ...] = ()
    instrument: str | None = None
    granularity: str | None = None
    _series: dict[str, Series] | None = field(default=None, init=False)
    load: LoadReport = field(default_factory=LoadReport, init=False)
    _locked: Codec = field(default_factory=locked_codec, init=False)

    def __post_init__(self) -> None:
        self.config = with_settings(Config.from_env(), self.settings)

    @property
    def codec(self) -> Codec:
        """The schemas with the ids of the lock file."""
        return self._locked

    def total(self) -> int | None:
        """Return the number of candles; reads the files."""
        return sum(len(series) for series in self._read().values())

    async def records(self) -> AsyncIterator[tuple[int, list[DerivedRecord]]]:
        """Yield progress and derived records."""
        series = self._read()
        first, last = self._span()
        keyed = {one.key: one for one in series.values()}
        chunks = derive(
            self.config,
            bars_of(merge_series(keyed)),
            sorted(series),
            first,
            last,
            self.runtime.topic_partitions,
            self.codec,
        )
        async for derived in chunks:
            yield sum(one.record.topic == "sep.signals" for one in derived), derived

    def columns(self) -> Iterator[int]:
        """Run over columns; yield candles."""
        series = {name: one.columns() for name, one in self._read().items()}
        first, last = self._span()
        control = control_of(self.config, sorted(series), first, last)
        run = ColumnarReplay(control, self.sink)
        for count in replay_series(run, control, series):
            self.candles, self.signals, self.refused = run.candles, run.signals, run.refused
            yield count

    def report(self, *, interrupted: bool) -> ReportData:
        """Return the report of the output of the columns so far."""
        sentence = self.load.refused_sentence()
        meta = ReportMeta(
            source=f"replay of {', '.join(self.files)}",
            config=self.config,
            notes=(f"{sentence}.",) if sentence else (),
        )
        return self._report(meta, interrupted)

    def _span(self) -> tuple[int, int]:
        series = self._read().values()
        first = min(int(one.bars()[0]) for one in series)
        return first, max(int(one.bars()[-1]) for one in series) + self.config.granularity_ms

    def _read(self) -> dict[str, Series]:
        if self._series is not None:
            return self._series
        now_ms = int(time.time() * 1000)
        found = read_series(self.files, self.instrument, self.granularity, self.load, now_ms)
        self.load.require_candles(found)
        series = {}
        for key, one in found.items():
            if key.granularity != self.config.candle_gran:
                continue
            if self.instruments and key.instrument not in self.instruments:
                continue
            one.keep(self._within(one.bars() + self.config.granularity_ms))
            if len(one):
                series[key.instrument] = one
        if not series:
            there = sorted({f"{k.instrument} {k.granularity}" for k in found}) or ["no candles"]
            raise Fatal(
                f"the files hold {', '.join(there)}; nothing matches CANDLE_GRAN="
                f"{self.config.candle_gran} and the requested range and instruments"
            )
        self._series = dict(sorted(series.items()))
        return self._series

    def _within(self, ends: np.ndarray[Any, np.dtype[np.int64]]) -> np.ndarray[Any, Any]:
        inside = np.ones(len(ends), bool)
        if self.from_ms is not None:
            inside &= ends >= self.from_ms
        if self.to_ms is not None:
            inside &= ends <= self.to_ms
        return inside


@dataclass
class LogJob(_Job):
    """A replay of a range of ``md.candles``; 0 processes: chosen by the size of the range."""

    processes: int = 0

    def __post_init__(self) -> None:
        self._codec = asyncio.run(open_codec(self.runtime))
        found = read_control(self.runtime, self._codec)
        if active_config(found) is None:
            raise Fatal("ops.control holds no configuration yet: load candles first")
        read_refused_watermarks(self.runtime, self._codec, found)
        self._control: ControlLog = overlaid(found, self.settings, self.instruments)
        self._spans: list[Span] | None = None

    @property
    def load(self) -> None:
        """None: refused records of the log are in ``dead.letters``."""
        return

    @property
    def codec(self) -> Codec:
        """The schemas of the deployment."""
        return self._codec

    def total(self) -> int | None:
        """Return the number of offsets to read."""
        return sum(span.end - span.start for span in self._range())

    async def records(self) -> AsyncIterator[tuple[int, list[DerivedRecord]]]:
        """Yield progress and derived records."""
        spans, names = self._range(), self.instruments
        async for found in derive_log(self.runtime, self._codec, self._control, spans, names):
            yield found

    def columns(self) -> Iterator[int]:
        """Run over columns; yield offsets."""
        spans, names = self._range(), self.instruments
        processes = min(self.processes or self._processes_for(spans), len(spans))
        if processes > 1:
            shares = [
                Share(self.runtime, self._control, tuple(spans[part::processes]), names)
                for part in range(processes)
            ]
            for done in replay_log_in_processes(shares, self._control, self.sink):
                self.candles += done.candles
                self.signals += done.signals
                self.refused += done.refused
                yield done.offsets
            return
        run = ColumnarReplay(self._control, self.sink)
        for count in replay_log(self.runtime, self._codec, self._control, run, spans, names):
            self.candles, self.signals, self.refused = run.candles, run.signals, run.refused
            yield count

    def report(self, *, interrupted: bool) -> ReportData:
        """Return the report of the output of the columns so far."""
        log: list[LogSpan] = [
            {
                "topic": CANDLES,
                "partition": span.partition,
                "start": span.start,
                "end": span.end,
                "records": span.end - span.start,
            }
            for span in self._range()
        ]
        source = f"replay of md.candles, prefix {self.runtime.topic_prefix or 'none'}"
        config = active_config(self._control)
        return self._report(ReportMeta(source=source, config=config, log=tuple(log)), interrupted)

    def _processes_for(self, spans: Sequence[Span]) -> int:
        offsets = sum(span.end - span.start for span in spans)
        return (os.cpu_count() or 1) if offsets > SHORT_RANGE else 1

    def _range(self) -> list[Span]:
        if self._spans is None:
            with LogReader(self.runtime) as reader:
                self._spans = spans_of(reader, self._codec, self._control, self.from_ms, self.to_ms)
        return self._spans
