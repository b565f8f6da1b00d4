"""Records that are refused outside the stages: counted once, named once, skipped."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from streams.kafka import decoding
from streams.kafka.decoding import (
    FIRST_READING_MS,
    InvalidRecords,
    InvalidRecordsCollector,
    decode_record,
    event_of,
    refusal_of,
)
from streams.records.codec import DecodeError, locked_codec
from streams.records.log_record import SourceRecord
from streams.records.topics import GATES
from tests.support.sample_events import SAMPLES

CODEC = locked_codec()
GATE: Any = SAMPLES["GateDecision"]


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> InvalidRecords:
    made = InvalidRecords()
    monkeypatch.setattr(decoding, "INVALID", made)
    return made


def record(offset: int, event: Any, timestamp_ms: int | None = None) -> SourceRecord:
    stamp = event.as_of_ms if timestamp_ms is None else timestamp_ms
    return SourceRecord(GATES, 0, offset, stamp, b"EUR_USD", CODEC.encode(GATES, event))


def test_a_valid_record_is_decoded_and_not_counted(fresh: InvalidRecords) -> None:
    assert decode_record(CODEC, record(1, GATE)) == GATE
    assert event_of(CODEC, record(1, GATE)) == GATE
    assert refusal_of(CODEC, record(1, GATE)) is None
    assert not fresh.counts


def test_a_refused_record_is_counted_once_and_named_once_per_reason(
    fresh: InvalidRecords, caplog: pytest.LogCaptureFixture
) -> None:
    strange = GATE._replace(instrument="x/y\n\x1b[31m")
    with caplog.at_level(logging.WARNING):
        for offset in (1, 2, 1, 2):
            with pytest.raises(DecodeError):
                decode_record(CODEC, record(offset, strange))
        assert event_of(CODEC, SourceRecord(GATES, 0, 3, 0, None, None)) is None
    assert fresh.counts == {(GATES, "invalid_value"): 2, (GATES, "null_value"): 1}
    told = [one.getMessage() for one in caplog.records]
    assert len(told) == 2
    assert told[0].startswith("opt.gates-0-1 is skipped") and "x/y" in told[0]
    assert all(char.isprintable() for text in told for char in text)


def test_a_record_of_a_time_after_its_stamp_is_refused(fresh: InvalidRecords) -> None:
    early = record(1, GATE, GATE.as_of_ms - 1)
    assert "lies after" in (refusal_of(CODEC, early) or "")
    assert not fresh.counts
    assert event_of(CODEC, early) is None
    assert fresh.counts == {(GATES, "invalid_value"): 1}


def test_when_a_record_arrived_is_its_stamp_at_the_start_and_later_when_it_was_read() -> None:
    clock = [1_700_000_000_000]
    found = InvalidRecords(lambda: clock[0])

    def refused(offset: int, at_ms: int) -> int:
        found.note(SourceRecord(GATES, 0, offset, at_ms, None, None), DecodeError("null_value", ""))
        (kind,) = found.kinds()
        assert kind.records == offset and kind.coordinates == f"opt.gates-0-{kind.offset}"
        return kind.at_ms

    yesterday = clock[0] - 86_400_000
    # the service reads the log again after every start: an old record is not news
    assert refused(1, yesterday) == yesterday
    assert refused(2, clock[0] + 3_600_000) == clock[0]
    clock[0] += FIRST_READING_MS
    # a writer gives its records any stamp
    assert refused(3, yesterday) == clock[0]
    assert found.kinds()[0].offset == 3


def test_the_counts_are_exported(fresh: InvalidRecords) -> None:
    registry = CollectorRegistry()
    registry.register(InvalidRecordsCollector())
    event_of(CODEC, record(1, GATE, 0))
    labels = {"topic": GATES, "reason": "invalid_value"}
    assert registry.get_sample_value("sep_invalid_records_total", labels) == 1.0
