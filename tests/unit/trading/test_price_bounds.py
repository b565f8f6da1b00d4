"""The worst price of an order, from the quote that it is judged by to the paper book."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.config.trading import Trading
from streams.records.events import Candle, Ohlc
from streams.trading.brokers.broker import OrderRequest, Quote
from streams.trading.brokers.paper_book import PaperBook, PaperRules
from streams.trading.brokers.price_bounds import price_bound
from streams.trading.dispatch import request_of
from streams.trading.plan import openings, resizings
from tests.support.execution_bench import MINUTE, PAIR, T0, TERMS, decision, desk, venue
from tests.unit.trading.test_execution_plan import ENTERED, SELECTED, closings, filled

QUOTE = Quote(PAIR, 1.1, 1.1001, T0)


@pytest.mark.parametrize(
    ("direction", "bps", "bound"),
    [
        (1, 5.0, 1.10065),  # 1.1001 * 1.0005 = 1.10065005
        (-1, 5.0, 1.09945),
        (1, 0.05, 1.1001),  # less than a point: the quote itself
        (-1, 0.05, 1.1),
        (1, 0.0, None),
    ],
)
def test_the_bound_lies_on_the_side_of_the_quote_that_is_paid(
    direction: int, bps: float, bound: float | None
) -> None:
    assert price_bound(QUOTE, TERMS, direction, bps) == bound


@given(
    st.integers(50_000, 250_000), st.integers(0, 500), st.sampled_from((1, -1)),
    st.floats(0.01, 1_000.0),
)  # fmt: skip
def test_a_bound_never_lets_more_through_and_never_less_than_the_quote(
    bid: int, spread: int, direction: int, bps: float
) -> None:
    quote = Quote(PAIR, bid / 1e5, (bid + spread) / 1e5, T0)
    bound = price_bound(quote, TERMS, direction, bps)
    assert bound is not None
    side = Decimal(repr(quote.ask if direction > 0 else quote.bid))
    away = direction * (Decimal(repr(bound)) - side)
    assert 0 <= away <= side * Decimal(repr(bps)) / 10_000
    assert away + Decimal("0.00001") > side * Decimal(repr(bps)) / 10_000


def test_openings_and_increases_carry_it_and_closings_do_not() -> None:
    trading = Trading(max_slippage_bps=5.0, pm_ramp_step_pct=0.25, reconcile_interval_sec=30)
    at = desk(*ENTERED, epochs=SELECTED, trading=trading)
    (opening,) = openings(at, venue(1))
    assert opening.submitted and opening.price_bound == 1.10065
    assert request_of(opening).price_bound == 1.10065
    at.ledger.take_intent(opening)
    at.ledger.take_report(filled(opening))
    (more,) = resizings(at, venue(3, now_ms=T0 + 10 * MINUTE))
    assert more.kind == "increase" and more.price_bound == 1.10065
    at.runs.take(decision(2, 0), "sep.manifolds-0-9")
    (closing,) = closings(at)
    assert closing.kind == "close" and closing.price_bound is None


@pytest.mark.parametrize(("opens_at", "outcome"), [(1.1006, "filled"), (1.1007, "cancelled")])
def test_the_paper_account_fills_nothing_beyond_it(opens_at: float, outcome: str) -> None:
    book = PaperBook(PaperRules("paper", 1e5, "USD", 0.02, 0.0))
    prices = Ohlc(opens_at, opens_at, opens_at, opens_at)
    book.submit(
        OrderRequest("m1", PAIR, Decimal(10), False, None, None, None, T0, price_bound=1.10065)
    )
    book.take(Candle(PAIR, "M1", T0, T0 + MINUTE, prices, prices, prices, True, 5, "test"))
    result = book.lookup("m1")
    assert result is not None and result.outcome == outcome
    assert result.reason == (None if outcome == "filled" else "BOUNDS_VIOLATION")
