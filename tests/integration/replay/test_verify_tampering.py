"""A log that was tampered with: verification fails and names topic, place and field.

A small deployment is derived once by a real worker. Each test copies it to another prefix, offset
by offset, with one record changed on the way.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from streams.config.runtime import Runtime
from streams.kafka.committed import committed_offsets
from streams.kafka.reader import LogReader, LogRecord
from streams.records.codec import schema_id_of
from streams.records.events import WATERMARK_KEY
from streams.records.topics import (
    CANDLES,
    CONTROL,
    GATES,
    MANIFOLDS,
    SIGNALS,
    STAGE_SOURCES,
    SUMMARIES,
    TRADES,
    WEIGHTS,
)
from streams.stack.kafka import KafkaBroker
from tests.support.candle_files import market, write_csv
from tests.support.deployment import LIVELY, Deployment
from tests.support.log_copy import CopiedRecord, commit_offsets, write_partition

pytestmark = pytest.mark.kafka

COPIED = (CONTROL, CANDLES, SIGNALS, MANIFOLDS, TRADES, SUMMARIES, GATES, WEIGHTS)


class Sent(NamedTuple):
    """A record on its way into the copy."""

    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    headers: dict[str, str]

    def to_write(self) -> CopiedRecord:
        """Return it with its headers as bytes."""
        headers = tuple((k, v.encode()) for k, v in self.headers.items())
        return CopiedRecord(self.key, self.value, self.timestamp_ms, headers)


Change = Callable[[Sent], list[Sent]]


@pytest.fixture(scope="module")
def original(kafka: KafkaBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A market of two pairs, derived to its end."""
    place = tmp_path_factory.mktemp("original")
    deployment = Deployment(
        place,
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
        TOPIC_PREFIX=f"t{uuid.uuid4().hex[:8]}.",
        TOPIC_PARTITIONS="2",
        **LIVELY,
    )
    done = deployment.run("load", write_csv(place / "a.csv", market(("EUR_USD", "USD_JPY"), 260)))
    assert done.returncode == 0, done.stderr
    deployment.start_worker()
    try:
        deployment.settle()
    finally:
        deployment.stop()
    yield deployment


def copied(
    original: Deployment, prefix: str, topic: str = "", change: Change = lambda sent: [sent]
) -> tuple[Deployment, str]:
    """Copy a deployment; one record of ``topic`` goes through ``change``.

    Returns the copy and the place of that record. What the markers of transactions took stays
    taken, so that every record keeps its offset (those behind a change aside).
    """
    copy = Deployment(original.directory, **original.environment | {"TOPIC_PREFIX": prefix})
    place = ""
    with LogReader(original.runtime) as reader:
        for name in COPIED:
            bounds = reader.all_bounds(name, reader.partitions(name))
            partitions = {
                partition: [item for batch in reader.read(name, partition) for item in batch]
                for partition in bounds
            }
            fullest = max(partitions, key=lambda p: len(partitions[p]))
            for partition, records in partitions.items():
                chosen = _chosen(records) if (name, partition) == (topic, fullest) else -1
                if chosen >= 0:
                    place = f"{name}-{partition}-{records[chosen].record.offset}"
                to_write = _changed(records, chosen, change)
                full_name, end = copy.runtime.topic(name), bounds[partition][1]
                write_partition(copy.runtime, full_name, partition, to_write, end)
    _commit_as(original.runtime, copy.runtime)
    return copy, place


def _chosen(records: list[LogRecord]) -> int:
    """Return a record that is no watermark, with more of its input partition behind it."""
    third = len(records) // 3
    return next(i for i in range(third, len(records)) if records[i].record.key != WATERMARK_KEY)


def _changed(
    records: list[LogRecord], chosen: int, change: Change
) -> Iterator[tuple[int, list[CopiedRecord]]]:
    for at, (record, headers) in enumerate(records):
        sent = Sent(record.key, record.value, record.timestamp_ms, headers)
        written = change(sent) if at == chosen else [sent]
        yield record.offset, [one.to_write() for one in written]


def _commit_as(original: Runtime, copy: Runtime) -> None:
    with LogReader(original) as reader:
        partitions = {topic: reader.partitions(topic) for topic in STAGE_SOURCES.values()}
    offsets = {
        (copy.topic(topic), partition): offset
        for topic, numbers in partitions.items()
        for partition, offset in committed_offsets(original, topic, numbers).items()
    }
    commit_offsets(copy, copy.application, offsets)


def verified(copy: Deployment, *arguments: str, code: int) -> dict[str, Any]:
    done = copy.run("verify", "--json", *arguments)
    assert done.returncode == code, done.stdout + done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["passed"] == (code == 0)
    return report["topics"]


def test_an_honest_copy_is_the_same(original: Deployment, topic_prefix: str) -> None:
    copy, _ = copied(original, topic_prefix)
    topics = verified(copy, code=0)
    assert all(topics[name]["compared"] > 50 for name in (SIGNALS, MANIFOLDS, GATES, WEIGHTS))
    assert topics[SUMMARIES]["compared"] > 20
    assert topics[TRADES]["compared"] > 5


@pytest.mark.parametrize(
    ("topic", "field", "value"),
    [
        (SIGNALS, "coherence", 0.123456),
        (MANIFOLDS, "price", 1.5),
        (TRADES, "pnl_bps", 1.5),
        (SUMMARIES, "floor_samples", 77),
        (GATES, "control_offset", 77),
        (WEIGHTS, "reason", "because"),
    ],
)
def test_an_altered_field_is_named_with_its_place(
    original: Deployment, topic_prefix: str, topic: str, field: str, value: Any
) -> None:
    def alter(sent: Sent) -> list[Sent]:
        event: Any = original.codec.decode(topic, sent.value)
        altered = event._replace(**{field: value})
        body = original.codec.encode_with_id(schema_id_of(sent.value or b""), altered)
        return [sent._replace(value=body)]

    copy, place = copied(original, topic_prefix, topic, alter)
    said = verified(copy, code=1)[topic]["difference"]
    assert said.startswith(f"{place}: differs: ")
    assert f"{field} {value!r} is not " in said


@pytest.mark.parametrize("topic", [SIGNALS, TRADES, WEIGHTS])
def test_a_record_left_out_is_a_hole_at_its_place(
    original: Deployment, topic_prefix: str, topic: str
) -> None:
    copy, place = copied(original, topic_prefix, topic, lambda sent: [])
    said = verified(copy, code=1)[topic]["difference"]
    # one offset further on where the record was the last of its transaction
    partition, _, offset = place.rpartition("-")
    assert said.startswith((f"{place}: hole: ", f"{partition}-{int(offset) + 1}: hole: ")), said


@pytest.mark.parametrize("topic", [MANIFOLDS, SUMMARIES, WEIGHTS])
def test_a_record_that_is_there_twice_is_a_repeat(
    original: Deployment, topic_prefix: str, topic: str
) -> None:
    copy, place = copied(original, topic_prefix, topic, lambda sent: [sent, sent])
    said = verified(copy, code=1)[topic]["difference"]
    partition, _, offset = place.rpartition("-")
    assert said.startswith(f"{partition}-{int(offset) + 1}: repeat: "), said


def test_a_changed_key_time_or_header_is_named(original: Deployment, topic_prefix: str) -> None:
    def alter(sent: Sent) -> list[Sent]:
        headers = sent.headers | {"more": "another"}
        return [sent._replace(key=b"GBP_USD", timestamp_ms=1, headers=headers)]

    copy, _ = copied(original, topic_prefix, SIGNALS, alter)
    said = verified(copy, code=1)[SIGNALS]["difference"]
    for part in (
        "key b'GBP_USD' is not ",
        "timestamp 1 is not ",
        "header more 'another' is not expected",
    ):
        assert part in said


def test_a_record_that_names_no_input_is_a_stranger(
    original: Deployment, topic_prefix: str
) -> None:
    copy, place = copied(
        original, topic_prefix, SIGNALS, lambda sent: [sent, sent._replace(headers={})]
    )
    partition, _, offset = place.rpartition("-")
    said = verified(copy, code=1)[SIGNALS]["difference"]
    assert said.startswith(f"{partition}-{int(offset) + 1}: its header source is '(missing)'")


@pytest.mark.parametrize(
    ("source", "said_of_it"),
    [
        ("of the true one", ("repeat: ", "differs: ")),  # it stands where the next record should
        (f"{MANIFOLDS}-0-1000000", (f"derived from {MANIFOLDS}-0-1000000, but the stage has ",)),
    ],
)
def test_a_forged_decision_is_named(
    original: Deployment, topic_prefix: str, source: str, said_of_it: tuple[str, ...]
) -> None:
    def forge(sent: Sent) -> list[Sent]:
        true: Any = original.codec.decode(GATES, sent.value)
        until_ms = true.as_of_ms + 60_000
        made = true._replace(as_of_ms=until_ms, position=1, eligible=True, reasons=())
        headers = sent.headers if source.startswith("of ") else sent.headers | {"source": source}
        value = original.codec.encode(GATES, made)
        return [sent, Sent(sent.key, value, until_ms, headers)]

    copy, place = copied(original, topic_prefix, GATES, forge)
    partition, _, offset = place.rpartition("-")
    said = verified(copy, code=1)[GATES]["difference"]
    forged = f"{partition}-{int(offset) + 1}: "
    assert said.startswith(forged) and said.removeprefix(forged).startswith(said_of_it), said


def test_a_value_that_is_no_record_is_named(original: Deployment, topic_prefix: str) -> None:
    copy, place = copied(
        original, topic_prefix, WEIGHTS, lambda sent: [sent._replace(value=b"nonsense")]
    )
    said = verified(copy, code=1)[WEIGHTS]["difference"]
    assert said.startswith(f"{place}: differs: value cannot be read")


def test_a_candle_of_an_unknown_schema_derives_nothing(
    original: Deployment, topic_prefix: str
) -> None:
    def alter(sent: Sent) -> list[Sent]:
        return [sent._replace(value=b"\0" + (9_999).to_bytes(4, "big") + (sent.value or b"")[5:])]

    copy, _ = copied(original, topic_prefix, CANDLES, alter)
    said = verified(copy, code=1)[SIGNALS]["difference"]
    assert ": repeat: derived from md.candles-" in said and ", expected a Signal of " in said


def test_another_engine_is_not_verifiable_unless_it_is_allowed(
    original: Deployment, topic_prefix: str
) -> None:
    copy, _ = copied(
        original,
        topic_prefix,
        SIGNALS,
        lambda sent: [sent._replace(headers=sent.headers | {"engine": "qfh-0.0.1"})],
    )
    assert verified(copy, code=1)[SIGNALS]["other_engine"] == 1
    topics = verified(copy, "--allow-engine", code=0)
    assert topics[SIGNALS]["difference"] is None


def test_several_processes_say_the_same(original: Deployment, topic_prefix: str) -> None:
    alone = verified(original, "--processes", "1", code=0)
    assert verified(original, "--processes", "2", code=0) == alone
    copy, place = copied(original, topic_prefix, GATES, lambda sent: [])
    said = [verified(copy, "--processes", n, code=1)[GATES]["difference"] for n in ("1", "2")]
    partition, _, offset = place.rpartition("-")
    wanted = (f"{place}: ", f"{partition}-{int(offset) + 1}: ")
    assert all(difference.startswith(wanted) for difference in said), (place, said)
