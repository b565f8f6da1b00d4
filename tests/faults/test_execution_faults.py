"""The executor on a broker that loses answers, delivers late or fails in part, and two executors.

What is proven comes from the broker's own book (``require_exact``). That it may be killed at any
instant of an order's life is proven in ``test_live_loop_kills``.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.records.topics import FILLS, ORDERS
from streams.records.trading_events import BrokerReport
from streams.stack.kafka import KafkaBroker
from tests.support.deployment import Deployment
from tests.support.trading import (
    PAIRS,
    ExecutorProcess,
    await_that,
    flat,
    oanda_floor,
    require_exact,
    script_of,
    switch_off,
)
from tests.support.v20 import V20Process

pytestmark = pytest.mark.kafka


@pytest.fixture
def broker() -> Iterator[V20Process]:
    with V20Process(hours="always") as made:
        yield made


@pytest.fixture
def floor(
    kafka: KafkaBroker, valkey_url: str, topic_prefix: str, tmp_path: Path, broker: V20Process
) -> Iterator[Deployment]:
    """A deployment whose venue is the test broker."""
    made = oanda_floor(tmp_path, kafka.bootstrap, topic_prefix, valkey_url, broker)
    yield made
    made.stop()


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


@pytest.mark.parametrize("goes_on", [True, False], ids=["the run goes on", "the run has ended"])
def test_an_order_that_arrives_after_it_was_given_up_is_booked_and_put_in_order(
    floor: Deployment, broker: V20Process, goes_on: bool
) -> None:
    switch_off(floor)
    script = script_of(floor)
    executor = ExecutorProcess(floor, OANDA_HTTP_TIMEOUT_SEC="1.5", PM_RAMP_STEP_PCT="1")
    executor.start()
    executor.until_reconciled()
    script.bar({})
    broker.fault("slow", method="POST", path="/orders", delay_sec=5.0, count=1)
    script.bar({"EUR_USD": 1})
    executor.until(lambda said: said["unresolved"])
    said = executor.until(lambda said: not said["unresolved"])
    assert not said["joined"]
    statuses = [r.status for r in floor.events(FILLS) if isinstance(r, BrokerReport)]
    assert statuses == ["unknown", "cancelled"]
    script.bar({} if goes_on else {"EUR_USD": 0})
    await_that(lambda: broker.account()["clientOrders"], executor.words)
    executor.until(lambda said: bool(said["joined"]) if goes_on else flat(said))
    ledger = require_exact(floor, broker)
    if not goes_on:
        await_that(lambda: "close" in {i.kind for i in floor.events(ORDERS)}, executor.words)
    assert [i.kind for i in ledger.intents.values()].count("open") == 1
    script.bar({"EUR_USD": 0})
    executor.until(flat)
    assert not require_exact(floor, broker).holdings


@pytest.mark.parametrize("frozen", [False, True], ids=["at work", "stopped and woken"])
def test_a_second_executor_ends_the_first_and_takes_over_its_orders(
    floor: Deployment, broker: V20Process, frozen: bool
) -> None:
    switch_off(floor)
    script, first = script_of(floor), ExecutorProcess(floor, "first")
    first.start()
    first.until_reconciled()
    script.bar({})
    script.bar({"EUR_USD": 1})
    first.until(lambda said: "EUR_USD" in said["joined"])
    assert first.process is not None
    if frozen:
        first.process.child.signal(signal.SIGSTOP)
    second = ExecutorProcess(floor, "second")
    second.start()
    second.until(lambda said: said["reconciled"] and "EUR_USD" in said["joined"])
    script.bar({"EUR_USD": 0, "GBP_USD": 1})
    second.until(lambda said: list(said["joined"]) == ["GBP_USD"] and not said["unresolved"])
    if frozen:
        first.process.child.signal(signal.SIGCONT)
    await_that(lambda: not first.process.child.running, first.words)
    assert first.process.child.returncode == 70, first.words()
    assert "order log cannot be written" in first.process.child.last_output(8)
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
