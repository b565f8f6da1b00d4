"""What an operator did by hand at the broker: what the executor makes of it."""

from __future__ import annotations

import pytest

from streams.records.trading_events import BrokerReport, OrderIntent
from streams.trading.brokers.units import units_of
from streams.trading.ledger import Ledger
from streams.trading.plan import resizings
from streams.trading.reports import Told, adjustment, own_report, release_report, report_words
from tests.support.execution_bench import MINUTE, PAIR, T0, decision, venue
from tests.unit.trading.test_execution_plan import closings, filled, joined


def closed_by_hand(intent: OrderIntent, units: float, cause: str = "other") -> BrokerReport:
    """Return the report of units that an operator closed."""
    return filled(intent, units, cause=cause, side="sell", transaction_id="9")


@pytest.mark.parametrize("cause", ["other", "stop_loss", "take_profit"])
def test_what_somebody_closed_a_part_of_is_not_made_larger_again(cause: str) -> None:
    at, intent = joined()
    assert [i.kind for i in resizings(at, venue(2))] == ["increase"]
    at.ledger.take_report(closed_by_hand(intent, 272.0, cause=cause))
    assert at.ledger.holdings[PAIR].units == 2000
    (held_back,) = resizings(at, venue(2))
    assert not held_back.submitted
    assert [v.guard for v in held_back.guards if not v.passed] == ["reduced"]
    at.ledger.take_intent(held_back)
    assert resizings(at, venue(3)) == [], "it is said once"
    assert closings(at) == [], "what is left goes on"
    at.runs.take(decision(2, 0), "sep.manifolds-0-2")
    assert [i.units for i in closings(at)] == [2000.0]


def test_what_is_left_is_still_reduced_when_its_weight_falls() -> None:
    at, intent = joined()
    at.ledger.take_report(closed_by_hand(intent, 272.0))
    (reduction,) = resizings(at, venue(2, rates={"EUR": 11.0005, "USD": 1.0}))
    assert (reduction.kind, reduction.side, reduction.submitted) == ("reduce", "sell", True)


def test_an_increase_that_is_filled_after_the_trade_was_closed_by_hand_is_closed() -> None:
    at, intent = joined()
    (increase,) = resizings(at, venue(2))
    at.ledger.take_intent(increase)
    at.ledger.take_report(closed_by_hand(intent, intent.units))
    assert at.ledger.holdings == {} and closings(at) == []
    at.ledger.take_report(filled(increase, transaction_id="10", trade_ids=("t2",)))
    assert at.ledger.holdings[PAIR].units == units_of(increase.units)
    (closing,) = closings(at)
    assert "its trade had ended" in closing.reason


def test_our_own_reduction_and_a_correction_of_the_books_end_no_trade() -> None:
    at, intent = joined()
    ledger: Ledger = at.ledger
    reduction = intent._replace(order_id="r", kind="reduce", side="sell", sequence=1)
    ledger.take_intent(reduction)
    ledger.take_report(filled(reduction, 272.0, transaction_id="9"))
    assert ledger.holdings[PAIR].reduced == "" and ledger.ended == {}
    told = Told(T0 + 3 * MINUTE, 0, None)
    ledger.take_report(adjustment(intent, units_of(-2000.0), 1.1, told, "seen", ("t1",)))
    assert ledger.holdings == {} and ledger.ended == {}


def test_the_log_says_what_was_an_order_of_ours_and_what_was_not() -> None:
    at, intent = joined()
    sold = closed_by_hand(intent, 1000.0)._replace(reason="MARKET_ORDER_TRADE_CLOSE")
    assert report_words(intent, sold) == (
        f"{PAIR}: sell 1000 units by no order of ours: filled (MARKET_ORDER_TRADE_CLOSE)"
    )
    stopped = closed_by_hand(intent, 1000.0, cause="stop_loss")
    assert report_words(intent, stopped).startswith(f"{PAIR}: sell 1000 units by stop_loss: filled")
    lost = own_report(intent, "unknown", Told(0, 0, None), "no answer")
    units = f"{units_of(intent.units):f}"
    assert report_words(intent, lost) == f"{PAIR} open buy {units} units: unknown (no answer)"
    held = at.ledger.holdings[PAIR]
    released = release_report(intent, held, Told(0, 0, None), "release by ann: mine")
    assert report_words(intent, released) == (
        f"{PAIR}: {held.units:f} units are ours no more (release by ann: mine)"
    )
