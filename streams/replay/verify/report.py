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


class TaskResult(NamedTuple):
    """Result of a task; ``read``: number of records read from each source topic."""

    topics: dict[str, TopicReport]
    read: dict[str, int]


def add(report: Report, outcome: TaskResult) -> None:
    """Add the result of a task to the report; only the first difference of a topic is kept."""
    for source, count in outcome.read.items():
        report.inputs[source] += count
    for name, found in outcome.topics.items():
        topic = report.topics[name]
        topic.compared += found.compared
        topic.other_engine += found.other_engine
        topic.difference = topic.difference or found.difference
