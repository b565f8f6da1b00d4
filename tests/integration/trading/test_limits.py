"""Limits on the v20 test broker: transfers, price bounds, exposure, losses in a row, FIFO, MT4."""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from streams.records.events import Control
from streams.records.topics import CONTROL, FILLS
from streams.records.trading_events import AccountState, OrderIntent
from streams.stack.kafka import KafkaBroker
from tests.integration.trading.test_trading import Floor
from tests.support.deployment import Deployment
from tests.support.trading import (
    PAIRS,
    SETTINGS,
    ScriptedLog,
    await_that,
    flat,
    script_of,
    switch_off,
)
from tests.support.v20 import V20Process

pytestmark = pytest.mark.kafka

OUT = dict.fromkeys(PAIRS, 0)
FRIDAY_MS = 1_709_933_400_000
"""2024-03-08 21:30 UTC, half an hour before the market week ends."""
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def hall(
    kafka: KafkaBroker, new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Deployment, ScriptedLog]]:
    """One log for all tests of this module; each has a broker and an account of its own."""
    made = Deployment(
        tmp_path_factory.mktemp("limits"),
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
        TOPIC_PREFIX=f"t{uuid.uuid4().hex[:8]}.",
        VALKEY_URL=new_database(),
        **SETTINGS,
    )
    switch_off(made)
    yield made, script_of(made)
    made.stop()


@pytest.fixture
def open_floor(hall: tuple[Deployment, ScriptedLog]) -> Iterator[Callable[..., Floor]]:
    """Make a floor on a broker of its own."""
    deployment, script = hall
    made: list[Floor] = []

    def make(**options: Any) -> Floor:
        account = f"101-003-{next(_numbers):07d}-001"
        broker = V20Process(hours="always", account_id=account, **options).start()
        made.append(Floor(deployment, script, broker))
        return made[-1]

    yield make
    for floor in made:
        process = floor.executor.process
        if process is not None and process.child.running:
            assert process.stop() == 0, floor.executor.words()
        floor.broker.stop()
    script.bar(OUT)


@pytest.fixture
def switched(hall: tuple[Deployment, ScriptedLog]) -> Iterator[None]:
    """The kill switch is off again after the test."""
    yield
    done = hall[0].run("kill", "off", "--reason", "the test is over")
    assert done.returncode == 0, done.stderr


def states(floor: Floor) -> list[AccountState]:
    """Return the records of what the account's limits compare with."""
    found = [e for e in floor.deployment.events(FILLS) if isinstance(e, AccountState)]
    return [state for state in found if state.account_id == floor.broker.account_id]


def restart(floor: Floor) -> None:
    """Kill the executor and start it again."""
    assert floor.executor.process is not None
    floor.executor.process.child.kill()
    floor.executor.start()
    floor.executor.until_reconciled()


def of(floor: Floor, instrument: str) -> list[OrderIntent]:
    """Return the account's intents in an instrument."""
    return [i for i in floor.intents() if i.instrument == instrument]


def failing(intent: OrderIntent) -> dict[str, str]:
    """Return the guards that held an intent back, and what they said."""
    return {v.guard: v.detail for v in intent.guards if not v.passed}


def test_withdrawals_are_no_loss_and_deposits_hide_none(open_floor: Callable[..., Floor]) -> None:
    floor = open_floor(balance="100000")
    floor.broker.price("EUR_USD", "1.10000", "1.10010")
    script, executor = floor.trade(
        RISK_MAX_DRAWDOWN="0.1", RISK_MAX_DAILY_LOSS="0.05", PM_RAMP_STEP_PCT="1"
    )
    executor.until(lambda said: said["limits"]["peak_nav"] == 100_000.0)
    assert executor.process is not None
    executor.process.child.kill()
    floor.broker.transfer("-15000")
    executor.start()
    executor.until_reconciled()
    (moved,) = [s for s in states(floor) if s.cause == "transfer"]
    assert (moved.amount, moved.nav) == (-15_000.0, 85_000.0)
    assert (moved.peak_nav, moved.day_start_nav) == (85_000.0, 85_000.0)
    script.bar({"EUR_USD": 1}, pct=0.3)
    executor.until(lambda said: "EUR_USD" in said["joined"])
    # the market falls through the stop: 15 % of the account is lost
    floor.broker.price("EUR_USD", "0.55000", "0.55010")
    said = executor.until(lambda said: flat(said) and said["limits"]["drawdown"] > 0.1)
    lost = said["limits"]["drawdown"]
    floor.broker.transfer("100000")
    restart(floor)
    said = executor.until(lambda said: said["limits"]["peak_nav"] > 150_000.0)
    assert said["limits"]["drawdown"] == pytest.approx(lost, rel=1e-9)
    before = states(floor)[-1]
    restart(floor)
    assert states(floor)[-1] == before, "a restart changes nothing of it"
    end_ms = script.bar({"EUR_USD": 0, "GBP_USD": 1})
    executor.until(lambda said: said["epoch_ms"] >= end_ms)
    (held_back,) = of(floor, "GBP_USD")
    assert failing(held_back).keys() == {"daily_loss", "drawdown"}
    assert failing(held_back)["drawdown"].startswith(f"{lost:.4%}")
    script.bar(OUT)
    executor.until(flat)
    floor.exact()


def test_an_order_is_not_filled_further_from_its_quote_than_max_slippage_bps(
    open_floor: Callable[..., Floor],
) -> None:
    floor = open_floor()
    floor.broker.price("EUR_USD", "1.10000", "1.10010")
    floor.broker.price("GBP_USD", "1.25000", "1.25010")
    script, executor = floor.trade(MAX_SLIPPAGE_BPS="5", OANDA_HTTP_TIMEOUT_SEC="60")
    floor.broker.fault("slow", method="POST", path="/orders$", delay_sec=2, count=1)
    script.bar({"EUR_USD": 1, "GBP_USD": 1})
    await_that(lambda: floor.broker.requests("/orders"), executor.words)
    # the market moves by 45 bps while the order is on its way, and the other's spread widens
    floor.broker.price("EUR_USD", "1.10500", "1.10510")
    floor.broker.price("GBP_USD", "1.25000", "1.27000")
    end_ms = script.next_end_ms - 60_000
    said = executor.until(lambda said: said["epoch_ms"] >= end_ms and not said["unresolved"])
    (opening,) = of(floor, "EUR_USD")
    assert opening.price_bound == 1.10065
    sent = json.loads(floor.broker.requests("/orders")[0]["body"])["order"]
    assert sent["priceBound"] == "1.10065"
    (report,) = [r for r in floor.reports() if r.order_id == opening.order_id]
    assert (report.status, report.reason) == ("cancelled", "BOUNDS_VIOLATION")
    assert not said["joined"] and floor.broker.account()["positions"] == {}
    # the second order is judged by the prices of its own moment
    (late,) = await_that(lambda: of(floor, "GBP_USD"), executor.words)
    assert failing(late).keys() == {"spread"}, failing(late)
    floor.broker.price("GBP_USD", "1.25000", "1.25010")
    script.bar({"EUR_USD": 0, "GBP_USD": 0})
    script.bar({"GBP_USD": 1})
    executor.until(lambda said: "GBP_USD" in said["joined"])
    floor.broker.fault("slow", path="/close$", delay_sec=1, count=1)
    script.bar(OUT)
    await_that(lambda: floor.broker.requests("/close"), executor.words)
    floor.broker.price("GBP_USD", "1.20000", "1.20010")
    executor.until(flat)  # a closing is filled wherever the market is
    floor.exact()


def kill_words(floor: Floor) -> list[str]:
    """Return the executor's reasons for engaging the kill switch in its account."""
    found = [e for e in floor.deployment.events(CONTROL) if isinstance(e, Control)]
    mine = [e for e in found if e.kind == "kill_switch" and e.actor == "executor"]
    return [e.reason for e in mine if floor.broker.account_id in e.reason]


def lose(floor: Floor, instrument: str, low: str, high: str) -> None:
    """Let a run enter at a price and leave at a lower one."""
    floor.broker.price(instrument, high, f"{float(high) + 0.0001:.5f}")
    floor.script.bar({instrument: 1})
    floor.executor.until(lambda said: instrument in said["joined"])
    floor.broker.price(instrument, low, f"{float(low) + 0.0001:.5f}")
    floor.script.bar({instrument: 0})
    floor.executor.until(flat)


def test_losing_trades_in_a_row_engage_the_kill_switch_once(
    open_floor: Callable[..., Floor], switched: None
) -> None:
    floor = open_floor()
    script, executor = floor.trade(RISK_MAX_CONSECUTIVE_LOSSES="2")
    lose(floor, "EUR_USD", "1.09900", "1.10000")
    assert not kill_words(floor)
    restart(floor)  # the first loss is in the log
    lose(floor, "GBP_USD", "1.24900", "1.25000")
    said = executor.until(lambda said: said["kill_switch"]["engaged"])
    (word,) = kill_words(floor)
    assert word.startswith("2 losing trades in a row (EUR_USD, GBP_USD: -")
    assert "RISK_MAX_CONSECUTIVE_LOSSES 2" in said["kill_switch"]["why"][0]
    await_that(lambda: [s for s in states(floor) if s.cause == "losses"], executor.words)
    script.bar({"USD_JPY": 1})
    (held_back,) = await_that(lambda: of(floor, "USD_JPY"), executor.words)
    assert failing(held_back).keys() == {"kill_switch"}
    script.bar(OUT)
    # cleared by an operator it stays off: the same trades count once, after a restart too
    assert floor.run("kill", "off", "--reason", "looked at it").returncode == 0
    restart(floor)
    script.bar({"EUR_USD": 1})
    executor.until(lambda said: "EUR_USD" in said["joined"])
    assert kill_words(floor) == [word]
    script.bar(OUT)
    executor.until(flat)
    floor.exact()


def test_exposure_is_capped_by_currency_and_above_the_ceiling_engages_the_kill_switch(
    open_floor: Callable[..., Floor], switched: None
) -> None:
    floor = open_floor(balance="100000")
    script, executor = floor.trade(
        RISK_MAX_TOTAL_EXPOSURE_PCT="0.3", RISK_MAX_CURRENCY_EXPOSURE_PCT="0.12",
        PM_RAMP_STEP_PCT="1",
    )  # fmt: skip
    script.bar({"EUR_USD": 1}, pct=0.1)
    executor.until(lambda said: "EUR_USD" in said["joined"])
    end_ms = script.bar({"GBP_USD": 1, "USD_JPY": 1}, pct=0.1)
    executor.until(lambda said: said["epoch_ms"] >= end_ms and "USD_JPY" in said["joined"])
    (held_back,) = of(floor, "GBP_USD")  # short of dollars by 20 % with it; USD_JPY buys them back
    assert failing(held_back).keys() == {"currency_exposure"}
    assert "USD -0." in failing(held_back)["currency_exposure"]
    assert not kill_words(floor)
    order = {"type": "MARKET", "instrument": "USD_CAD", "units": "15000", "timeInForce": "FOK"}
    assert floor.broker.api("POST", "/accounts/{account}/orders", {"order": order})[0] == 201
    said = executor.until(lambda said: said["kill_switch"]["engaged"])
    assert "RISK_MAX_TOTAL_EXPOSURE_PCT 0.3" in said["kill_switch"]["why"][0]
    assert len(kill_words(floor)) == 1
    # while it is above, "off" does not last, whichever executor looks
    assert floor.run("kill", "off", "--reason", "a try").returncode in (0, 1)
    await_that(lambda: len(kill_words(floor)) >= 2, executor.words)
    script.bar(OUT)
    executor.until(flat)


def test_what_is_held_is_closed_before_the_market_week_ends(
    kafka: KafkaBroker, valkey_url: str, topic_prefix: str, tmp_path: Any
) -> None:
    broker = V20Process(hours="fx", start="2024-03-08T21:30:00Z").start()
    deployment = Deployment(
        tmp_path, KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap, TOPIC_PREFIX=topic_prefix,
        VALKEY_URL=valkey_url, **SETTINGS | broker.environment(),
    )  # fmt: skip
    try:
        switch_off(deployment)
        script = ScriptedLog(deployment, PAIRS, FRIDAY_MS - 600_000)
        floor = Floor(deployment, script, broker)
        _, executor = floor.trade(WEEKEND_REDUCE_MINUTES="15")
        script.bar({"EUR_USD": 1})
        executor.until(lambda said: "EUR_USD" in said["joined"])
        broker.control("POST", "/clock", {"to": "2024-03-08T21:44:01Z"})
        executor.until(flat)
        closing = of(floor, "EUR_USD")[-1]
        assert closing.kind == "close" and "WEEKEND_REDUCE_MINUTES 15" in closing.reason
        assert broker.account()["positions"] == {}
        end_ms = script.bar({"GBP_USD": 1})
        executor.until(lambda said: said["epoch_ms"] >= end_ms)
        (held_back,) = of(floor, "GBP_USD")
        assert failing(held_back).keys() == {"week_end"}
        floor.exact()
        assert executor.process is not None and executor.process.stop() == 0
    finally:
        deployment.stop()
        broker.stop()


def test_on_a_fifo_account_one_refusal_teaches_the_sizes_and_there_is_no_other(
    open_floor: Callable[..., Floor],
) -> None:
    floor = open_floor(fifo=True, balance="100000")
    floor.broker.price("EUR_USD", "1.10000", "1.10010")
    script, executor = floor.trade(PM_RAMP_STEP_PCT="0.25", PM_REBALANCE_MIN_PCT="0.05")

    def refusals() -> list[str]:
        booked = floor.broker.account()["transactions"]
        return [t["reason"] for t in booked if "FIFO" in t.get("reason", "")]

    def ramped(name: str) -> Any:
        executor.until(lambda said: name in said["joined"])
        held = floor.exact().holdings.get(name)
        return held and len(held.trades) >= 4 and held

    script.bar({"EUR_USD": 1}, pct=0.1)
    held = await_that(lambda: ramped("EUR_USD"), executor.words)
    assert refusals() == ["FIFO_VIOLATION_SAFEGUARD_VIOLATION"]
    sizes = list(held.trades.values())
    assert len(set(sizes)) == len(sizes)
    assert float(held.units) * 1.1 == pytest.approx(10_000.0, rel=0.06)
    trades = floor.broker.api("GET", "/accounts/{account}/openTrades")[1]["trades"]
    assert all("stopLossOrder" in t and "takeProfitOrder" in t for t in trades)
    restart(floor)  # the refusal is in the log
    script.bar({"GBP_USD": -1}, pct=0.1)
    await_that(lambda: ramped("GBP_USD"), executor.words)
    assert len(refusals()) == 1
    script.bar({}, pct=0.05)  # half of it is given back, and no two sizes meet
    executor.until(lambda said: abs(said["joined"]["EUR_USD"]["units"]) < 6_000)
    script.bar(OUT)
    executor.until(flat)
    floor.exact()
    assert len(refusals()) == 1


def test_an_mt4_account_gets_no_client_ids_and_a_lost_answer_blocks_until_the_book_shows_it(
    open_floor: Callable[..., Floor],
) -> None:
    floor = open_floor(mt4_account_id=7)
    script, executor = floor.trade(PM_RAMP_STEP_PCT="1")
    floor.broker.fault("lost_answer", method="POST", path="/orders$", count=1, how="hang")
    script.bar({"EUR_USD": 1})
    await_that(lambda: "EUR_USD" in floor.broker.account()["positions"], executor.words)
    down = floor.broker.fault("status", code=503, path="/sinceid$")
    said = executor.until(lambda said: said["blocked"].get("EUR_USD"))
    assert "takes no client ids" in said["blocked"]["EUR_USD"][-1] and said["unresolved"]
    assert executor.process is not None
    executor.process.child.kill()
    executor.start()  # nothing of it is in memory any more
    executor.until(lambda said: said["unresolved"] and not said["reconciled"])
    floor.broker.control("DELETE", f"/faults/{down}")
    said = executor.until(lambda said: "EUR_USD" in said["joined"] and not said["unresolved"])
    (opening,) = of(floor, "EUR_USD")
    ends = [r for r in floor.reports() if r.order_id == opening.order_id]
    assert [(r.status, r.cause) for r in ends] == [("unknown", "order"), ("filled", "order")]
    # an order that never arrived: its instrument waits, the others go on
    floor.broker.fault("cut_before", method="POST", path="/orders$", count=1)
    script.bar({"GBP_USD": 1})
    executor.until(lambda said: said["blocked"].get("GBP_USD"))
    seen_ms = executor.until_reconciled()["last_cycle_ms"]
    script.bar({"USD_JPY": 1})
    said = executor.until(
        lambda said: "USD_JPY" in said["joined"] and said["last_cycle_ms"] > seen_ms + 2_000
    )
    assert len(said["unresolved"]) == 1, "more than ORDER_SETTLE_SEC has gone by"
    assert "GBP_USD" in said["blocked"]
    floor.broker.advance(901)
    executor.until(lambda said: not said["unresolved"])
    assert "GBP_USD" not in floor.broker.account()["positions"]
    script.bar(OUT)
    executor.until(flat)
    assert floor.broker.account()["positions"] == {}
    assert floor.broker.account()["clientOrders"] == {}
    assert floor.broker.violations() == []
    bodies = [r["body"] for r in floor.broker.requests("/accounts/") if r["method"] != "GET"]
    assert bodies and not any("xtensions" in body for body in bodies)
