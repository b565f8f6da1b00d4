"""Read ranges of several partitions with one client, for the start of the executor."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streams.config.runtime import Runtime
from streams.errors import Fatal, Recoverable
from streams.kafka.client import READING_ON, SILENT, confluent_config
from streams.kafka.errors import translate_error
from streams.kafka.follower import DecodedRecord, Place, decoded
from streams.kafka.reader import LogReader
from streams.records.codec import Codec

PATIENCE_S = 60.0
AT_ONCE = 5_000
POLL_S = 0.02

Span = tuple[int, int]


def full_range(reader: LogReader, topics: Iterable[str]) -> dict[Place, Span]:
    """Return first offset and end of every partition of the topics."""
    return {
        (topic, partition): bounds
        for topic in topics
        for partition, bounds in reader.all_bounds(topic, reader.partitions(topic)).items()
    }


def read_spans(
    runtime: Runtime, codec: Codec, spans: Mapping[Place, Span], *, strict: bool = False
) -> list[DecodedRecord]:
    """Return the committed records of the ranges [start, end), in order within each partition.

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
    wanted = {place: span for place, span in spans.items() if span[0] < span[1]}
    if not wanted:
        return []
    names = {runtime.topic(topic): topic for topic, _ in wanted}
    consumer = Consumer(
        confluent_config(runtime)
        | {
            "group.id": f"{runtime.application}-executor",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 20,
            **READING_ON,
            **SILENT,
        }
    )
    try:
        consumer.assign(
            [TopicPartition(runtime.topic(t), p, span[0]) for (t, p), span in wanted.items()]
        )
        return _read(consumer, codec, names, wanted, strict)
    except KafkaException as error:
        raise translate_error(runtime.kafka_bootstrap_servers, error) from error
    finally:
        consumer.close()


def _read(
    consumer: Any, codec: Codec, names: dict[str, str], wanted: dict[Place, Span], strict: bool
) -> list[DecodedRecord]:
    found: list[DecodedRecord] = []
    left = {place: end for place, (_, end) in wanted.items()}
    give_up_at = time.monotonic() + PATIENCE_S
    while left:
        if time.monotonic() > give_up_at:
            missing = ", ".join(f"{t}-{p}" for t, p in sorted(left))
            raise Recoverable(f"{missing} cannot be read to the end within {PATIENCE_S:.0f} s")
        for message in consumer.consume(AT_ONCE, POLL_S):
            place = (names[message.topic()], message.partition())
            error = message.error()
            if error is not None:
                if error.code() == KafkaError._PARTITION_EOF:
                    _reached(left, place, message.offset())
                elif not error.retriable():
                    raise Recoverable(f"reading {place[0]}-{place[1]}: {error.str()}")
                continue
            if message.offset() < wanted[place][1]:
                one = decoded(codec, place, message)
                if one is not None:
                    found.append(one)
                elif strict:
                    raise Fatal(
                        f"{place[0]}-{place[1]} has a record at offset {message.offset()} that "
                        "cannot be decoded, so the positions are unknown; run the version that "
                        "wrote "
                        "it"
                    )
            _reached(left, place, message.offset() + 1)
    return found


def _reached(left: dict[Place, int], place: Place, position: int) -> None:
    if place in left and position >= left[place]:
        del left[place]
