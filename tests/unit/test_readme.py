"""The README's tables are those of the code."""

from __future__ import annotations

from pathlib import Path

from streams.cli import COMMANDS
from streams.stages.reasons import reason_table
from streams.topics import TOPICS

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")


def test_every_topic_is_in_the_table() -> None:
    for topic in TOPICS.values():
        partitions = topic.partitions or "N (12)"
        row = f"| `{topic.name}` | {topic.derived_by} | {topic.content} | {partitions} |"
        assert row in README


def test_every_reason_is_in_the_table() -> None:
    assert reason_table() in README


def test_every_command_is_shown() -> None:
    for command in COMMANDS:
        assert f"manifold {command}" in README, command
