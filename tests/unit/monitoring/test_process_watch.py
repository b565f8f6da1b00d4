"""What processes report about themselves at their status ports, and what is kept of it."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from streams.kafka import decoding
from streams.kafka.decoding import InvalidKind, InvalidRecords, InvalidRecordsCollector
from streams.monitoring.facts import ProcessFacts, WorkerFacts
from streams.monitoring.http_probe import process_facts, samples_of
from streams.monitoring.process_watch import ProcessWatch, invalid_of_all, reports
from streams.process import started
from streams.process.started import ProcessCollector, ThisProcess
from streams.records.codec import DecodeError
from streams.records.log_record import SourceRecord

NOW = 1_700_000_000_000
MINUTE_MS, HOUR_MS = 60_000, 3_600_000


def test_a_page_says_who_started_when_and_what_was_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    this, refused = ThisProcess(), InvalidRecords(lambda: NOW)
    this.call("worker", "w-1")
    this.started_ms = NOW + 7
    for offset in (5, 9):
        record = SourceRecord("exec.fills", 2, offset, NOW - 1_000, None, b"x")
        refused.note(record, DecodeError("bad_frame", "it is none"))
    monkeypatch.setattr(started, "THIS_PROCESS", this)
    monkeypatch.setattr(decoding, "INVALID", refused)
    registry = CollectorRegistry()
    registry.register(ProcessCollector())
    registry.register(InvalidRecordsCollector())
    page = generate_latest(registry).decode()
    found = process_facts(samples_of(page))
    assert found.starts == {"worker w-1": NOW + 7}
    assert found.invalid == (InvalidKind("exec.fills", "bad_frame", 2, 2, 9, NOW - 1_000),)
    assert found.invalid[0].coordinates == "exec.fills-2-9"
    assert "manifold_process_open_files_limit" in page


def test_a_page_of_an_older_program_is_read_too() -> None:
    text = 'sep_invalid_records_total{topic="opt.gates",reason="bad_frame"} 3\n'
    (found,) = process_facts(samples_of(text)).invalid
    assert found == InvalidKind("opt.gates", "bad_frame", 3, -1, -1, 0)


def seen(**starts: int) -> list[ProcessFacts]:
    return [ProcessFacts(starts)]


def test_starts_of_valkey_and_of_the_status_ports_are_one_list() -> None:
    watch = ProcessWatch()
    for minute in range(4):
        watch.note(seen(worker=NOW + minute * MINUTE_MS, trade=NOW), NOW + minute * MINUTE_MS)
    recorded = {"worker": (NOW + 1, NOW + MINUTE_MS + 30_000), "mirror": (NOW,)}
    assert watch.starts(recorded) == {
        "mirror": (NOW,),
        "trade": (NOW,),
        "worker": (NOW, NOW + MINUTE_MS, NOW + 90_000, NOW + 2 * MINUTE_MS, NOW + 3 * MINUTE_MS),
    }
    assert watch.starts(None)["trade"] == (NOW,)


def test_the_last_start_is_known_however_long_ago() -> None:
    watch = ProcessWatch()
    for at in (NOW, NOW + MINUTE_MS):
        watch.note(seen(worker=at), at)
    later = NOW + 30 * HOUR_MS
    watch.note([], later)
    watch.note(seen(worker=later), later)
    assert watch.starts(None) == {"worker": (NOW + MINUTE_MS, later)}


def test_the_same_records_read_by_several_processes_count_once() -> None:
    one = InvalidKind("exec.fills", "bad_frame", 3, 0, 7, NOW)
    other = one._replace(records=2, offset=9, at_ms=NOW + 5)
    third = one._replace(topic="opt.gates")
    assert invalid_of_all([(one, third), (other,), ()]) == (
        other._replace(records=3),
        third,
    )
    facts = WorkerFacts({}, (ProcessFacts({}, (one,)), ProcessFacts()))
    assert [p.invalid for p in reports(None, None, facts)] == [(one,), ()]
    assert reports(None, None, None) == []
