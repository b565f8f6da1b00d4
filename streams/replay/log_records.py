"""A range of ``md.candles`` record by record, through the stages as in the worker.

Records are processed in windows of event time that depend on the log alone, so that the order of
the output does not depend on how the log was read.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence

from streams.config.runtime import Runtime
from streams.kafka.ranges import Span
from streams.kafka.reader import LogReader
from streams.pipeline.chain import make_chain
from streams.pipeline.memory import Derivation
from streams.records.codec import Codec, DecodeError
from streams.records.control import ControlLog
from streams.records.events import WATERMARK_KEY, Watermark
from streams.records.log_record import DerivedRecord, SourceRecord
from streams.records.topics import CANDLES

WINDOW_MS = 3_600_000


async def derive_log(
    runtime: Runtime,
    codec: Codec,
    control: ControlLog,
    spans: Sequence[Span],
    instruments: Sequence[str] = (),
) -> AsyncIterator[tuple[int, list[DerivedRecord]]]:
    """Yield the number of records read, and everything derived from them.

    Parameters
    ----------
    control
        ``ops.control``, read to its end.
    spans
        What to read of each partition.
    instruments
        Only these; empty for all.

    Raises
    ------
    Recoverable
        No broker answers.
    """
    changes = sum(record.kind in ("config", "params") for _, record in control.records)
    derivation = Derivation(keeps_history=changes > 1)
    derivation.use(make_chain(codec, control, history=derivation.history(codec)).stages)
    readers = [LogReader(runtime) for _ in spans]
    try:
        partitions = [
            _Partition(codec, span, _records(reader, codec, span, instruments))
            for span, reader in zip(spans, readers, strict=True)
        ]
        while True:
            windows = [p.window for p in partitions if p.window is not None]
            if not windows:
                return
            taken = [record for p in partitions for record in p.take(min(windows))]
            yield len(taken), await derivation.feed(taken)
    finally:
        for reader in readers:
            reader.close()


class _Partition:
    """The records of one partition, by windows of event time."""

    def __init__(self, codec: Codec, span: Span, records: Iterator[SourceRecord]) -> None:
        self._records = records
        self._reached_ms = -1
        self._next: SourceRecord | None = None
        if span.opening is not None:
            value = codec.encode(CANDLES, span.opening)
            at_ms = span.opening.as_of_ms
            self._next = SourceRecord(
                CANDLES, span.partition, span.start - 1, at_ms, WATERMARK_KEY, value
            )
            self._reached_ms = at_ms
        else:
            self._advance()

    def _advance(self) -> None:
        self._next = next(self._records, None)
        if self._next is not None:
            # late records belong to the window in which they arrived
            self._reached_ms = max(self._reached_ms, self._next.timestamp_ms)

    @property
    def window(self) -> int | None:
        """Number of the window of the next record; None at the end."""
        return None if self._next is None else self._reached_ms // WINDOW_MS

    def take(self, window: int) -> list[SourceRecord]:
        """Return the records up to the end of a window."""
        taken: list[SourceRecord] = []
        while self._next is not None and self.window is not None and self.window <= window:
            taken.append(self._next)
            self._advance()
        return taken


def _records(
    reader: LogReader, codec: Codec, span: Span, instruments: Sequence[str]
) -> Iterator[SourceRecord]:
    wanted = {name.encode() for name in instruments}
    for batch in reader.read(CANDLES, span.partition, span.start, span.end):
        for found in batch:
            record = found.record
            if not wanted or record.key in wanted:
                yield record
            elif record.key == WATERMARK_KEY:
                yield _narrowed(codec, record, instruments)


def _narrowed(codec: Codec, record: SourceRecord, instruments: Sequence[str]) -> SourceRecord:
    """Return a watermark restricted to the selected instruments; other events unchanged."""
    try:
        event = codec.decode(CANDLES, record.value)
    except DecodeError:
        return record
    if not isinstance(event, Watermark):
        return record
    kept = tuple(name for name in event.instruments if name in instruments)
    return record._replace(value=codec.encode(CANDLES, event._replace(instruments=kept)))
