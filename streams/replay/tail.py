"""The records of a topic in the JSON format of ``rpk topic consume``."""

from __future__ import annotations

import heapq
import itertools
import re
from collections import deque
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from streams.instants import instant_ms
from streams.kafka.decoding import refusal_of
from streams.kafka.reader import LogReader, LogRecord
from streams.records.codec import Codec, DecodeError
from streams.records.events import WATERMARK_KEY
from streams.records.json import value_text

SPANS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def record_json(codec: Codec, found: LogRecord, topic: str) -> dict[str, Any]:
    """Return a record in the format of ``rpk topic consume --use-schema-registry=value``.

    ``value`` is the JSON text of the record; a value that is not framed Avro is printed unchanged
    (bytes that are not UTF-8 replaced), as in rpk. A record that readers refuse also has
    ``invalid``: what is wrong with it.
    """
    record = found.record
    shown: dict[str, Any] = {"topic": topic}
    if record.key:
        shown["key"] = record.key.decode("utf-8", "replace")
    if record.value is not None:
        try:
            shown["value"] = value_text(codec, record.value)
        except DecodeError:
            shown["value"] = record.value.decode("utf-8", "replace")
    if found.headers:
        shown["headers"] = [{"key": k, "value": v} for k, v in found.headers.items()]
    shown["timestamp"] = record.timestamp_ms
    shown["partition"] = record.partition
    shown["offset"] = record.offset
    problem = refusal_of(codec, record)
    if problem is not None:
        shown["invalid"] = problem
    return shown


def start_offset(reader: LogReader, topic: str, partition: int, where: str, now: datetime) -> int:
    """Return the start offset of ``--from`` in a partition.

    Parameters
    ----------
    where
        ``start``, ``end``, an ISO-8601 time, ``@<epoch ms>``, ``-N`` (N records before the end) or
        a span before now such as ``-90m``, ``-24h``, ``-7d``.
    now
        Reference time of spans.

    Raises
    ------
    Fatal
        ``where`` is not valid.
    """
    low, high = reader.bounds(topic, partition)
    if where == "start":
        return low
    if where == "end":
        return high
    if re.fullmatch(r"-\d+", where):
        return _newest(reader, topic, partition, min(-int(where), high - low))
    return reader.offset_at(topic, partition, when_ms("--from", where, now))


def _newest(reader: LogReader, topic: str, partition: int, count: int) -> int:
    """Return the offset of the ``count``-th newest record, or of the first if there are fewer.

    Transaction markers and aborted records take offsets too, so the last ``count`` offsets contain
    fewer records.
    """
    low, high = reader.bounds(topic, partition)
    back = count
    while True:
        start = max(low, high - back)
        found = itertools.chain.from_iterable(reader.read(topic, partition, start, high))
        newest = deque((item.record.offset for item in found), maxlen=count)
        if len(newest) == count or start == low:
            return newest[0] if newest else start
        back *= 2


def when_ms(option: str, where: str, now: datetime) -> int:
    """Return epoch milliseconds of an ISO-8601 time, ``@<epoch ms>`` or a span before ``now``.

    Raises
    ------
    Fatal
        ``where`` is not valid; the message names the option.
    """
    span = re.fullmatch(r"-(\d+)([smhd])", where)
    if span:
        back = timedelta(seconds=int(span[1]) * SPANS[span[2]])
        return int((now - back).timestamp() * 1000)
    return instant_ms(option, where)


def records(
    readers: list[tuple[LogReader, int]],
    topic: str,
    spans: dict[int, tuple[int, int]],
    instrument: str | None = None,
) -> Iterator[LogRecord]:
    """Yield the records of all partitions merged by time, each from its start to its end.

    Records of a partition are in log order. With ``instrument``, only records with that key are
    yielded, without watermarks.
    """
    wanted = instrument.encode() if instrument else None
    merged = heapq.merge(
        *(_partition(reader, topic, p, *spans[p]) for reader, p in readers),
        key=lambda found: found.record.timestamp_ms,
    )
    for found in merged:
        if wanted is None or (found.record.key == wanted and wanted != WATERMARK_KEY):
            yield found


def _partition(
    reader: LogReader, topic: str, partition: int, start: int, end: int
) -> Iterator[LogRecord]:
    for batch in reader.read(topic, partition, start, end):
        yield from batch
