"""Stretches of partitions as decoded records: what the log holds when an executor starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from streams.errors import Fatal
from streams.kafka.follower import DecodedRecord, Place, decoded
from streams.kafka.reader import LogReader
from streams.records.codec import Codec

Span = tuple[int, int]


def full_range(reader: LogReader, topics: Iterable[str]) -> dict[Place, Span]:
    """Return first offset and end of every partition of the topics."""
    return {
        (topic, partition): bounds
        for topic in topics
        for partition, bounds in reader.all_bounds(topic, reader.partitions(topic)).items()
    }


def read_spans(
    reader: LogReader, codec: Codec, spans: Mapping[Place, Span], *, strict: bool = False
) -> list[DecodedRecord]:
    """Return the committed records of the stretches [start, end), in the order of each partition.

    Parameters
    ----------
    strict
        Whether a record that cannot be decoded is an error; otherwise it is left out.

    Raises
    ------
    Recoverable
        The brokers do not deliver all records in time.
    Fatal
        A record cannot be decoded and ``strict`` is set.
    """
    found: list[DecodedRecord] = []
    for record in reader.read_many(spans):
        one = decoded(codec, record)
        if one is not None:
            found.append(one)
        elif strict:
            at = record.record
            raise Fatal(
                f"{at.topic}-{at.partition} has a record at offset {at.offset} that cannot be "
                "read: what is held cannot be known; run the version that wrote it"
            )
    return found
