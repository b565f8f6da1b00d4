"""Which orders the log asks for, and what the books make of the broker's answers."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import pytest

from streams.config.trading import Trading
from streams.records.audit import audit_record
from streams.records.trading_events import BrokerReport, OrderIntent
from streams.trading.brokers.broker import OpenTrade, PendingOrder
from streams.trading.brokers.transaction import Transaction
from streams.trading.brokers.units import units_of
from streams.trading.closing_plan import VenueState
from streams.trading.closing_plan import closings as planned_closings
from streams.trading.flatten import flatten_of, flatten_record
from streams.trading.guards import Switches
from streams.trading.ledger import Ledger
from streams.trading.plan import candidates, openings, resizings
from streams.trading.planning_state import Flatten, PlanningState
from streams.trading.reconcile import compare_positions
from streams.trading.reconcile_command import asks_to_reconcile, reconcile_record
from streams.trading.reports import Told, adjustment, own_report, report_of_transaction
from tests.support.execution_bench import ACCOUNT, MINUTE, PAIR, T0, decision, desk, venue, weights

ENTERED = (decision(0, 0), decision(1, 1))
SELECTED = (weights(1, EUR_USD=0.1),)
RAMPED = Trading(pm_ramp_step_pct=0.25, reconcile_interval_sec=30)


def closings(at: PlanningState) -> list[OrderIntent]:
    """Return the closing orders of a venue that closes by units, as the paper account does."""
    return [intent for _, intent in planned_closings(at, VenueState(by_trade=False))]


def filled(
    intent: OrderIntent, units: float | None = None, price: float = 1.1001, **changed: Any
) -> BrokerReport:
    """Return the report of an order's fill."""
    booked = Transaction(
        changed.pop("transaction_id", "8"), "fill", changed.pop("time_ms", T0 + 2 * MINUTE),
        intent.instrument, intent.order_id, changed.pop("cause", "order"),
        units_of(intent.units if units is None else units)
        * (1 if changed.pop("side", intent.side) == "buy" else -1),
        price, 0.0, changed.pop("trade_ids", ("t1",)),
    )  # fmt: skip
    return report_of_transaction(intent, booked, Told(T0, MINUTE, None))


def joined(trading: Trading = RAMPED, **changed: Any) -> tuple[PlanningState, OrderIntent]:
    """Return a desk that has joined a trade, and the intent that did."""
    at = desk(*ENTERED, epochs=SELECTED, trading=trading, **changed)
    intent = openings(at, venue(1))[0]
    at.ledger.take_intent(intent)
    at.ledger.take_report(filled(intent))
    return at, intent


def test_an_entry_is_joined_with_levels_and_every_verdict() -> None:
    (intent,) = openings(desk(*ENTERED, epochs=SELECTED), venue(1))
    assert intent.submitted and all(v.passed for v in intent.guards)
    assert (intent.kind, intent.side, intent.sequence) == ("open", "buy", 0)
    assert intent.entry_bar_ms == T0 + MINUTE
    assert intent.target_units == 9090.0  # 10 % of 100,000 dollars at 1.10005 a unit
    assert intent.units == 2272.0  # a quarter of it
    assert (intent.stop_loss, intent.take_profit) == (1.08635, 1.1056)
    assert (intent.level_kind, intent.level_stop, intent.level_target) == ("pct", 1.25, 0.5)


@pytest.mark.parametrize(
    "at",
    [
        pytest.param(desk(*ENTERED), id="weights awaited"),
        pytest.param(desk(*ENTERED, epochs=(weights(0, EUR_USD=0.1),)), id="an older epoch"),
        pytest.param(desk(*ENTERED, epochs=(weights(1, GBP_USD=0.1),)), id="not selected"),
        pytest.param(
            desk(decision(0, 0), decision(1, 1, eligible=False), epochs=SELECTED), id="not eligible"
        ),
        pytest.param(desk(*ENTERED, decision(2, 1), epochs=SELECTED), id="in the middle"),
    ],
)
def test_what_is_no_entry_with_a_weight_is_no_candidate(at: PlanningState) -> None:
    assert candidates(at) == []
    assert openings(at, venue(1)) == []


def rederived(*decisions: Any, epochs: Any = SELECTED) -> tuple[PlanningState, list[str]]:
    """Return the desk of an executor that holds a joined trade while the log is derived again."""
    before, intent = joined()
    at = desk(*decisions, epochs=epochs, trading=RAMPED)
    at.ledger.take_intent(intent)
    at.ledger.take_report(filled(intent))
    assert at.ledger.holdings == before.ledger.holdings
    return at, [i.kind for i in (*closings(at), *resizings(at, venue(30)))]


@pytest.mark.parametrize("position", [0, -1, 1])
def test_decisions_from_before_the_last_order_ask_for_nothing(position: int) -> None:
    _, asked = rederived(
        decision(-3, 0), decision(-2, position), epochs=(weights(-2, EUR_USD=0.01),)
    )
    assert asked == []


def test_the_run_is_followed_again_from_the_last_orders_decision_on() -> None:
    _, asked = rederived(*ENTERED)
    assert asked == ["increase"]
    _, asked = rederived(*ENTERED, epochs=(weights(0, EUR_USD=0.001),))
    assert asked == [], "weights of before the order were followed"
    for position in (0, -1):
        _, asked = rederived(*ENTERED, decision(2, position))
        assert asked == ["close"]
    # derived by another engine, the run may be in no trade at the entry any more
    _, asked = rederived(decision(0, 0), decision(1, 0))
    assert asked == ["close"]


def test_an_entry_has_one_chance() -> None:
    at = desk(*ENTERED, epochs=SELECTED)
    killed = venue(1, switches=Switches("paper", ("engaged by test",)))
    (intent,) = openings(at, killed)
    assert not intent.submitted
    assert [v.guard for v in intent.guards if not v.passed] == ["kill_switch"]
    at.ledger.take_intent(intent)
    assert openings(at, venue(1)) == []


def test_a_size_that_cannot_be_said_is_not_sent() -> None:
    at = desk(*ENTERED, epochs=SELECTED)
    for lacking in ({"rates": {}}, {"terms": {}}, {"account": ACCOUNT._replace(balance=-1.0)}):
        (intent,) = openings(at, venue(1, **lacking))
        assert not intent.submitted and intent.units == 0.0
        assert not {v.guard: v.passed for v in intent.guards}["sizing"]


def test_the_second_opening_counts_the_first() -> None:
    other = "GBP_USD"
    both = [decision(0, 0), decision(0, 0, instrument=other), decision(1, 1)]
    both.append(decision(1, -1, instrument=other))
    epoch = weights(1, EUR_USD=0.2, GBP_USD=0.2)
    at = desk(*both, epochs=(epoch,), trading=Trading(pm_ramp_step_pct=1.0))
    here = venue(1)
    here = here._replace(
        terms=here.terms | {other: here.terms[PAIR]._replace(instrument=other)},
        quotes=here.quotes | {other: here.quotes[PAIR]._replace(instrument=other)},
        rates=here.rates | {"GBP": 1.1},
    )
    first, second = openings(at, here)
    assert first.submitted and second.submitted
    assert first.units * 1.10005 == pytest.approx(20_000, abs=2)
    assert second.units * 1.1 == pytest.approx(10_000, abs=2)  # RISK_ALLOC_TARGET_PCT is 30 %
    one = at._replace(trading=Trading(risk_max_total_positions=1))
    assert [i.submitted for i in openings(one, here)] == [True, False]


def test_a_position_follows_its_run_to_the_end_whatever_the_gate_says() -> None:
    at, _ = joined()
    for number, one in enumerate(
        (decision(2, 1, eligible=False), decision(3, 1, eligible=False, reasons=("cooldown",)))
    ):
        at.runs.take(one, f"sep.manifolds-0-{10 + number}")
        at.allocation.take(weights(2 + number))
        assert closings(at) == []
        assert resizings(at, venue(2 + number)) == []
    at.runs.take(decision(4, 0, eligible=False), "sep.manifolds-0-14")
    (intent,) = closings(at)
    assert (intent.kind, intent.side, intent.units) == ("close", "sell", 2272.0)
    assert intent.submitted
    at.ledger.take_intent(intent)
    assert closings(at) == []  # its outcome is not known: not a second one
    at.ledger.take_report(filled(intent, transaction_id="9"))
    assert at.ledger.holdings == {} and closings(at) == []


@pytest.mark.parametrize(
    "last",
    [
        pytest.param([decision(2, -1)], id="turned round"),
        pytest.param([decision(2, 0), decision(3, 1)], id="another trade of the same direction"),
        pytest.param([decision(2, 1, params="p2")], id="other parameters"),
    ],
)
def test_a_run_that_went_on_to_something_else_is_left(last: list[Any]) -> None:
    at, _ = joined()
    for number, one in enumerate(last):
        at.runs.take(one, f"sep.manifolds-0-{20 + number}")
    assert [i.kind for i in closings(at)] == ["close"]


def test_increases_go_in_steps_while_joined_eligible_and_selected() -> None:
    at, opened = joined()
    here, units = venue(1), [2272.0]
    for step in range(6):
        now_ms = here.now_ms + 30_000 * (step + 1)
        quote = here.quotes[PAIR]._replace(time_ms=now_ms)
        later = here._replace(now_ms=now_ms, quotes={PAIR: quote})
        for intent in resizings(at, later._replace(now_ms=now_ms - 1)):
            assert intent.placed_ms <= now_ms - 30_000, "too early"
        for intent in resizings(at, later):
            assert intent.kind == "increase" and intent.submitted, intent.guards
            assert (intent.stop_loss, intent.take_profit) == (
                opened.stop_loss, opened.take_profit,
            )  # fmt: skip
            made = intent._replace(placed_ms=now_ms)
            at.ledger.take_intent(made)
            at.ledger.take_report(
                filled(made, transaction_id=str(20 + step), trade_ids=(f"s{step}",))
            )
            units.append(intent.units)
    assert sum(units) == at.ledger.holdings[PAIR].units == 9088.0
    assert units == [2272.0] * 4
    assert [i.sequence for i in at.ledger.intents.values()] == [0, 1, 2, 3]


def test_a_smaller_weight_reduces_at_once_and_a_little_smaller_one_does_not() -> None:
    at, _ = joined(Trading(pm_ramp_step_pct=1.0, reconcile_interval_sec=30))
    held = at.ledger.holdings[PAIR].units
    at.runs.take(decision(2, 1), "sep.manifolds-0-9")
    at.allocation.take(weights(2, EUR_USD=0.095))
    assert resizings(at, venue(2)) == []
    at.allocation.take(weights(2, EUR_USD=0.05))
    (intent,) = resizings(at, venue(2, switches=Switches("paper", ("engaged",))))
    assert (intent.kind, intent.side) == ("reduce", "sell")
    assert intent.units == float(held) - 4545.0
    assert intent.submitted, "the kill switch does not hold back a reduction"


def test_an_increase_that_a_guard_holds_back_is_said_once() -> None:
    at, _ = joined()
    at.runs.take(decision(2, 1), "sep.manifolds-0-9")
    at.allocation.take(weights(2, EUR_USD=0.1))
    wide = venue(2)
    quote = wide.quotes[PAIR]._replace(ask=1.2)
    wide = wide._replace(quotes={PAIR: quote})
    (intent,) = resizings(at, wide)
    assert not intent.submitted
    at.ledger.take_intent(intent)
    assert resizings(at, wide) == []
    (again,) = resizings(at, venue(2))
    assert again.submitted and again.order_id != intent.order_id


def test_flatten_closes_what_was_opened_before_it_and_nothing_after() -> None:
    at, intent = joined()
    assert intent.control_offset == 5
    (closing,) = closings(at._replace(flatten=Flatten(5, "ops", "storm")))
    assert closing.reason == "flatten by ops: storm"
    assert closings(at._replace(flatten=Flatten(4, "ops", "storm"))) == []


def test_the_last_flatten_of_the_account_counts() -> None:
    records = [
        (3, flatten_record("paper", "a", "one", T0)),
        (5, flatten_record("other", "b", "two", T0)),
        (8, flatten_record("paper", "c", "three", T0)),
        (9, flatten_record("paper", "d", "four", T0)._replace(value="{}")),
    ]
    assert flatten_of(records, "paper") == Flatten(8, "c", "three")
    assert flatten_of(records, "nobody") is None


def test_a_word_to_reconcile_is_for_one_account_and_changes_no_plan() -> None:
    word = reconcile_record("paper", "ann", "look", T0)
    assert asks_to_reconcile(word, "paper")
    assert not asks_to_reconcile(word, "other")
    assert not asks_to_reconcile(word._replace(value="{}"), "paper")
    others = [
        flatten_record("paper", "ann", "storm", T0),
        audit_record("POST /api/trade/reconcile", {"account_id": "paper"}, "ann", "look", T0),
    ]
    assert not any(asks_to_reconcile(record, "paper") for record in others)
    assert flatten_of([(0, word), (1, others[1])], "paper") is None


def test_read_only_and_dry_run_send_nothing_and_say_so_once() -> None:
    for trading in (Trading(read_only=True), Trading(dry_run_trades=True)):
        at, _ = joined()
        at = at._replace(trading=trading)
        at.runs.take(decision(2, 0), "sep.manifolds-0-9")
        (intent,) = closings(at)
        assert not intent.submitted
        at.ledger.take_intent(intent)
        assert closings(at) == []


def test_the_books_of_drawn_fills_are_a_running_sum() -> None:
    chance, at = random.Random(3), Ledger("paper", "paper")
    template = openings(desk(*ENTERED, epochs=SELECTED), venue(1))[0]
    net = 0.0
    for number in range(300):
        side = chance.choice(("buy", "sell"))
        units = float(chance.randrange(1, 500))
        intent = template._replace(order_id=f"o{number}", side=side, units=units, sequence=number)
        at.take_intent(intent)
        status = chance.choice(("filled", "filled", "rejected", "cancelled"))
        if status == "filled":
            at.take_report(filled(intent, transaction_id=str(number)))
            net += units if side == "buy" else -units
        else:
            at.take_report(own_report(intent, status, Told(T0, MINUTE, None), "test"))  # type: ignore[arg-type]
        held = at.holdings.get(PAIR)
        assert (held.signed_units if held else 0.0) == net
        assert not at.unresolved
    assert at.next_sequence(PAIR, T0 + MINUTE) == 300


def test_a_fill_that_comes_after_the_order_was_given_up_counts() -> None:
    at = desk(*ENTERED, epochs=SELECTED)
    (intent,) = openings(at, venue(1))
    at.ledger.take_intent(intent)
    at.ledger.take_report(own_report(intent, "cancelled", Told(T0, 0, None), "never arrived"))
    assert not at.ledger.unresolved and not at.ledger.holdings
    at.ledger.take_report(filled(intent))
    assert at.ledger.holdings[PAIR].units == intent.units


def trade(units: float, client_id: str = "", trade_id: str = "t9") -> OpenTrade:
    return OpenTrade(trade_id, PAIR, Decimal(units), 1.1, T0, client_id, None, None, 0.0)


def test_books_that_agree_have_no_differences() -> None:
    at, intent = joined()
    found = compare_positions(at.ledger, [trade(2272.0, intent.order_id)], [])
    assert found == ((), {}, frozenset(), ())
    assert compare_positions(at.ledger, [trade(2272.0, trade_id="t1")], []).differences == ()


def test_what_the_broker_has_more_or_less_is_said_and_put_right() -> None:
    for there in (0.0, 1000.0, 5000.0):
        at, intent = joined()
        trades = [trade(there, intent.order_id)] if there else []
        found = compare_positions(at.ledger, trades, [])
        assert "2272" in found.differences[0] and f"{there:g}" in found.differences[0]
        (correction,) = found.corrections
        made = adjustment(
            at.ledger.intents[correction.order_id], correction.signed_units, correction.price,
            Told(T0, 0, None), correction.reason,
        )  # fmt: skip
        at.ledger.take_report(made)
        held = at.ledger.holdings.get(PAIR)
        assert (held.signed_units if held else 0.0) == there


def test_nothing_is_put_right_while_an_order_is_in_doubt() -> None:
    at, _ = joined()
    at.runs.take(decision(2, 0), "sep.manifolds-0-9")
    (closing,) = closings(at)
    at.ledger.take_intent(closing)
    found = compare_positions(at.ledger, [], [])
    assert len(found.differences) == 1 and found.corrections == ()


def test_what_is_not_ours_blocks_its_instrument_and_is_no_correction() -> None:
    at, intent = joined()
    trades = [trade(2272.0, intent.order_id), trade(500.0, "someone", "t77")]
    found = compare_positions(at.ledger, trades, [PendingOrder("o1", "GBP_USD", Decimal(5), "")])
    assert found.corrections == ()
    assert set(found.foreign) == {PAIR, "GBP_USD"}
    assert found.foreign_held == {PAIR}
    blocked = venue(1, foreign=found.foreign, foreign_held=found.foreign_held)
    (intent,) = openings(desk(*ENTERED, epochs=SELECTED), blocked)
    assert [v.guard for v in intent.guards if not v.passed] == ["foreign"]


def test_the_same_log_gives_the_same_ids() -> None:
    one, again = (openings(desk(*ENTERED, epochs=SELECTED), venue(1))[0] for _ in range(2))
    poorer = venue(1, account=ACCOUNT._replace(balance=5_000.0))
    other_size = openings(desk(*ENTERED, epochs=SELECTED), poorer)[0]
    assert one.order_id == again.order_id == other_size.order_id
    assert other_size.units != one.units
