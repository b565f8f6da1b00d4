"""What the columns of a verification want is what the stages write, byte by byte."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import pytest

from streams.pipeline.chain import make_chain
from streams.pipeline.memory import Derivation
from streams.records.events import WATERMARK_KEY
from streams.records.log_record import SourceRecord
from streams.records.topics import CANDLES, GATES, MANIFOLDS, SIGNALS, SUMMARIES, TRADES
from streams.replay.verify.columns import PartitionCheck, Topics, compare_columns
from streams.replay.verify.rows import FastPathDeclined, PartitionColumns
from tests.support.changing_log import a_log, changing_control
from tests.support.stage_bench import CODEC

PARTITIONED = (SIGNALS, MANIFOLDS, TRADES, SUMMARIES)
COMPARED = (*PARTITIONED, GATES)
END = 1 << 60


class Message(NamedTuple):
    """A record as the client of the log gives it."""

    record: SourceRecord
    sent_headers: tuple[tuple[str, bytes], ...]

    def value(self) -> bytes | None:
        return self.record.value

    def headers(self) -> list[tuple[str, bytes]]:
        return list(self.sent_headers)

    def key(self) -> bytes | None:
        return self.record.key

    def partition(self) -> int:
        return self.record.partition

    def offset(self) -> int:
        return self.record.offset

    def timestamp(self) -> tuple[int, int]:
        return 1, self.record.timestamp_ms


class Log(NamedTuple):
    """Candles by partition, and what the stages derive from them by topic and partition."""

    candles: dict[int, list[SourceRecord]]
    derived: dict[tuple[str, int], list[Message]]


@cache
def derived_log(seed: int) -> Log:
    """Derive a log with changes on the way by the stages, a few records at a time."""
    log = a_log(seed)
    derivation = Derivation(keeps_history=True)
    derivation.use(make_chain(CODEC, changing_control(), history=derivation.history(CODEC)).stages)
    candles: dict[int, list[SourceRecord]] = defaultdict(list)
    derived: dict[tuple[str, int], list[Message]] = defaultdict(list)
    for start in range(0, len(log), 137):
        part = log[start : start + 137]
        for record in part:
            candles[record.partition].append(record)
        for one in asyncio.run(derivation.feed(part)):
            at = (one.record.topic, one.record.partition)
            derived[at].append(Message(one.record, one.output.headers))
    return Log(dict(candles), derived)


@pytest.fixture(scope="module", params=[1, 2])
def log(request: pytest.FixtureRequest) -> Log:
    return derived_log(request.param)


def batches(found: list[Any], size: int) -> Iterator[list[Any]]:
    return iter([found[i : i + size] for i in range(0, len(found), size)])


def compare(log: Log, size: int = 200, signals: int = END, gates: int = END) -> dict[str, int]:
    """Compare every partition; the stages have come to these offsets."""
    control = changing_control()
    checks = {
        p: PartitionCheck(
            PartitionColumns(p, CODEC, control),
            p,
            Topics(
                batches([one for one in found if one.offset < signals], size),
                {t: batches(log.derived[t, p], size) for t in PARTITIONED},
            ),
            signals,
            gates,
        )
        for p, found in log.candles.items()
    }
    decisions = batches(log.derived[GATES, 0], size)
    return compare_columns(checks, tuple(checks), decisions, lambda topic, count: None)


def counts(log: Log) -> dict[str, int]:
    found: Counter[str] = Counter()
    for (topic, _), messages in log.derived.items():
        found[topic] += len(messages)
    return {topic: found[topic] for topic in COMPARED}


def test_all_that_the_stages_derive_is_wanted_of_single_records() -> None:
    log = derived_log(1)
    assert compare(log, 1) == counts(log)


@pytest.mark.parametrize("size", [7, 200, 100_000])
def test_all_that_the_stages_derive_is_wanted_whatever_the_batches(log: Log, size: int) -> None:
    wanted = counts(log)
    assert wanted[TRADES] > 30 and wanted[SUMMARIES] > 100 and wanted[GATES] > 3_000
    assert compare(log, size) == wanted


def test_what_a_stage_has_not_committed_is_left_out(log: Log) -> None:
    partition = next(iter(log.candles))
    half = len(log.candles[partition]) // 2
    found = compare(log, signals=half, gates=half // 2)
    whole = counts(log)
    assert 0 < found[GATES] < found[MANIFOLDS] < whole[MANIFOLDS]
    assert found[SIGNALS] == found[MANIFOLDS]


def changed(message: Message, **values: Any) -> Message:
    return message._replace(record=message.record._replace(**values))


def forged(message: Message) -> Message:
    (name, source), *rest = message.sent_headers
    return message._replace(sent_headers=((name, source + b"0"), *rest))


@pytest.mark.parametrize("topic", COMPARED)
@pytest.mark.parametrize("what", ["value", "key", "time", "header", "missing", "twice", "strange"])
@pytest.mark.parametrize("at", ["middle", "end"])
def test_a_record_that_is_not_what_it_should_be_is_found(topic: str, what: str, at: str) -> None:
    log = _pristine()
    place = max(
        (one for one in log.derived if one[0] == topic), key=lambda one: len(log.derived[one])
    )
    found = log.derived[place]
    plain = [i for i, message in enumerate(found) if message.key() != WATERMARK_KEY]
    number = plain[len(plain) // 2 if at == "middle" else -1]
    message = found[number]
    value = message.value()
    assert value is not None
    tampered = {
        "value": [changed(message, value=value[:-1] + bytes([value[-1] ^ 1]))],
        "key": [changed(message, key=b"XXX_YYY")],
        "time": [changed(message, timestamp_ms=message.record.timestamp_ms + 1)],
        "header": [forged(message)],
        "missing": [],
        "twice": [message, message],
        "strange": [message, message._replace(sent_headers=(("source", b"elsewhere-0-0"),))],
    }[what]
    derived = log.derived | {place: [*found[:number], *tampered, *found[number + 1 :]]}
    with pytest.raises(FastPathDeclined):
        compare(log._replace(derived=derived))


_kept: list[Log] = []


def _pristine() -> Log:
    if not _kept:
        _kept.append(derived_log(1))
    return _kept[0]


def test_candles_that_the_log_does_not_hold_are_missed() -> None:
    log = _pristine()
    partition = next(iter(log.candles))
    fewer = log.candles | {partition: log.candles[partition][:-50]}
    with pytest.raises(FastPathDeclined):
        compare(log._replace(candles=fewer))
    assert len(log.derived[SIGNALS, partition]) > 0 and log.candles[partition][0].topic == CANDLES
