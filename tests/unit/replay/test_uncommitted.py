"""Derived records from offsets that a stage has not committed: whose they are."""

from __future__ import annotations

from collections.abc import Mapping

from streams.records.topics import GATES, MANIFOLDS, SIGNALS, WEIGHTS
from streams.replay.verify.report import LaterRecord, LaterRecords
from streams.replay.verify.uncommitted import uncommitted_differences


def later(*records: tuple[str, int, str, int]) -> LaterRecords:
    """Return records (topic, source partition, place, source offset)."""
    found = LaterRecords()
    for topic, partition, place, offset in records:
        found.note(topic, partition, LaterRecord(place, offset))
    return found


def test_what_the_stage_commits_meanwhile_is_its_own() -> None:
    asked: list[str] = []

    def committed(source: str) -> Mapping[int, int]:
        asked.append(source)
        return {0: 7 + len(asked), 1: 3}

    own = later((GATES, 0, "opt.gates-0-5", 8))
    assert uncommitted_differences(own, committed, 60.0) == {}
    assert asked == [MANIFOLDS] * 2


def test_what_is_never_committed_is_named_with_its_place() -> None:
    forged = later(
        (GATES, 1, "opt.gates-0-5", 1_000_000), (GATES, 1, "opt.gates-0-6", 4),
        (WEIGHTS, 0, "risk.weights-0-2", 2), (SIGNALS, 3, "sep.signals-3-1", 0),
    )  # fmt: skip
    found = uncommitted_differences(forged, lambda source: {0: 3, 1: 5}, 0.0)
    assert found.keys() == {GATES, SIGNALS}
    assert found[GATES].startswith("opt.gates-0-5: derived from sep.manifolds-1-1000000, but ")
    assert "up to offset 5: no stage has written it" in found[GATES]


def test_a_group_without_commits_proves_nothing() -> None:
    forged = later((GATES, 0, "opt.gates-0-5", 9), (WEIGHTS, 0, "risk.weights-0-2", 9))
    found = uncommitted_differences(forged, lambda source: {} if source == GATES else {1: 2}, 0.0)
    assert found.keys() == {GATES}
