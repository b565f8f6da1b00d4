"""An operator's orders: what a record must be, and what the executor makes of each."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from streams.records.events import Control
from streams.records.trading_events import OrderIntent
from streams.trading.operator_orders import (
    MOST_UNITS,
    OperatorOrder,
    order_problem,
    order_record,
    orders_of,
)
from streams.trading.operator_sending import orders_shown
from tests.support.executor_stand import TRADING, Stand
from tests.support.v20 import Handle, V20Server
from tests.support.v20.amounts import parse_time

PAIR = "EUR_USD"
OPEN = dataclasses.replace(TRADING, operator_orders="open")


def record(**changed: Any) -> Control:
    """Return a right order; ``changed`` replaces parts of its value (None removes one)."""
    made = order_record(PAIR, "paper", "r1", "sell", Decimal("10.5"), "ann", "enough", 1_000)
    said = json.loads(made.value) | changed
    return made._replace(value=json.dumps({k: v for k, v in said.items() if v is not None}))


def test_an_order_reads_back_as_it_was_given() -> None:
    levels = {"stop_loss": 1.09, "take_profit": 1.2}
    given = order_record(
        PAIR, "paper", "r1", "buy", Decimal("0.25"), "ann", "why not", 7_000, **levels
    )
    (found,) = orders_of([(4, given), (5, given), (6, record(account_id="other"))], "paper")
    assert found == OperatorOrder(
        found.given, PAIR, "r1", "buy", Decimal("0.25"), stop_loss=1.09, take_profit=1.2
    )
    assert (found.given.offset, found.given.words) == (4, "by ann: why not")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"units": "0"}, "above 0"),
        ({"units": "-5"}, "above 0"),
        ({"units": "1e3"}, "above 0"),
        ({"units": "NaN"}, "above 0"),
        ({"units": str(MOST_UNITS + 1)}, "above 0"),
        ({"units": 5}, "are texts"),
        ({"units": None}, "it needs"),
        ({"side": "short"}, "the side is not one of"),
        ({"request_id": "a b"}, "request_id"),
        ({"stop_loss": -1.0}, "stop_loss is not a price"),
        ({"take_profit": True}, "take_profit is not a price"),
        ({"force": "1"}, "it needs"),
    ],
)
def test_a_record_that_is_no_order_changes_nothing(changed: dict[str, Any], said: str) -> None:
    wrong = record(**changed)
    assert said in (order_problem(wrong) or "")
    assert orders_of([(0, wrong)], "paper") == []


def test_a_record_without_an_instrument_or_without_json_changes_nothing() -> None:
    for wrong in (record()._replace(instrument=None), record()._replace(value="{")):
        assert order_problem(wrong) and orders_of([(0, wrong)], "paper") == []


@pytest.fixture
def broker() -> Iterator[Handle]:
    with V20Server(hours="always") as made:
        yield made


@pytest.fixture
def stand(broker: Handle) -> Stand:
    return Stand(broker, parse_time(broker.state()["time"]) // 1_000_000 - 3_600_000)


def shown(stand: Stand, request_id: str) -> dict[str, Any]:
    """Return what the executor says of an order."""
    found = orders_shown(stand.ledger, stand.executor.operator_orders)
    return next(one for one in found if one["request_id"] == request_id)


async def until_told(stand: Stand, request_id: str) -> dict[str, Any]:
    await stand.until(lambda: shown(stand, request_id)["status"] not in ("waiting", "sent"))
    return shown(stand, request_id)


def intents(stand: Stand, request_id: str) -> list[OrderIntent]:
    return [
        one
        for one in stand.memory.records
        if isinstance(one, OrderIntent) and one.request_id == request_id
    ]


async def test_an_order_against_what_is_held_reduces_it_once_and_nothing_is_added_again(
    stand: Stand, broker: Handle
) -> None:
    async with stand.trading():
        await stand.opened(EUR_USD=1)
        units = Decimal(stand.positions()[PAIR])
        stand.order("half", PAIR, "sell", "1000")
        told = await until_told(stand, "half")
        assert (told["status"], told["kind"], told["filled_units"]) == ("filled", "reduce", 1000.0)
        assert Decimal(stand.positions()[PAIR]) == units - 1000
        for _ in range(3):
            stand.bar(EUR_USD=1)
        stand.order("half", PAIR, "sell", "1000")  # the same order, given again
        await stand.until(lambda: stand.executor.parts.runs.decided()[PAIR] > 0)
        stand.require_exact()
    async with stand.trading():  # a restart does not repeat it
        await stand.until(lambda: not stand.executor.unreconciled)
        stand.bar(EUR_USD=1)
        await stand.until(lambda: stand.ledger.unsent(PAIR) is not None)
        assert len(intents(stand, "half")) == 1
        assert Decimal(stand.positions()[PAIR]) == units - 1000
        assert "closed by an operator's order" in stand.ledger.holdings[PAIR].reduced
        stand.bar(EUR_USD=0)
        await stand.until(lambda: not stand.ledger.holdings)
        stand.require_exact()


@pytest.mark.parametrize(("side", "way"), [("reduce", 1), ("reduce", -1), ("sell", 1)])
async def test_more_than_is_held_closes_it_and_never_turns_it_round(
    stand: Stand, side: Any, way: int
) -> None:
    async with stand.trading():
        await stand.opened(EUR_USD=way)
        stand.order("all", PAIR, side, "99999999")
        assert (await until_told(stand, "all"))["status"] == "filled"
        assert stand.positions() == {}
        stand.require_exact()


@pytest.mark.parametrize("side", ["buy", "sell", "reduce"])
async def test_where_nothing_is_held_an_order_is_refused_unless_a_setting_allows_it(
    stand: Stand, side: Any
) -> None:
    async with stand.trading():
        await stand.until(lambda: not stand.executor.unreconciled)
        stand.bar(EUR_USD=0)
        stand.order("new", PAIR, side, "500")
        told = await until_told(stand, "new")
        assert told["status"] == "refused"
        wanted = "held: no position" if side == "reduce" else "reduce_only: OPERATOR_ORDERS=reduce"
        assert wanted in told["detail"]
        assert stand.positions() == {} and stand.ledger.unsent(PAIR) is None


async def test_an_order_of_the_same_direction_does_not_increase_a_runs_position(
    stand: Stand,
) -> None:
    stand.settings = OPEN
    async with stand.trading():
        await stand.opened(EUR_USD=1)
        before = stand.positions()
        stand.order("more", PAIR, "buy", "500")
        told = await until_told(stand, "more")
        assert told["status"] == "refused" and "own_position" in told["detail"]
        assert stand.positions() == before


async def test_an_order_that_may_open_has_a_position_of_its_own_that_no_run_leads(
    stand: Stand, broker: Handle
) -> None:
    stand.settings = OPEN
    async with stand.trading():
        await stand.until(lambda: not stand.executor.unreconciled)
        stand.bar(EUR_USD=0)
        stand.order("hedge", PAIR, "sell", "500", stop_loss=9.0, take_profit=0.1)
        assert (await until_told(stand, "hedge"))["status"] == "filled"
        held = stand.ledger.holdings[PAIR]
        assert held.by_operator and (held.stop_loss, held.take_profit) == (9.0, 0.1)
        stand.bar(EUR_USD=1)  # the run's entry has had its chance: the instrument is taken
        stand.bar(EUR_USD=0)
        stand.order("more", PAIR, "sell", "300")
        assert (await until_told(stand, "more"))["kind"] == "increase"
        assert stand.positions() == {PAIR: "-800"}
        stand.require_exact()
    async with stand.trading():  # a restart knows whose it is
        await stand.until(lambda: not stand.executor.unreconciled)
        stand.bar(EUR_USD=1)
        await stand.until(lambda: stand.executor.parts.runs.decided()[PAIR] > 0)
        assert stand.positions() == {PAIR: "-800"}
        stand.command("close", PAIR, "ann", "over")
        await stand.until(lambda: not stand.ledger.holdings)
        stand.require_exact()


@pytest.mark.parametrize("gate", ["kill switch", "not eligible", "paused", "levels", "too large"])
async def test_an_order_that_opens_passes_every_guard(
    stand: Stand, broker: Handle, gate: str
) -> None:
    stand.settings = OPEN
    async with stand.trading():
        await stand.until(lambda: not stand.executor.unreconciled)
        stand.bar(EUR_USD=0)
        if gate == "kill switch":
            stand.kill.why = ("a test",)
        elif gate == "not eligible":
            stand.bar_not_eligible(EUR_USD=0)
        elif gate == "paused":
            stand.command("pause", PAIR, "ann", "storm")
        levels = {"stop_loss": 9.0} if gate == "levels" else {}
        stand.order("new", PAIR, "buy", "9000000" if gate == "too large" else "500", **levels)
        told = await until_told(stand, "new")
        assert told["status"] == "refused"
        failing = {
            "kill switch": "kill_switch",
            "not eligible": "eligible",
            "too large": "max_position_size",
        }.get(gate, gate)
        assert f"{failing}:" in told["detail"]
        assert stand.positions() == {}


async def test_the_kill_switch_does_not_hold_back_a_reduction(stand: Stand) -> None:
    async with stand.trading():
        await stand.opened(EUR_USD=1)
        stand.kill.why = ("a test",)
        stand.order("less", PAIR, "reduce", "1000")
        assert (await until_told(stand, "less"))["status"] == "filled"


async def test_an_old_order_is_not_carried_out(stand: Stand) -> None:
    async with stand.trading():
        await stand.opened(EUR_USD=1)
        before = stand.positions()
        stand.order("old", PAIR, "reduce", "1000", age_s=61.0)
        told = await until_told(stand, "old")
        assert told["status"] == "refused" and "order_age: 61." in told["detail"]
        assert stand.positions() == before


async def test_where_others_hold_something_an_order_by_units_is_refused(
    stand: Stand, broker: Handle
) -> None:
    async with stand.trading():
        await stand.opened(EUR_USD=1)
        foreign = {"type": "MARKET", "instrument": PAIR, "units": "777", "timeInForce": "FOK"}
        assert broker.api("POST", "/accounts/{account}/orders", {"order": foreign})[0] == 201
        await stand.until(lambda: PAIR in stand.executor.comparison.foreign_held)
        stand.order("less", PAIR, "reduce", "1000")
        told = await until_told(stand, "less")
        assert told["status"] == "refused" and "manifold close" in told["detail"]


async def test_an_answer_that_was_lost_is_looked_up_and_the_order_is_not_sent_again(
    stand: Stand, broker: Handle
) -> None:
    async with stand.trading():
        await stand.opened(EUR_USD=1)
        units = Decimal(stand.positions()[PAIR])
        broker.fault("lost_answer", method="POST", path="/orders$", count=1)
        stand.order("less", PAIR, "reduce", "1000")
        await stand.until(lambda: shown(stand, "less")["status"] == "filled")
        assert Decimal(stand.positions()[PAIR]) == units - 1000
        stand.require_exact()
