"""Accounts under the FIFO rule: sizes of our own, and the test broker's model of the rule."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.config.trading import Trading
from streams.trading.fifo import (
    after_reduction,
    distinct_increase,
    distinct_reduction,
    refused_by_fifo,
)
from streams.trading.plan import openings, resizable, resizings
from streams.trading.reports import Told, own_report
from tests.support.execution_bench import MINUTE, T0, TERMS, desk, venue
from tests.support.v20 import V20Server
from tests.unit.trading.test_execution_plan import ENTERED, SELECTED, filled

CHANGES = st.lists(st.integers(-400, 400).map(Decimal), max_size=20)


@pytest.mark.parametrize(
    ("units", "held", "size"),
    [(5, (), 5), (5, (5,), 4), (5, (5, 4, 3), 2), (2, (2, 1), 0), (5, (6, 4), 5), (1, (1,), 0)],
)
def test_an_increase_gets_a_size_that_no_trade_has(
    units: int, held: tuple[int, ...], size: int
) -> None:
    assert distinct_increase(Decimal(units), [Decimal(s) for s in held], TERMS) == size


@pytest.mark.parametrize(
    ("units", "held", "size"),
    [(3, (10, 9), 3), (1, (10, 9), 0), (10, (10, 9), 10), (5, (10, 5), 4), (12, (10, 9, 7), 11)],
)
def test_a_reduction_leaves_sizes_that_all_differ(
    units: int, held: tuple[int, ...], size: int
) -> None:
    assert distinct_reduction(Decimal(units), [Decimal(s) for s in held], TERMS) == size


@given(CHANGES)
def test_sizes_never_meet_and_little_is_given_away(changes: list[Decimal]) -> None:
    held: list[Decimal] = []
    for change in changes:
        if change > 0:
            made = distinct_increase(change, held, TERMS)
            assert made == 0 or change - made <= len(held)
            held += [made] if made else []
        elif change < 0:
            made = distinct_reduction(-change, held, TERMS)
            assert made == 0 or -change - made <= len(held)
            held = after_reduction(made, held)
        assert len(set(held)) == len(held) and all(size > 0 for size in held)


def test_the_reasons_that_tell_of_the_rule() -> None:
    assert refused_by_fifo("FIFO_VIOLATION_SAFEGUARD_VIOLATION")
    assert not refused_by_fifo("MARKET_HALTED") and not refused_by_fifo(None)


def test_after_the_first_refusal_sizes_differ_and_the_pauses_grow() -> None:
    trading = Trading(pm_ramp_step_pct=0.25, reconcile_interval_sec=5)
    at = desk(*ENTERED, epochs=SELECTED, trading=trading)
    (opening,) = openings(at, venue(1))
    at.ledger.take_intent(opening)
    at.ledger.take_report(filled(opening))
    now_ms = T0 + 3 * MINUTE
    for count in (1, 2, 3):
        (more,) = resizings(at, venue(1, now_ms=now_ms))
        assert (more.units == opening.units) == (count == 1), "the rule is not known before"
        more = more._replace(placed_ms=now_ms)
        at.ledger.take_intent(more)
        told = own_report(
            more, "cancelled", Told(now_ms, 0, None), "FIFO_VIOLATION_SAFEGUARD_VIOLATION"
        )
        at.ledger.take_report(told._replace(transaction_id=str(20 + count)))
        pause_ms = 5_000 * 2**count
        assert not resizable(at, now_ms + pause_ms - 1)
        now_ms += pause_ms
        assert resizable(at, now_ms)
    (more,) = resizings(at, venue(1, now_ms=now_ms))
    at.ledger.take_intent(more)
    at.ledger.take_report(filled(more, trade_ids=("t2",), transaction_id="40"))
    assert at.ledger.fifo and not at.ledger.refused
    sizes = list(at.ledger.holdings["EUR_USD"].trades.values())
    assert sizes == [Decimal(int(opening.units)), Decimal(int(opening.units) - 1)]


def test_what_never_reached_the_venue_is_no_refusal() -> None:
    at = desk(*ENTERED, epochs=SELECTED)
    (opening,) = openings(at, venue(1))
    at.ledger.take_intent(opening)
    at.ledger.take_report(
        own_report(opening, "cancelled", Told(T0, 0, None), "not sent: no network")
    )
    assert not at.ledger.refused and not at.ledger.fifo


# -- the test broker


@pytest.fixture
def broker() -> Iterator[V20Server]:
    with V20Server(hours="always", fifo=True) as made:
        yield made
        assert made.violations() == []


def buy(broker: V20Server, units: str, stop: str = "") -> str:
    """Return why an order was cancelled; "filled" when it was not."""
    order = {"type": "MARKET", "instrument": "EUR_USD", "units": units, "timeInForce": "FOK"}
    more = {"stopLossOnFill": {"price": stop}} if stop else {}
    _, answer = broker.api("POST", "/accounts/{account}/orders", {"order": order | more})
    cancelled = answer.get("orderCancelTransaction")
    return str(cancelled["reason"]) if cancelled else "filled"


def test_the_broker_refuses_two_trades_of_one_size_with_a_bracket(broker: V20Server) -> None:
    broker.price("EUR_USD", "1.10000", "1.10010")
    assert buy(broker, "100", "1.05000") == "filled"
    assert buy(broker, "100", "1.05000") == "FIFO_VIOLATION_SAFEGUARD_VIOLATION"
    assert buy(broker, "100") == "FIFO_VIOLATION_SAFEGUARD_VIOLATION"
    assert buy(broker, "99", "1.05000") == "filled"
    assert buy(broker, "-1") == "FIFO_VIOLATION_SAFEGUARD_PARTIAL_CLOSE_VIOLATION"
    assert buy(broker, "-2") == "filled"


def test_the_broker_closes_the_oldest_of_one_size_first(broker: V20Server) -> None:
    assert (buy(broker, "50"), buy(broker, "50")) == ("filled", "filled")
    old, new = broker.account()["openTrades"]
    close = "/accounts/{account}/trades/"
    _, answer = broker.api("PUT", f"{close}{new}/close", {"units": "ALL"})
    assert answer["orderCancelTransaction"]["reason"] == "FIFO_VIOLATION"
    stop = {"stopLoss": {"price": "0.50000", "timeInForce": "GTC"}}
    status, answer = broker.api("PUT", f"{close}{new}/orders", stop)
    reason = "STOP_LOSS_ORDER_WOULD_VIOLATE_FIFO_VIOLATION_SAFEGUARD"
    assert (status, answer["errorCode"]) == (400, reason)
    assert broker.api("PUT", f"{close}{old}/close", {"units": "ALL"})[0] == 200
    assert broker.api("PUT", f"{close}{new}/orders", stop)[0] == 200
