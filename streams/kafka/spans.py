"""Stretches of partitions as decoded records: what the log holds when an executor starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from streams.kafka.follower import DecodedRecord, Place, decoded
from streams.kafka.reader import LogReader, LogRecord
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
    reader: LogReader,
    codec: Codec,
    spans: Mapping[Place, Span],
    refused: list[LogRecord] | None = None,
) -> list[DecodedRecord]:
    """Return the committed records of the stretches [start, end), in the order of each partition.

    Parameters
    ----------
    refused
        Takes the records that cannot be decoded; they are left out of the result.

    Raises
    ------
    Recoverable
        The brokers do not deliver all records in time.
    """
    found: list[DecodedRecord] = []
    for record in reader.read_many(spans):
        one = decoded(codec, record)
        if one is not None:
            found.append(one)
        elif refused is not None:
            refused.append(record)
    return found
