"""The offset range of ``md.candles`` that a replay reads, and the state at its start."""

from __future__ import annotations

from typing import NamedTuple

from streams.errors import Fatal
from streams.kafka.decoding import candle_event_of
from streams.kafka.reader import LogReader
from streams.records.codec import Codec
from streams.records.control import ControlLog
from streams.records.events import WATERMARK_KEY, Watermark
from streams.records.topics import CANDLES


class Span(NamedTuple):
    """Offsets ``[start, end)`` of one partition.

    Attributes
    ----------
    opening
        Replacement for the watermarks before ``start``; None when the partition is read from its
        first record.
    """

    partition: int
    start: int
    end: int
    opening: Watermark | None


def spans_of(
    reader: LogReader,
    codec: Codec,
    control: ControlLog,
    from_ms: int | None,
    to_ms: int | None,
) -> list[Span]:
    """Return the spans of ``md.candles`` to read.

    For a range that starts later, the instruments and the ``ops.control`` offset of its first
    watermark are assumed to hold from ``from_ms`` on.

    Parameters
    ----------
    control
        ``ops.control``, read to its end; a watermark that names an offset behind it is refused.
    from_ms, to_ms
        First and last ``as_of_ms``, both inclusive; None for no limit.

    Raises
    ------
    Fatal
        The range contains no records.
    """
    partitions = reader.partitions(CANDLES)
    bounds = reader.all_bounds(CANDLES, partitions)
    found = []
    for partition in partitions:
        low, high = bounds[partition]
        start, end = low, high
        if from_ms is not None and high > low:
            start = max(low, reader.offset_at(CANDLES, partition, from_ms))
        if to_ms is not None and high > low:
            end = min(high, reader.offset_at(CANDLES, partition, to_ms + 1))
        if start >= end:
            continue
        opening = None
        if from_ms is not None and start > low:
            opening = _opening(reader, codec, control, (partition, start, high), from_ms)
        found.append(Span(partition, start, end, opening))
    if not found:
        raise Fatal(
            "md.candles has no candles in this time range: load candles first (manifold load)"
        )
    return found


def _opening(
    reader: LogReader,
    codec: Codec,
    control: ControlLog,
    span: tuple[int, int, int],
    from_ms: int,
) -> Watermark | None:
    for batch in reader.read(CANDLES, *span):
        for each in batch:
            if each.record.key != WATERMARK_KEY:
                continue
            event = candle_event_of(codec, each.record)
            if isinstance(event, Watermark) and not control.refuses(each.record.place, event):
                return event._replace(as_of_ms=from_ms)
    return None
