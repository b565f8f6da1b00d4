"""Trials on the shared Kafka, ended with the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streams.stack.kafka import KafkaBroker
from tests.faults.harness import Trial

StartTrial = Callable[..., Trial]


@pytest.fixture
def trial(kafka: KafkaBroker, tmp_path: Path, topic_prefix: str) -> Iterator[StartTrial]:
    """Make a trial: ``trial(chain=2)``; several in one test have topics of their own."""
    made: list[Trial] = []

    def make(chain: int = 1, partitions: int = 4) -> Trial:
        directory = tmp_path / f"trial{len(made)}"
        directory.mkdir()
        prefix = f"{topic_prefix}{len(made)}."
        made.append(Trial(kafka.bootstrap, prefix, directory, chain, partitions))
        return made[-1]

    yield make
    for each in made:
        each.stop()
