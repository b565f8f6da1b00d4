"""Report of a verification."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass
class TopicReport:
    """Result of the comparison of one derived topic."""

    topic: str
    compared: int = 0
    other_engine: int = 0
    difference: str | None = None

    @property
    def same(self) -> bool:
        """True when no record differs, is missing or duplicated."""
        return self.difference is None


@dataclass
class Report:
    """Result of a verification."""

    topics: dict[str, TopicReport] = field(default_factory=dict)
    inputs: dict[str, int] = field(default_factory=dict)
    unprocessed: dict[str, int] = field(default_factory=dict)

    def passed(self, *, allow_engine: bool) -> bool:
        """True when every topic is equal and, unless allowed otherwise, entirely of this engine."""
        return all(t.same and (allow_engine or not t.other_engine) for t in self.topics.values())


class LaterRecord(NamedTuple):
    """A derived record, and the offset in its header ``source``."""

    place: str
    source_offset: int


class LaterRecords:
    """Records derived from an offset that the stage had not committed when it was read.

    Attributes
    ----------
    highest
        The one with the highest source offset, by derived topic and source partition.
    """

    def __init__(self) -> None:
        self.highest: dict[tuple[str, int], LaterRecord] = {}

    def note(self, topic: str, source_partition: int, record: LaterRecord) -> None:
        """Add a record."""
        known = self.highest.get((topic, source_partition))
        if known is None or known.source_offset < record.source_offset:
            self.highest[topic, source_partition] = record

    def add(self, others: LaterRecords) -> None:
        """Add the records of others."""
        for (topic, partition), record in others.highest.items():
            self.note(topic, partition, record)


class TaskResult(NamedTuple):
    """Result of a task; ``read``: number of records read from each source topic."""

    topics: dict[str, TopicReport]
    read: dict[str, int]
    later: LaterRecords


def add(report: Report, outcome: TaskResult, later: LaterRecords) -> None:
    """Add the result of a task to the report; only the first difference of a topic is kept."""
    later.add(outcome.later)
    for source, count in outcome.read.items():
        report.inputs[source] += count
    for name, found in outcome.topics.items():
        topic = report.topics[name]
        topic.compared += found.compared
        topic.other_engine += found.other_engine
        topic.difference = topic.difference or found.difference
