"""Units are decimals: sums, the log's doubles, and what goes to the broker."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.records.trading_events import OrderIntent
from streams.trading.brokers.broker import InstrumentTerms
from streams.trading.brokers.sizing import StepRules, next_change, target_units
from streams.trading.brokers.transaction import Transaction
from streams.trading.brokers.units import MOST_DIGITS, floored, plain_units, units_of, units_text
from streams.trading.closing_plan import VenueState, closings
from streams.trading.dispatch import request_of
from streams.trading.ledger import Ledger
from streams.trading.plan import openings
from streams.trading.reports import Told, report_of_transaction
from tests.support.execution_bench import MINUTE, PAIR, T0, decision, desk, venue, weights

DIGITS = st.integers(0, MOST_DIGITS)
FILLS = st.lists(st.tuples(st.booleans(), st.integers(1, 10**6)), min_size=1, max_size=40)


def template() -> OrderIntent:
    at = desk(decision(0, 0), decision(1, 1), epochs=(weights(1, EUR_USD=0.1),))
    return openings(at, venue(1))[0]


OPENED = template()


def book(ledger: Ledger, number: int, side: str, units: Decimal, kind: str = "open") -> OrderIntent:
    """Take an order and its fill into the books, through the doubles of the log."""
    intent = OPENED._replace(
        order_id=f"o{number}", side=side, units=float(units), kind=kind, sequence=number
    )
    ledger.take_intent(intent)
    signed = units if side == "buy" else -units
    booked = Transaction(
        str(number), "fill", T0 + MINUTE, PAIR, intent.order_id, "order", signed, 1.1, 0.0,
        (f"t{number}",),
    )  # fmt: skip
    ledger.take_report(report_of_transaction(intent, booked, Told(T0, 0, None)))
    return intent


def test_nine_nine_nine_eight_hundredths_are_thirty_five() -> None:
    ledger = Ledger("paper", "paper")
    for number, units in enumerate(("0.09", "0.09", "0.09", "0.08"), 1):
        book(ledger, number, "buy", Decimal(units))
    held = ledger.holdings[PAIR]
    assert held.units == Decimal("0.35")
    assert list(held.trades.values()) == [Decimal(u) for u in ("0.09", "0.09", "0.09", "0.08")]
    # what an earlier release wrote is read as what was meant
    assert units_of(0.09 + 0.09 + 0.09 + 0.08) == Decimal("0.35")
    assert units_text(held.units) == "0.35"


@given(DIGITS, FILLS)
def test_the_books_are_the_exact_sum_in_every_precision(
    digits: int, fills: list[tuple[bool, int]]
) -> None:
    ledger, net = Ledger("paper", "paper"), 0
    for number, (buys, steps) in enumerate(fills, 1):
        book(ledger, number, "buy" if buys else "sell", Decimal(steps).scaleb(-digits))
        net += steps if buys else -steps
        held = ledger.holdings.get(PAIR)
        signed = held.signed_units if held else Decimal(0)
        assert signed == Decimal(net).scaleb(-digits)
        if held is not None:
            assert all(units > 0 for units in held.trades.values())


@given(DIGITS, st.lists(st.integers(1, 10**6), min_size=1, max_size=20))
def test_a_closing_has_the_units_of_what_is_held_in_every_precision(
    digits: int, steps: list[int]
) -> None:
    at = desk(decision(0, 0), decision(1, 1), decision(2, 0))
    for number, count in enumerate(steps, 1):
        book(at.ledger, number, "buy", Decimal(count).scaleb(-digits))
    ((_, whole),) = closings(at, VenueState(by_trade=False))
    request = request_of(whole)
    assert request.units == -Decimal(sum(steps)).scaleb(-digits)
    text = units_text(abs(request.units))
    assert "E" not in text and len(text.partition(".")[2]) <= digits
    each = closings(at, VenueState(by_trade=True))
    assert [i.trade_id for _, i in each] == [f"t{n}" for n in range(1, len(steps) + 1)]
    assert sum(request_of(i).units for _, i in each) == request.units


@given(DIGITS, st.integers(0, 10**9), st.integers(0, 10**9), st.floats(0.01, 1.0))
def test_steps_are_of_the_precision_and_end_at_the_target(
    digits: int, held: int, target: int, ramp: float
) -> None:
    step = Decimal(1).scaleb(-digits)
    terms = InstrumentTerms(PAIR, 5, digits, step, Decimal(10**9), 0.02, 0.0001)
    rules = StepRules(ramp, 0.0, 1e9)
    at, end = Decimal(held).scaleb(-digits), Decimal(target).scaleb(-digits)
    for _ in range(3):
        change = next_change(at, end, rules, terms)
        assert change % step == 0
        assert abs(at + change - end) <= abs(at - end)
        at += change
    if held > target > 0:
        assert at == end


@given(DIGITS, st.floats(0.0, 1.0), st.floats(1.0, 1e7), st.floats(1e-3, 1e5))
def test_a_target_is_of_the_precision(digits: int, pct: float, base: float, value: float) -> None:
    step = Decimal(1).scaleb(-digits)
    terms = InstrumentTerms(PAIR, 5, digits, step, Decimal(10**9), 0.02, 0.0001)
    found = target_units(pct, base, value, terms, 1e9)
    assert found % step == 0
    assert float(found) <= pct * base / value * (1 + 1e-12)


@given(DIGITS, st.integers(-(10**15) + 1, 10**15 - 1))
def test_the_logs_double_reads_back_as_the_decimal(digits: int, steps: int) -> None:
    units = Decimal(steps).scaleb(-digits)
    assert units_of(float(units)) == units
    assert plain_units(units) == units
    assert Decimal(units_text(units)) == units
    assert "E" not in units_text(units)


@pytest.mark.parametrize(
    ("number", "digits", "floor"),
    [(0.3, 1, "0.3"), (0.29, 2, "0.29"), (2272.9, 0, "2272"), (0.123456789, 8, "0.12345678")],
)
def test_the_floor_of_a_double_is_that_of_its_shortest_decimal(
    number: float, digits: int, floor: str
) -> None:
    assert floored(number, digits) == Decimal(floor)
