"""Which part of ``md.candles`` a replay reads, and what holds where it begins."""

from __future__ import annotations

from typing import NamedTuple

from streams.errors import Fatal
from streams.kafka.reader import LogReader
from streams.records.codec import Codec, DecodeError
from streams.records.events import Watermark
from streams.records.topics import CANDLES


class Span(NamedTuple):
    """Offsets ``[start, end)`` of one partition.

    Attributes
    ----------
    opening
        What stands for the watermarks before ``start``; None where the partition is read from its
        first record.
    """

    partition: int
    start: int
    end: int
    opening: Watermark | None


def spans_of(reader: LogReader, codec: Codec, from_ms: int | None, to_ms: int | None) -> list[Span]:
    """Return what to read of each partition of ``md.candles``.

    A range that begins in the middle begins under what the first watermark in it says: its
    instruments and its offset of ``ops.control`` are taken to hold from ``from_ms`` on.

    Parameters
    ----------
    from_ms, to_ms
        Records that could be known from then on, and until then, both included; None for no limit.

    Raises
    ------
    Fatal
        There is nothing in the range.
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
            opening = _opening(reader, codec, partition, start, high, from_ms)
        found.append(Span(partition, start, end, opening))
    if not found:
        raise Fatal("md.candles holds nothing of this time: load candles first (manifold load)")
    return found


def _opening(
    reader: LogReader, codec: Codec, partition: int, start: int, end: int, from_ms: int
) -> Watermark | None:
    for batch in reader.read(CANDLES, partition, start, end):
        for each in batch:
            try:
                event = codec.decode(CANDLES, each.record.value)
            except DecodeError:
                continue
            if isinstance(event, Watermark):
                return event._replace(as_of_ms=from_ms)
    return None
