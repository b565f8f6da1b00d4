"""Histories of the executor in one process on a virtual clock: on the test broker, and on paper.

Drawn at random. A failing one is shrunk, and printed so that it can be pasted into a call of
``tests.support.history_run.run`` or ``tests.support.paper_history.run``.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from tests.support import history_run, paper_history
from tests.support.histories import ANYWHERE, Bar, HandOpen, History, histories

HISTORIES = int(os.environ.get("MANIFOLD_HISTORIES", "100"))
AS_MANY = settings(
    max_examples=HISTORIES,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
)
SEEDS = st.integers(0, 1 << 16)
REDUCED_BESIDE_AN_OLDER_TRADE_OF_OTHERS: History = [
    Bar((-1, None, None), 0.15, True),
    HandOpen("EUR_USD", -700),
    Bar((None, None, None), 0.05, True),
]


@AS_MANY
@example(history=REDUCED_BESIDE_AN_OLDER_TRADE_OF_OTHERS, seed=0)
@given(history=histories(), seed=SEEDS)
def test_whatever_happens_orders_books_and_switch_are_kept(history: History, seed: int) -> None:
    history_run.run(history, seed)


@AS_MANY
@given(history=histories(ANYWHERE), seed=SEEDS)
def test_a_paper_account_that_is_killed_is_one_that_was_not(history: History, seed: int) -> None:
    paper_history.run(history, seed)
