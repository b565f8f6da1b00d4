"""Histories of the executor with real processes on Kafka, and kill -9
(``tests.support.histories``).

Thousands more run in one process on a virtual clock:
``tests/property/trading/test_executor_histories.py``.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from streams.stack.kafka import KafkaBroker
from tests.support.histories import History, Kill, histories
from tests.support.history_processes import ProcessRun

pytestmark = pytest.mark.kafka

HISTORIES = 20 if os.environ.get("MANIFOLD_FAULT_KILLS") else 2


@settings(
    max_examples=HISTORIES, phases=(Phase.explicit, Phase.generate), database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(history=histories(least=4, most=6))
def test_whatever_happens_orders_books_and_switch_are_kept(
    kafka: KafkaBroker,
    new_database: Callable[[], str],
    tmp_path_factory: pytest.TempPathFactory,
    history: History,
) -> None:
    middle = len(history) // 2
    killed = [*history[:middle], Kill(), *history[middle:]]
    prefix = f"t{uuid.uuid4().hex[:8]}."
    run = ProcessRun(tmp_path_factory.mktemp("history"), kafka.bootstrap, prefix, new_database())
    try:
        run.run(killed)
    finally:
        run.stop()
