"""Read offset spans of partitions as decoded records, when an executor starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from streams.errors import Fatal
from streams.kafka.follower import DecodedRecord, PartitionKey, decoded
from streams.kafka.reader import LogReader
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
    reader: LogReader, codec: Codec, spans: Mapping[PartitionKey, Span], *, strict: bool = False
) -> list[DecodedRecord]:
    """Return the committed records of the spans [start, end), ordered within each partition.

    Parameters
    ----------
    strict
        Whether a record that cannot be decoded raises Fatal; otherwise it is skipped.

    Raises
    ------
    Recoverable
        The brokers do not deliver all records in time.
    Fatal
        A record cannot be decoded and ``strict`` is set.
    """
    records: list[DecodedRecord] = []
    for source in reader.read_many(spans):
        record = decoded(codec, source)
        if record is not None:
            records.append(record)
        elif strict:
            failed = source.record
            raise Fatal(
                f"{failed.topic}-{failed.partition} has a record at offset {failed.offset} that "
                "cannot be decoded: the open positions are unknown; run the version that wrote it"
            )
    return records
