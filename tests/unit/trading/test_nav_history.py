"""What an account was worth over a week: from live readings, from the log, and over transfers."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.kafka.follower import DecodedRecord
from streams.records.topics import FILLS
from streams.records.trading_events import AccountState
from streams.trading.ledger import Ledger
from streams.trading.nav_history import HOUR_MS, WEEK_MS, NavHistory, NavPoint
from streams.trading.start import apply_order_log

T0 = 1_704_880_800_000


def observed(*values: tuple[float, float]) -> NavHistory:
    """Return a history of (hours, value)."""
    history = NavHistory()
    for hours, nav in values:
        history.observe(T0 + int(hours * HOUR_MS), nav)
    return history


def test_nothing_is_known_before_a_week_has_gone_by() -> None:
    assert NavHistory().change() is None
    assert observed((0, 100.0)).change() is None
    assert observed((0, 100.0), (0.1, 90.0), (167.9, 80.0)).change() is None


def test_the_change_is_a_fraction_of_the_last_value_that_is_a_week_old() -> None:
    assert observed((0, 100.0), (168, 98.0)).change() == pytest.approx(-0.02)
    assert observed((0, 100.0), (5, 110.0), (30, 90.0), (175, 99.0)).change() == pytest.approx(-0.1)
    # an account that nobody looked at is worth what it was when it was last looked at
    assert observed((0, 100.0), (400, 103.0)).change() == pytest.approx(0.03)


def test_what_is_no_number_or_older_is_no_news() -> None:
    history = observed((0, 100.0), (168, 98.0))
    history.observe(T0, 5.0)
    history.observe(T0 + WEEK_MS + 1, math.nan)
    assert history.change() == pytest.approx(-0.02)


@given(st.floats(-90.0, 1e6), st.integers(0, 167))
def test_a_transfer_is_neither_gain_nor_loss(amount: float, after_hours: int) -> None:
    before = observed((0, 100.0), (after_hours, 100.0))
    before.transferred(100.0, 100.0 + amount)
    before.observe(T0 + WEEK_MS, (100.0 + amount) * 0.97)
    assert before.change() == pytest.approx(-0.03)


def test_an_account_that_was_empty_begins_anew() -> None:
    history = observed((0, 0.0))
    history.transferred(0.0, 500.0)
    history.observe(T0 + WEEK_MS, 500.0)
    assert history.change() is None


@given(st.lists(st.floats(1.0, 1e6), min_size=1, max_size=400))
def test_it_keeps_an_hour_a_value_and_no_more_than_a_week(values: list[float]) -> None:
    history = observed(*((n / 2, nav) for n, nav in enumerate(values)))
    assert len(history._points) <= 7 * 24 + 2
    if len(values) / 2 > 168.5:
        first = values[len(values) - 1 - 2 * 168 - 1 :][:2]
        assert any(history.change() == pytest.approx(values[-1] / one - 1.0) for one in first)


def state(
    hours: float, cause: str, nav: float, amount: float | None = None, account: str = "paper"
) -> DecodedRecord:
    made: Any = AccountState(
        account, "paper", T0 + int(hours * HOUR_MS), "c1", "day", nav, nav, T0, nav, "1", amount
    )
    return DecodedRecord(FILLS, 0, 0, made._replace(cause=cause), "")


def test_the_log_gives_back_what_was_known() -> None:
    """A restart must not begin a new week."""
    ledger = Ledger("paper", "paper")
    mine = [state(0, "start", 100.0), state(100, "transfer", 150.0, 50.0), state(168, "day", 147.0)]
    apply_order_log(ledger, [*mine, state(169, "day", 1.0, account="another")])
    assert ledger.nav_history.change() == pytest.approx(-0.02)


def test_points_are_taken_in_by_time_a_transfer_first() -> None:
    history = NavHistory()
    history.recall(
        [NavPoint(T0 + 5 + WEEK_MS, 196.0), NavPoint(T0 + 5, 200.0, 100.0), NavPoint(T0, 100.0)]
    )
    assert history.change() == pytest.approx(-0.02)
