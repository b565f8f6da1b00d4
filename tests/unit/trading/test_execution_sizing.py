"""Units: against exact fractions, over drawn accounts; and what is refused."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.config.settings import Config
from streams.records.events import Ohlc
from streams.trading.brokers.brackets import average_true_range, level_rule, levels
from streams.trading.brokers.broker import Account, InstrumentTerms, LevelRule
from streams.trading.brokers.conversion import home_rates
from streams.trading.brokers.sizing import (
    SizingRefused,
    StepRules,
    account_base,
    next_change,
    target_units,
)
from streams.trading.market_day import Worth, trading_day_start_ms
from streams.trading.order_ids import order_id
from tests.support.execution_bench import ACCOUNT, TERMS
from tests.support.reference_stages import ms

MONEY = st.floats(1.0, 1e7)
TERMS_OF = st.builds(
    lambda digits, least: InstrumentTerms(
        "EUR_USD", 5, digits, Decimal(least), Decimal(10**8), 0.02, 0.0001
    ),
    st.sampled_from((0, 0, 1, 2)),
    st.sampled_from((1, 10, 100)),
)


def exact_units(
    pct: float, base: float, value: float, digits: int, least: float, most: float
) -> Fraction:
    """The target in exact arithmetic: floor((pct * base / value) at the instrument's digits)."""
    wanted = min(Fraction(pct) * Fraction(base) / Fraction(value), Fraction(most))
    steps = wanted * 10**digits
    units = Fraction(math.floor(steps), 10**digits)
    return units if units >= Fraction(least) else Fraction(0)


@given(st.floats(0.0, 1.0), MONEY, st.floats(1e-3, 1e3), TERMS_OF, st.floats(0.0, 1e6))
def test_a_target_is_what_exact_arithmetic_says(
    pct: float, base: float, value: float, terms: InstrumentTerms, most: float
) -> None:
    found = float(target_units(pct, base, value, terms, most))
    exact = exact_units(pct, base, value, terms.units_digits, float(terms.min_units), most)
    step = 10.0**-terms.units_digits
    # at a boundary float and exact arithmetic may fall on either side of one step
    assert abs(found - float(exact)) <= step * 1.000001 or {found, float(exact)} >= {0.0}
    assert found * value <= pct * base * (1 + 1e-12) or found <= most
    assert found == 0.0 or found >= float(terms.min_units)
    assert found <= most


@given(
    st.integers(0, 2_000_000),
    st.integers(0, 2_000_000),
    st.floats(0.01, 1.0),
    st.floats(0.0, 0.5),
    st.integers(1, 1_000_000),
    TERMS_OF,
)
def test_a_position_moves_to_its_target_in_steps_and_never_past_it(
    held: int, target: int, ramp: float, least: float, max_order: int, terms: InstrumentTerms
) -> None:
    rules = StepRules(ramp, least, float(max_order))
    change = next_change(Decimal(held), Decimal(target), rules, terms)
    after = held + change
    assert abs(change) <= max_order
    if target == 0:
        assert change == 0
    elif change > 0:
        assert held < after <= target
        assert change <= max(ramp * target * (1 + 1e-8), terms.min_units)
    elif change < 0:
        assert target <= after and held > target
    if change:
        assert abs(change) >= terms.min_units
    reachable = max_order >= terms.min_units
    if target > held and (held == 0 or target - held >= least * target) and reachable:
        assert change > 0 or target - held < terms.min_units


@given(st.integers(1_000, 2_000_000), st.floats(0.05, 1.0))
def test_repeated_steps_reach_the_target(target: int, ramp: float) -> None:
    rules, held, steps = StepRules(ramp, 0.0, 1e9), Decimal(0), 0
    while (change := next_change(held, Decimal(target), rules, TERMS)) != 0:
        held, steps = held + change, steps + 1
        assert steps <= math.ceil(1 / ramp) + 2
    assert held == target


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0])
@pytest.mark.parametrize("field", ["balance", "margin_used", "margin_available"])
def test_an_account_with_a_figure_that_is_none_has_no_base(field: str, bad: float) -> None:
    with pytest.raises(SizingRefused):
        account_base(ACCOUNT._replace(**{field: bad}))


def test_the_base_is_the_balance_or_the_margin_in_and_out_of_use() -> None:
    losing = Account("a", "USD", 1000.0, 900.0, 100.0, 800.0, -100.0, "1")
    winning = Account("a", "USD", 1000.0, 1100.0, 100.0, 1000.0, 100.0, "1")
    assert account_base(losing) == 900.0
    assert account_base(winning) == 1000.0
    with pytest.raises(SizingRefused):
        account_base(losing._replace(margin_used=0.0, margin_available=0.0))


@pytest.mark.parametrize(
    ("pct", "base", "value"),
    [
        (math.nan, 1e5, 1.0), (-0.1, 1e5, 1.0), (1.5, 1e5, 1.0), (0.1, math.nan, 1.0),
        (0.1, -5.0, 1.0), (0.1, 1e5, 0.0), (0.1, 1e5, math.inf), (0.1, 0.0, 1.0),
    ],
)  # fmt: skip
def test_sizes_of_impossible_numbers_are_refused(pct: float, base: float, value: float) -> None:
    with pytest.raises(SizingRefused):
        target_units(pct, base, value, TERMS, 1e5)


def test_rates_go_through_the_pairs_that_have_a_price() -> None:
    mids = {"EUR_USD": 1.1, "USD_JPY": 150.0, "GBP_JPY": 190.0, "XAU_XAG": 80.0}
    found = home_rates("EUR", ["EUR", "USD", "JPY", "GBP", "XAU", "NZD"], mids)
    assert found["EUR"] == 1.0
    assert found["USD"] == pytest.approx(1 / 1.1)
    assert found["JPY"] == pytest.approx(1 / 1.1 / 150)
    assert found["GBP"] == pytest.approx(190 / 1.1 / 150)
    assert "XAU" not in found and "NZD" not in found
    assert "USD" not in home_rates("EUR", ["USD"], {"EUR_USD": math.nan, "USD_EUR": 0.0})


def test_a_direct_pair_is_taken_before_a_way_round() -> None:
    mids = {"EUR_USD": 1.0, "USD_CHF": 5.0, "EUR_CHF": 0.9}
    assert home_rates("CHF", ["EUR"], mids) == {"EUR": 0.9}


@pytest.mark.parametrize("direction", [1, -1])
@given(
    st.floats(0.5, 200.0), st.floats(0.01, 5.0), st.floats(0.01, 5.0),
    st.sampled_from(("pct", "distance")),
)  # fmt: skip
def test_a_stop_lies_behind_the_entry_and_a_target_ahead(
    direction: int, entry: float, stop: float, target: float, kind: str
) -> None:
    scale = 1.0 if kind == "pct" else entry / 100.0
    rule = LevelRule(kind, stop * scale, target * scale)  # type: ignore[arg-type]
    below, above = levels(rule, entry, direction)
    assert direction * (below - entry) < 0 < direction * (above - entry)
    assert abs(below - entry) == pytest.approx(entry * stop / 100)
    assert abs(above - entry) == pytest.approx(entry * target / 100)


def test_no_level_is_made_up() -> None:
    assert level_rule(Config(exit_pnl_enabled=False), None) is None
    with pytest.raises(SizingRefused):
        level_rule(Config(auto_tp_mode="atr"), None)
    with pytest.raises(SizingRefused):
        levels(LevelRule("distance", 2.0, 1.0), 1.1, 1)
    assert average_true_range([Ohlc(1, 2, 1, 2)] * 3, 4) is None


@pytest.mark.parametrize(
    ("at_ms", "begins_ms"),
    [
        (ms(2024, 1, 10, 21, 59), ms(2024, 1, 9, 22)),
        (ms(2024, 1, 10, 22), ms(2024, 1, 10, 22)),
        (ms(2024, 7, 10, 20, 59), ms(2024, 7, 9, 21)),
        (ms(2024, 7, 10, 21), ms(2024, 7, 10, 21)),
        (ms(2024, 3, 10, 20, 59), ms(2024, 3, 9, 22)),  # New York changes its clocks
        (ms(2024, 3, 10, 21), ms(2024, 3, 10, 21)),
    ],
)
def test_the_market_day_begins_at_five_in_new_york(at_ms: int, begins_ms: int) -> None:
    assert trading_day_start_ms(at_ms) == begins_ms


def test_loss_of_the_day_and_fall_from_the_peak() -> None:
    worth = Worth()
    assert worth.daily_loss(0) is None and worth.drawdown() is None
    monday, tuesday = ms(2024, 1, 8, 23), ms(2024, 1, 9, 23)
    worth.observe(monday, 1000.0)
    worth.observe(monday + 1, 1100.0)
    assert worth.daily_loss(monday + 1) == 0.0
    worth.observe(monday + 2, 990.0)
    assert worth.daily_loss(monday + 2) == pytest.approx(0.01)
    assert worth.daily_loss(tuesday) is None  # nothing was observed in that day yet
    worth.observe(tuesday, 980.0)
    assert worth.daily_loss(tuesday) == pytest.approx(10 / 990)
    assert worth.drawdown() == pytest.approx(120 / 1100)
    worth.observe(tuesday + 1, math.nan)
    worth.observe(monday, 5000.0)
    assert worth.drawdown() == pytest.approx(120 / 1100)


PARTS = st.tuples(
    st.text("ab:1", min_size=0, max_size=4), st.sampled_from(("paper", "live")),
    st.text("ab:1", max_size=4), st.text("ab:1", max_size=4), st.integers(0, 99),
    st.integers(0, 99),
)  # fmt: skip


@given(PARTS, PARTS)
def test_an_id_is_a_function_of_its_parts_and_of_nothing_else(one: tuple, other: tuple) -> None:
    assert (order_id(*one) == order_id(*other)) == (one == other)
    assert len(order_id(*one)) == 32


def test_an_id_never_changes() -> None:
    assert order_id("manifold", "paper", "paper", "EUR_USD", 1_700_000_000_000, 0) == (
        "m914b7042ff37fdf354885ddbceadaf2"
    )
