"""kill -9 of the executor at random instants of an order's life, on a broker that loses answers.

What is proven comes from the broker's own book: no order id filled twice, no fill that the log does
not have, no intent without an end, and positions that are those of the log.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streams.events import BrokerReport, OrderIntent
from streams.execution.ledger import Ledger
from streams.stack.kafka import KafkaBroker
from streams.topics import FILLS, ORDERS
from tests.deployment import Deployment
from tests.trading import ExecutorProcess, ScriptedLog, await_that, switch_off
from tests.v20 import V20Process

pytestmark = pytest.mark.kafka

KILLS = int(os.environ.get("MANIFOLD_FAULT_KILLS", "20"))
PAIRS = ("EUR_USD", "GBP_USD", "USD_JPY")
SETTINGS = {
    "TRADING_VENUE": "oanda",
    "TOPIC_PARTITIONS": "2",
    "HOTBAND_PAIRS": ",".join(PAIRS),
    "GATE_MODE": "static",
    "SESSION_TRADING_ENABLED": "0",
    "FRESH_MAX_SIGNAL_AGE_SEC": "86400",
    "GATES_BLOB_MAX_AGE_SEC": "86400",
    "ENTRY_COOLDOWN_SEC": "0",
    "MAX_SPREAD_BPS": "100",
    "FRESH_MAX_WS_AGE_SEC": "3600",
    "RISK_MAX_DAILY_LOSS": "1",
    "RISK_MAX_DRAWDOWN": "1",
    "RECONCILE_INTERVAL_SEC": "0.5",
    "ORDER_SETTLE_SEC": "0.7",
    "OANDA_HTTP_TIMEOUT_SEC": "3",
    "OANDA_CB_FAILURES": "1000",
}


@pytest.fixture
def broker() -> Iterator[V20Process]:
    with V20Process(hours="always") as made:
        yield made


@pytest.fixture
def floor(
    kafka: KafkaBroker, valkey_url: str, topic_prefix: str, tmp_path: Path, broker: V20Process
) -> Iterator[Deployment]:
    """A deployment whose venue is the test broker, the kill switch off."""
    deployment = Deployment(
        tmp_path,
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
        TOPIC_PREFIX=topic_prefix,
        VALKEY_URL=valkey_url,
        **SETTINGS,
        **broker.environment(),
    )
    yield deployment
    deployment.stop()


def script_of(deployment: Deployment, hours: int = 20) -> ScriptedLog:
    start_ms = int(time.time() * 1000) // 60_000 * 60_000 - hours * 3_600_000
    return ScriptedLog(deployment, PAIRS, start_ms)


def books(deployment: Deployment, account_id: str) -> Ledger:
    """Return what the log says is held."""
    ledger = Ledger(account_id, "practice")
    for intent in deployment.events(ORDERS):
        ledger.take_intent(intent)
    for report in deployment.events(FILLS):
        ledger.take_report(report)
    return ledger


def flat(said: dict[str, Any]) -> bool:
    return bool(said["reconciled"] and not said["joined"] and not said["unresolved"])


def require_exact(deployment: Deployment, broker: V20Process) -> Ledger:
    """Assert that the log and the broker's own book say the same."""
    account = broker.account()
    ledger = books(deployment, broker.account_id)
    for client_id, order in account["clientOrders"].items():
        assert order["submitted"] == 1, (client_id, order)
        assert order["filled"] <= 1, (client_id, order)
        assert client_id in ledger.intents, f"{client_id} was sent without an intent in the log"
    filled = {c: float(o["units"]) for c, o in account["clientOrders"].items() if o["filled"]}
    booked: dict[str, float] = {}
    for order_id, reports in ledger.reports.items():
        for report in reports:
            if report.status == "filled" and report.cause == "order":
                assert order_id not in booked, f"{order_id} is filled twice in the log"
                booked[order_id] = report.units * (1 if report.side == "buy" else -1)
    assert booked == filled
    assert not ledger.unresolved
    held = {name: h.signed_units for name, h in ledger.holdings.items()}
    assert held == {name: float(units) for name, units in account["positions"].items()}
    assert broker.violations() == []
    return ledger


def test_no_order_is_sent_twice_and_none_is_forgotten(
    floor: Deployment, broker: V20Process
) -> None:
    chance = random.Random(20)
    switch_off(floor)
    script = script_of(floor)
    executor = ExecutorProcess(floor)
    executor.start()
    executor.until_reconciled()
    killed = 0
    for kind, share in (("lost_answer", 0.15), ("cut_before", 0.05), ("reject_order", 0.05)):
        extra = {"reason": "MARKET_HALTED"} if kind == "reject_order" else {}
        broker.fault(kind, method="POST", path="/orders", probability=share, seed=7, **extra)
    broker.fault("slow", method="POST", path="/orders", delay_sec=0.06, probability=0.5, seed=3)
    broker.fault(
        "slow", method="POST", path="/orders", delay_sec=0.06, probability=0.5, seed=4, after=True
    )
    while killed < KILLS:
        script.bar({name: chance.choice((1, -1)) for name in PAIRS})
        if chance.random() < 0.5:
            killed += kill_and_start(executor, chance)
            require_intents_first(floor, broker)
        script.bar({name: 0 for name in PAIRS if chance.random() < 0.8})
        if chance.random() < 0.7:
            killed += kill_and_start(executor, chance)
        script.bar(dict.fromkeys(PAIRS, 0))
        executor.until(lambda said: said["epoch_ms"] > 0)
    broker.clear_faults()
    script.bar(dict.fromkeys(PAIRS, 0))
    executor.until(flat)
    ledger = require_exact(floor, broker)
    filled = [r for reports in ledger.reports.values() for r in reports if r.status == "filled"]
    assert len(filled) >= KILLS, "hardly anything was traded: the kills hit nothing"
    print(f"{killed} kills, {len(ledger.intents)} intents, {len(filled)} fills")


def kill_and_start(executor: ExecutorProcess, chance: random.Random) -> int:
    """Kill the executor at a random instant of what it does, and start it again."""
    time.sleep(chance.uniform(0.0, 0.45))
    assert executor.process is not None
    executor.process.child.kill()
    executor.start()
    executor.until_reconciled()
    return 1


def require_intents_first(deployment: Deployment, broker: V20Process) -> None:
    """Assert that everything the broker has ever seen stands in the order log."""
    sent = set(broker.account()["clientOrders"])
    known = {i.order_id for i in deployment.events(ORDERS) if isinstance(i, OrderIntent)}
    assert sent <= known


def test_an_accepted_order_whose_answer_is_lost_is_found_and_not_sent_again(
    floor: Deployment, broker: V20Process
) -> None:
    switch_off(floor)
    script, executor = script_of(floor), ExecutorProcess(floor)
    executor.start()
    executor.until_reconciled()
    broker.fault("lost_answer", method="POST", path="/orders", count=2)
    script.bar({})
    script.bar({"EUR_USD": 1, "GBP_USD": -1})
    executor.until(lambda said: len(said["joined"]) == 2 and not said["unresolved"])
    statuses = [r.status for r in floor.events(FILLS) if isinstance(r, BrokerReport)]
    assert statuses.count("unknown") == 2 and statuses.count("filled") >= 2
    ledger = require_exact(floor, broker)
    assert ledger.holdings["EUR_USD"].direction == 1
    assert ledger.holdings["GBP_USD"].direction == -1
    script.bar(dict.fromkeys(PAIRS, 0))
    executor.until(flat)
    require_exact(floor, broker)


def test_a_second_executor_ends_the_first_and_takes_over_its_orders(
    floor: Deployment, broker: V20Process
) -> None:
    switch_off(floor)
    script, first = script_of(floor), ExecutorProcess(floor, "first")
    first.start()
    first.until_reconciled()
    script.bar({})
    script.bar({"EUR_USD": 1})
    first.until(lambda said: "EUR_USD" in said["joined"])
    second = ExecutorProcess(floor, "second")
    second.start()
    second.until(lambda said: said["reconciled"] and "EUR_USD" in said["joined"])
    script.bar({"EUR_USD": 0, "GBP_USD": 1})
    second.until(lambda said: list(said["joined"]) == ["GBP_USD"] and not said["unresolved"])
    assert first.process is not None
    await_that(lambda: not first.process.child.running, first.words)
    assert first.process.child.returncode == 70, first.words()
    assert "order log cannot be written" in first.process.child.last_words(8)
    require_exact(floor, broker)


def test_a_venue_that_fails_in_part_stops_opening_and_not_closing(
    floor: Deployment, broker: V20Process
) -> None:
    switch_off(floor)
    script, executor = script_of(floor), ExecutorProcess(floor)
    executor.start()
    executor.until_reconciled()
    script.bar({})
    script.bar({"EUR_USD": 1})
    executor.until(lambda said: "EUR_USD" in said["joined"])
    broker.fault("status", code=503, method="GET")
    executor.until(lambda said: not said["reconciled"])
    script.bar({"EUR_USD": 0, "GBP_USD": 1})
    executor.until(lambda said: not said["joined"])
    assert broker.account()["positions"] == {}
    broker.clear_faults()
    executor.until_reconciled()
    script.bar({"GBP_USD": 1})
    executor.until(lambda said: flat(said))
    ledger = require_exact(floor, broker)
    opened = [i.instrument for i in ledger.intents.values() if i.kind == "open" and i.submitted]
    assert "USD_JPY" not in opened
