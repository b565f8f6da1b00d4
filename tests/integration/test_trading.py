"""The executor on the v20 test broker: switches, brackets, flatten, strangers, margin."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streams.events import BrokerReport, Control, OrderIntent
from streams.stack.kafka import KafkaBroker
from streams.topics import CONTROL, FILLS, ORDERS
from tests.deployment import Deployment
from tests.trading import (
    PAIRS,
    ExecutorProcess,
    ScriptedLog,
    await_that,
    books,
    flat,
    oanda_floor,
    require_exact,
    script_of,
    switch_off,
)
from tests.v20 import V20Process

pytestmark = pytest.mark.kafka


@pytest.fixture
def broker() -> Iterator[V20Process]:
    with V20Process(hours="always") as made:
        yield made


@pytest.fixture
def floor(
    kafka: KafkaBroker, valkey_url: str, topic_prefix: str, tmp_path: Path, broker: V20Process
) -> Iterator[Deployment]:
    """A deployment whose venue is the test broker, the kill switch off."""
    made = oanda_floor(tmp_path, kafka.bootstrap, topic_prefix, valkey_url, broker)
    switch_off(made)
    yield made
    made.stop()


def started(floor: Deployment, **settings: str) -> tuple[ScriptedLog, ExecutorProcess]:
    """Return a script whose first bar is written, and an executor that has reconciled."""
    script, executor = script_of(floor), ExecutorProcess(floor, **settings)
    executor.start()
    executor.until_reconciled()
    script.bar({})
    return script, executor


def intents(floor: Deployment) -> list[OrderIntent]:
    return [event for event in floor.events(ORDERS) if isinstance(event, OrderIntent)]


def test_brackets_are_the_runs_levels_and_the_brokers_stop_is_booked(
    floor: Deployment, broker: V20Process
) -> None:
    script, executor = started(floor)
    broker.price("EUR_USD", "1.10000", "1.10010")
    script.bar({"EUR_USD": 1, "USD_JPY": -1})
    said = executor.until(lambda said: len(said["joined"]) == 2 and not said["unresolved"])
    assert said["joined"]["EUR_USD"]["entry_price"] == 1.1001

    def levelled() -> list[dict[str, Any]]:
        found = broker.api("GET", "/accounts/{account}/openTrades")[1]["trades"]
        wanted = executor.status()
        assert wanted is not None
        joined = wanted["joined"]
        return [
            trade
            for trade in found
            if abs(float(trade["stopLossOrder"]["price"])
                   - joined[trade["instrument"]]["stop_loss"]) <= 0.00050001
            and abs(float(trade["takeProfitOrder"]["price"])
                    - joined[trade["instrument"]]["take_profit"]) <= 0.00050001
        ]  # fmt: skip

    trades = {t["instrument"]: t for t in await_that(lambda: len(levelled()) >= 2 and levelled(),
                                                     executor.words)}  # fmt: skip
    # the formula of the run, from the price of our fill, in the instrument's decimals
    assert trades["EUR_USD"]["stopLossOrder"]["price"] == "1.08635"
    assert trades["EUR_USD"]["takeProfitOrder"]["price"] == "1.10560"
    assert len(trades["USD_JPY"]["stopLossOrder"]["price"].partition(".")[2]) == 3
    broker.price("EUR_USD", "1.08600", "1.08610")
    executor.until(lambda said: "EUR_USD" not in said["joined"])
    ledger = require_exact(floor, broker)
    stops = [
        r for reports in ledger.reports.values() for r in reports if r.cause == "stop_loss"
    ]  # fmt: skip
    assert stops and all(r.side == "sell" and r.instrument == "EUR_USD" for r in stops)
    script.bar({})  # the run goes on: it is not joined again in the middle
    end_ms = script.bar({})
    executor.until(lambda said: said["epoch_ms"] >= end_ms)
    assert [i.kind for i in intents(floor) if i.instrument == "EUR_USD"].count("open") == 1


def test_the_kill_switch_holds_back_openings_and_lets_closings_through(
    floor: Deployment, broker: V20Process
) -> None:
    script, executor = started(floor)
    script.bar({"EUR_USD": 1})
    executor.until(lambda said: "EUR_USD" in said["joined"])
    assert floor.run("kill", "on", "--reason", "test").returncode == 0
    end_ms = script.bar({"GBP_USD": 1})
    executor.until(lambda said: said["epoch_ms"] >= end_ms)
    (held_back,) = [i for i in intents(floor) if i.instrument == "GBP_USD"]
    assert not held_back.submitted
    verdict = next(v for v in held_back.guards if v.guard == "kill_switch")
    assert not verdict.passed and "test" in verdict.detail
    assert len(held_back.guards) > 30, "not every guard is recorded"
    script.bar(dict.fromkeys(PAIRS, 0))
    said = executor.until(flat)
    assert said["kill_switch"]["engaged"]
    assert "kill_switch" in said["blocked"]["GBP_USD"][0]
    ledger = require_exact(floor, broker)
    assert {i.kind for i in ledger.intents.values() if i.submitted} >= {"open", "close"}


def test_flatten_is_obeyed_by_the_executor_that_runs(floor: Deployment, broker: V20Process) -> None:
    script, executor = started(floor)
    script.bar({"EUR_USD": 1, "GBP_USD": -1})
    executor.until(lambda said: len(said["joined"]) == 2)
    done = floor.run("flatten", "--reason", "storm", "--actor", "ops", "--wait", "30")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing of ours is held" in done.stdout and "taking over" not in done.stdout
    executor.until(flat)
    ledger = require_exact(floor, broker)
    closed = [i for i in ledger.intents.values() if i.kind == "close"]
    assert {i.reason for i in closed} == {"flatten by ops: storm"}
    kinds = [e.kind for e in floor.events(CONTROL) if isinstance(e, Control)]
    assert kinds[-2:] == ["kill_switch", "flatten"]
    assert floor.run("kill", "status").returncode == 1


def test_flatten_closes_by_itself_when_no_executor_runs(
    floor: Deployment, broker: V20Process
) -> None:
    script, executor = started(floor)
    script.bar({"EUR_USD": 1})
    executor.until(lambda said: "EUR_USD" in said["joined"])
    assert executor.process is not None
    executor.process.child.kill()
    done = floor.run("flatten", "--reason", "storm", "--wait", "0")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "taking over" in done.stdout
    assert not require_exact(floor, broker).holdings
    refused = floor.run("flatten", "--reason", "storm", READ_ONLY="1")
    assert refused.returncode == 2 and "READ_ONLY" in refused.stderr


def test_what_others_hold_is_said_blocks_its_instrument_and_is_not_touched(
    floor: Deployment, broker: V20Process
) -> None:
    order = {"type": "MARKET", "instrument": "EUR_USD", "units": "777", "timeInForce": "FOK"}
    status, _ = broker.api("POST", "/accounts/{account}/orders", {"order": order})
    assert status == 201
    script, executor = started(floor)
    said = executor.until(lambda said: said["differences"])
    assert "777 units is not ours" in said["differences"][0]
    script.bar({"EUR_USD": 1, "GBP_USD": 1})
    executor.until(lambda said: "GBP_USD" in said["joined"])
    (held_back,) = [i for i in intents(floor) if i.instrument == "EUR_USD"]
    assert [v.guard for v in held_back.guards if not v.passed] == ["foreign"]
    script.bar(dict.fromkeys(PAIRS, 0))
    executor.until(lambda said: not said["joined"] and not said["unresolved"])
    assert broker.account()["positions"] == {"EUR_USD": "777"}


def test_what_somebody_closed_by_hand_is_booked_and_not_closed_again(
    floor: Deployment, broker: V20Process
) -> None:
    script, executor = started(floor)
    script.bar({"EUR_USD": 1})
    executor.until(lambda said: "EUR_USD" in said["joined"])
    body = {"longUnits": "ALL"}
    assert broker.api("PUT", "/accounts/{account}/positions/EUR_USD/close", body)[0] == 200
    executor.until(flat)
    held = books(floor, broker.account_id).holdings
    assert held == {}
    script.bar({"EUR_USD": 0})
    end_ms = script.bar({})
    executor.until(lambda said: said["epoch_ms"] >= end_ms)
    assert [i.kind for i in intents(floor)].count("close") == 0
    others = [e for e in floor.events(FILLS) if isinstance(e, BrokerReport) and e.cause == "other"]
    assert sum(r.units for r in others) > 0


def test_nothing_is_sent_read_only_or_dry(floor: Deployment, broker: V20Process) -> None:
    script, executor = started(floor, READ_ONLY="1", DRY_RUN_TRADES="1")
    end_ms = script.bar({"EUR_USD": 1})
    executor.until(lambda said: said["epoch_ms"] >= end_ms)
    (intent,) = intents(floor)
    assert not intent.submitted
    assert [v.guard for v in intent.guards if not v.passed] == ["read_only", "dry_run"]
    assert intent.units > 0 and intent.stop_loss is not None
    assert broker.account()["clientOrders"] == {}


def test_too_much_margin_in_use_engages_the_kill_switch(
    kafka: KafkaBroker, valkey_url: str, topic_prefix: str, tmp_path: Path
) -> None:
    with V20Process(hours="always", balance="1000", margin_rate="0.05") as broker:
        floor = oanda_floor(tmp_path, kafka.bootstrap, topic_prefix, valkey_url, broker)
        try:
            switch_off(floor)
            order = {"type": "MARKET", "instrument": "USD_CAD", "units": "17000"}
            order["timeInForce"] = "FOK"
            assert broker.api("POST", "/accounts/{account}/orders", {"order": order})[0] == 201
            _, executor = started(floor)
            said = executor.until(lambda said: said["kill_switch"]["engaged"])
            assert "MARGIN_OVERLOAD" in said["kill_switch"]["why"][0]
        finally:
            floor.stop()


def test_health_and_metrics_tell_what_is_going_on(floor: Deployment) -> None:
    script, executor = started(floor)
    script.bar({"EUR_USD": 1})
    executor.until(lambda said: "EUR_USD" in said["joined"])
    base = f"http://127.0.0.1:{executor.port}"
    with urllib.request.urlopen(f"{base}/healthz") as answer:
        assert answer.status == 200
    with urllib.request.urlopen(f"{base}/metrics") as answer:
        text = answer.read().decode()
    assert 'sep_strategy_entry_total{instrument="EUR_USD"} 1.0' in text
    assert "manifold_reconciled 1.0" in text
    token = floor.environment["OANDA_API_KEY"]
    said = (floor.directory / "trade.log").read_text()
    assert token not in said + text
    assert all(token not in e.raw for e in floor.events(FILLS) if isinstance(e, BrokerReport))


def test_a_port_that_is_taken_and_a_missing_token_are_one_sentence(floor: Deployment) -> None:
    done = floor.run("trade", OANDA_API_KEY="")
    assert done.returncode == 2 and "OANDA_API_KEY" in done.stderr
    assert "Traceback" not in done.stderr
    done = floor.run("trade", OANDA_ENVIRONMENT="live")
    assert done.returncode == 2 and "LIVE_TRADING_ENABLED" in done.stderr
