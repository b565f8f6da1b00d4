"""Losing trades in a row, exposure by account and by currency, the end of the market week."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.candles.calendar import FX, calendar_of
from streams.candles.zones import sunday_of
from streams.config.settings import Config
from streams.config.trading import Trading
from streams.trading.brokers.broker import Position
from streams.trading.closing_plan import why_close
from streams.trading.currency_exposure import net_values, shares, within
from streams.trading.holdings import ClosedTrade, losses_in_a_row
from streams.trading.kill_rules import total_exposure
from streams.trading.plan import openings, resizable
from streams.trading.week_end import why_week_end
from tests.support.execution_bench import MINUTE, T0, desk, venue
from tests.support.sample_facts import ms
from tests.unit.trading.test_execution_plan import ENTERED, SELECTED, filled

RESULTS = st.lists(st.sampled_from((-1.0, 0.0, 1.0)), max_size=12)


def closed(*results: float) -> list[ClosedTrade]:
    return [ClosedTrade("EUR_USD", str(n + 1), result) for n, result in enumerate(results)]


@pytest.mark.parametrize(
    ("results", "judged_to", "row"),
    [
        ((), "", 0),
        ((-1, -1, -1), "", 3),
        ((1, -1, -1), "", 2),
        ((-1, -1, 1), "", 0),
        ((-1, 0, -1), "", 1),
        ((-1, -1, -1, -1), "2", 2),  # the first two have engaged it already
        ((-1, -1), "2", 0),
    ],
)
def test_losses_in_a_row(results: tuple[float, ...], judged_to: str, row: int) -> None:
    assert len(losses_in_a_row(closed(*results), judged_to)) == row


@given(RESULTS, st.randoms())
def test_the_row_does_not_depend_on_the_order_in_which_the_log_is_read(
    results: list[float], chance: object
) -> None:
    trades = closed(*results)
    mixed = list(trades)
    chance.shuffle(mixed)  # type: ignore[attr-defined]
    row = losses_in_a_row(mixed, "")
    assert row == losses_in_a_row(trades, "")
    assert all(one.realized_pl < 0 for one in row)
    before = trades[: len(trades) - len(row)]
    assert not before or before[-1].realized_pl >= 0


def test_a_trade_is_what_all_its_fills_brought() -> None:
    at = desk(*ENTERED, epochs=SELECTED, trading=Trading(pm_ramp_step_pct=1.0))
    (opening,) = openings(at, venue(1))
    at.ledger.take_intent(opening)
    at.ledger.take_report(filled(opening))
    half = opening.units // 2
    for number, (units, pl) in enumerate(((half, -5.0), (opening.units - half, 3.0)), 9):
        report = filled(
            opening, units, side="sell", cause="other", transaction_id=str(number)
        )._replace(realized_pl=pl)
        assert not at.ledger.closed
        at.ledger.take_report(report)
    assert at.ledger.closed == [ClosedTrade("EUR_USD", "10", -2.0)]


def test_total_exposure_counts_every_position_of_the_account() -> None:
    held = [
        Position("EUR_USD", Decimal(1000), 1.1, 0.0),
        Position("USD_JPY", Decimal(-500), 150.0, 0.0),
    ]
    rates = {"EUR": 1.1, "USD": 1.0, "JPY": 1 / 150}
    assert total_exposure(held, rates, 1000.0) == pytest.approx(1.6)
    # an instrument without a price counts at its entry price, one without a rate cannot be said
    assert total_exposure(held, {"USD": 1.0}, 1000.0) == pytest.approx(1.6)
    assert total_exposure(held, {"EUR": 1.1}, 1000.0) is None


def test_a_currency_is_the_sum_of_both_legs() -> None:
    units = {"EUR_USD": Decimal(1000), "EUR_GBP": Decimal(-500), "GBP_USD": Decimal(100)}
    values = {"EUR_USD": 1.1, "EUR_GBP": 1.1, "GBP_USD": 1.3}
    held = net_values(units, values)
    assert held == pytest.approx({"EUR": 550.0, "USD": -1230.0, "GBP": 680.0})
    long, short = shares(held, "EUR_USD", 110.0, 1000.0)
    assert (long.currency, long.before, long.after) == ("EUR", 0.55, pytest.approx(0.66))
    assert (short.currency, short.before, short.after) == ("USD", -1.23, pytest.approx(-1.34))
    assert not within(short, 1.3) and within(long, 0.66)


@given(st.dictionaries(st.sampled_from(("EUR_USD", "GBP_USD", "EUR_GBP", "USD_JPY")),
                       st.integers(-1000, 1000).map(Decimal)))  # fmt: skip
def test_all_currencies_together_are_nothing(units: dict[str, Decimal]) -> None:
    assert sum(net_values(units, dict.fromkeys(units, 1.5)).values()) == pytest.approx(0.0)


FRIDAY = "2024-03-08T{}"


@pytest.mark.parametrize(
    ("at", "minutes", "ends"),
    [
        (FRIDAY.format("21:43:59"), 15, ""),
        (FRIDAY.format("21:44:00"), 15, "2024-03-08"),
        (FRIDAY.format("21:58:59"), 15, "2024-03-08"),
        (FRIDAY.format("21:59:00"), 15, ""),  # it is over: nothing can be closed any more
        (FRIDAY.format("21:58:00"), 0, ""),
        ("2024-03-07T21:58:00", 15, ""),  # the daily pause is no weekend
        ("2024-03-09T12:00:00", 2_880, ""),
    ],
)
def test_the_last_minutes_of_the_week(at: str, minutes: int, ends: str) -> None:
    found = why_week_end(FX, ms(at), minutes)
    assert found.startswith(f"the market week ends at {ends}") if ends else found == ""


def test_a_week_that_ends_with_a_holiday_ends_before_it() -> None:
    friday_ms = ms("2026-12-25T12:00:00")
    assert why_week_end(FX, friday_ms, 15) == ""
    end_ms = FX.open_parts(sunday_of(friday_ms))[-1][1]
    assert end_ms < friday_ms
    assert why_week_end(FX, end_ms - MINUTE, 15)


def test_a_market_without_weekends_has_no_last_minutes() -> None:
    continuous = calendar_of(Config(market_calendar="continuous"))
    assert why_week_end(continuous, ms(FRIDAY.format("21:58:00")), 15) == ""


def test_before_the_weekend_what_is_held_is_closed_and_nothing_is_opened_or_increased() -> None:
    trading = Trading(weekend_reduce_minutes=15, reconcile_interval_sec=30)
    at = desk(*ENTERED, epochs=SELECTED, trading=trading)
    (opening,) = openings(at, venue(1))
    assert opening.submitted
    late = at._replace(placed_ms=lambda _: ms(FRIDAY.format("21:50:00")))
    (held_back,) = openings(late, venue(1))
    assert [v.guard for v in held_back.guards if not v.passed] == ["week_end"]
    at.ledger.take_intent(opening)
    at.ledger.take_report(filled(opening))
    (held,) = at.ledger.holdings.values()
    assert why_close(at, held) == ""
    assert "WEEKEND_REDUCE_MINUTES 15" in why_close(late, held)
    now_ms = T0 + 10 * MINUTE
    assert resizable(at, now_ms) and not resizable(late, now_ms)


@pytest.mark.parametrize(("cap", "held_back_by"), [(0.05, {"currency_exposure"}), (0.2, set())])
def test_openings_are_capped_by_currency(cap: float, held_back_by: set[str]) -> None:
    trading = Trading(risk_max_currency_exposure_pct=cap, pm_ramp_step_pct=1.0)
    (intent,) = openings(desk(*ENTERED, epochs=SELECTED, trading=trading), venue(1))
    assert intent.units * 1.1 / 1e5 == pytest.approx(0.1, rel=1e-3)
    assert {v.guard for v in intent.guards if not v.passed} == held_back_by
