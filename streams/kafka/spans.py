"""Read offset spans of partitions as decoded records, when an executor starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from streams.kafka.follower import DecodedRecord, PartitionKey, decode_log_record
from streams.kafka.reader import LogReader, LogRecord
from streams.records.codec import Codec

Span = tuple[int, int]


def full_range(reader: LogReader, topics: Iterable[str]) -> dict[PartitionKey, Span]:
    """Return the first offset and the end of every partition of the topics."""
    return {
        (topic, partition): bounds
        for topic in topics
        for partition, bounds in reader.all_bounds(topic, reader.partitions(topic)).items()
    }


def read_spans(
    reader: LogReader,
    codec: Codec,
    spans: Mapping[PartitionKey, Span],
    refused: list[LogRecord] | None = None,
) -> list[DecodedRecord]:
    """Return the committed records of the spans [start, end), ordered within each partition.

    Parameters
    ----------
    refused
        Takes the records that cannot be decoded; they are left out of the result.

    Raises
    ------
    Recoverable
        The brokers do not deliver all records in time.
    """
    records: list[DecodedRecord] = []
    for source in reader.read_many(spans):
        record = decode_log_record(codec, source)
        if record is not None:
            records.append(record)
        elif refused is not None:
            refused.append(source)
    return records
