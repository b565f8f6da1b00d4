"""What a verification came to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass
class TopicReport:
    """What the comparison of one derived topic came to."""

    topic: str
    compared: int = 0
    other_engine: int = 0
    difference: str | None = None

    @property
    def same(self) -> bool:
        """True when nothing differed, was missing or came twice."""
        return self.difference is None


@dataclass
class Report:
    """The outcome of a verification."""

    topics: dict[str, TopicReport] = field(default_factory=dict)
    inputs: dict[str, int] = field(default_factory=dict)
    unprocessed: dict[str, int] = field(default_factory=dict)

    def passed(self, *, allow_engine: bool) -> bool:
        """True when every topic is the same and (unless allowed) of this engine throughout."""
        return all(t.same and (allow_engine or not t.other_engine) for t in self.topics.values())


class Outcome(NamedTuple):
    """What a task came to; ``read`` counts what was taken in of each source topic."""

    topics: dict[str, TopicReport]
    read: dict[str, int]


def add(report: Report, outcome: Outcome) -> None:
    """Add what a task came to to the whole; of a topic's differences the first one stays."""
    for source, count in outcome.read.items():
        report.inputs[source] += count
    for name, found in outcome.topics.items():
        topic = report.topics[name]
        topic.compared += found.compared
        topic.other_engine += found.other_engine
        topic.difference = topic.difference or found.difference
