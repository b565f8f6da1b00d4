"""What is closed, and by which name: the log's trades, the venue's, and orders in doubt."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from streams.records.trading_events import OrderIntent
from streams.trading.brokers.broker import OpenTrade
from streams.trading.brokers.transaction import Transaction
from streams.trading.closing_plan import VenueState, closings
from streams.trading.plan import openings
from streams.trading.planning_state import Flatten, PlanningState
from streams.trading.reports import Told, report_of_transaction
from tests.support.execution_bench import MINUTE, PAIR, T0, decision, desk, venue, weights

HERE = VenueState(by_trade=True)
STORM = Flatten(5, "ops", "storm")
"""A word that stands behind every opening of these tests."""


def bench(*fills: tuple[str, int], **changed: Any) -> tuple[PlanningState, OrderIntent]:
    """Return a desk whose books hold trades (venue's id, units), and the opening intent."""
    at = desk(decision(0, 0), decision(1, 1), epochs=(weights(1, EUR_USD=0.1),), **changed)
    first = openings(at, venue(1))[0]
    for number, (trade, units) in enumerate(fills):
        kind = "increase" if number else "open"
        intent = first._replace(
            order_id=f"o{number}", kind=kind, sequence=number, units=float(units)
        )
        at.ledger.take_intent(intent)
        fill(at, intent, trade, units, str(10 + number))
    return at, first


def fill(at: PlanningState, intent: OrderIntent, trade: str, units: int, transaction: str) -> None:
    ids = (trade,) if trade else ()
    booked = Transaction(
        transaction, "fill", T0 + MINUTE, PAIR, intent.order_id, "order", Decimal(units), 1.1, 0.0,
        ids,
    )  # fmt: skip
    at.ledger.take_report(report_of_transaction(intent, booked, Told(T0, 0, None)))


def planned(
    at: PlanningState, sight: VenueState = HERE, **more: Any
) -> list[tuple[str, str, float]]:
    """Return the closings that are due: how, which trade, units."""
    return [(i.close_by, i.trade_id, i.units) for _, i in closings(at, sight, **more)]


def opened(trade: str, units: int, client_id: str, name: str = PAIR) -> OpenTrade:
    return OpenTrade(trade, name, Decimal(units), 1.1, T0, client_id, None, None, 0.0)


def test_every_trade_is_closed_whole_by_its_id_oldest_first() -> None:
    at, _ = bench(("41", 300), ("45", 200))
    assert planned(at._replace(flatten=STORM)) == [("trade", "41", 300.0), ("trade", "45", 200.0)]
    assert planned(at) == []


def test_a_closing_that_was_refused_waits_and_the_others_go() -> None:
    at, _ = bench(("41", 300), ("45", 200))
    at = at._replace(flatten=STORM)
    assert planned(at, held_back={(PAIR, "41")}) == [("trade", "45", 200.0)]
    assert planned(at, HERE._replace(gone=frozenset({"41"}))) == [("trade", "45", 200.0)]


def test_fifo_closes_the_side_of_the_position_where_nothing_but_ours_is_known() -> None:
    at, _ = bench(("41", 300), ("45", 200))
    at = at._replace(flatten=STORM)
    no_ids = HERE._replace(no_ids=frozenset({PAIR}))
    assert planned(at, no_ids) == [("position", "", 500.0)]
    with_others = no_ids._replace(foreign=frozenset({PAIR}))
    assert planned(at, with_others) == [("trade", "41", 300.0), ("trade", "45", 200.0)]


def test_units_of_no_known_trade_are_closed_by_units_and_never_beside_others() -> None:
    at, _ = bench(("", 300))
    at = at._replace(flatten=STORM)
    assert planned(at) == [("units", "", 300.0)]
    assert planned(at, HERE._replace(foreign=frozenset({PAIR}))) == []


def test_an_order_in_doubt_is_closed_by_its_client_id_while_the_book_cannot_be_read() -> None:
    at, intent = bench()
    at.ledger.take_intent(intent)
    at = at._replace(flatten=STORM)
    name = f"@{intent.order_id}"
    assert planned(at) == [], "the venue's transactions will tell in a moment"
    stale = HERE._replace(books_stale=True)
    assert planned(at, stale) == [("trade", name, intent.units)]
    assert planned(at, stale._replace(in_flight=frozenset({intent.order_id}))) == []
    assert planned(at, stale._replace(gone=frozenset({name}))) == []
    known = stale._replace(trades=(opened("77", 2272, intent.order_id),))
    assert planned(at, known) == [("trade", "77", 2272.0)]


def test_an_order_in_doubt_is_kept_while_its_run_goes_on() -> None:
    at, intent = bench()
    at.ledger.take_intent(intent)
    stale = HERE._replace(books_stale=True)
    assert planned(at, stale) == []
    at.runs.take(decision(2, 0), "sep.manifolds-0-9")
    assert planned(at, stale) == [("trade", f"@{intent.order_id}", intent.units)]


def test_trades_of_others_and_closed_ones_of_ours_are_left() -> None:
    at, _ = bench(("41", 300))
    closing = closings(at._replace(flatten=STORM), HERE)[0][1]
    at.ledger.take_intent(closing)
    fill(at, closing, "41", -300, "30")
    assert at.ledger.holdings == {}
    sight = HERE._replace(
        trades=(opened("41", 300, "o0"), opened("50", 5, ""), opened("51", 5, "someone")),
        books_stale=True,
    )
    assert planned(at._replace(flatten=STORM), sight) == []


def test_a_closing_booked_before_its_opening_leaves_nothing() -> None:
    at, intent = bench()
    at.ledger.take_intent(intent)
    stale = HERE._replace(books_stale=True)
    closing = closings(at._replace(flatten=STORM), stale)[0][1]
    at.ledger.take_intent(closing)
    fill(at, closing, "77", -2272, "31")
    assert at.ledger.holdings == {}, "no position the other way round"
    fill(at, intent, "77", 2272, "30")
    assert at.ledger.holdings == {} and at.ledger.closed_ahead == {}
    assert not at.ledger.unresolved


def test_all_of_a_trade_goes_out_again_while_nobody_knows_what_became_of_the_first() -> None:
    at, _ = bench(("41", 300), ("", 20))
    at = at._replace(flatten=STORM)
    by_trade, by_units = (intent for _, intent in closings(at, HERE))
    at.ledger.take_intent(by_trade)
    flying = HERE._replace(in_flight=frozenset({by_trade.order_id}))
    assert ("trade", "41", 300.0) not in planned(at, flying)
    ((_, again),) = [one for one in closings(at, HERE) if one[1].close_by == "trade"]
    assert again.order_id != by_trade.order_id and again.sequence == by_trade.sequence + 1
    at.ledger.take_intent(by_units)
    assert [how for how, _, _ in planned(at)] == ["trade"], "units might be closed twice"


def test_a_delisted_position_counts_at_its_entry_price() -> None:
    from streams.trading.plan import gross_value

    at, _ = bench(("41", 300))
    here = venue(1)
    assert gross_value(at, here, []) == 300 * 1.10005
    assert gross_value(at, here._replace(rates={"USD": 1.0}), []) == 300 * 1.1
    assert gross_value(at, here._replace(rates={}), []) is None


def test_a_decision_that_could_not_be_checked_may_close_and_nothing_else() -> None:
    at, _ = bench(("41", 300))
    out, on, before = decision(2, 0), decision(2, 1), decision(0, 0)
    (closing,) = closings(at._replace(unconfirmed={PAIR: out}), HERE)
    assert closing[1].submitted and "could not be checked" in closing[0].reason
    reverse = decision(2, -1)
    assert planned(at._replace(unconfirmed={PAIR: reverse})) == [("trade", "41", 300.0)]
    assert planned(at._replace(unconfirmed={PAIR: on})) == []
    assert planned(at._replace(unconfirmed={PAIR: before})) == [], "an older one has no effect"
    assert not openings(at._replace(unconfirmed={PAIR: reverse}), venue(2))
