"""The executor on the v20 test broker: switches, brackets, flatten, strangers, margin."""

from __future__ import annotations

import itertools
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from streams.kafka.control_topic import append_control
from streams.records.events import Control
from streams.records.topics import CONTROL, FILLS, ORDERS
from streams.records.trading_events import BrokerReport, OrderIntent
from streams.stack.kafka import KafkaBroker
from streams.trading.ledger import Ledger
from streams.trading.reconcile_command import reconcile_record
from tests.support.deployment import Deployment
from tests.support.trading import (
    PAIRS,
    SETTINGS,
    ExecutorProcess,
    ScriptedLog,
    await_that,
    flat,
    require_exact,
    script_of,
    switch_off,
)
from tests.support.v20 import V20Process
from tests.support.waiting import PATIENCE_S

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def hall(
    kafka: KafkaBroker, new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Deployment, ScriptedLog]]:
    """One log for all tests of this module; each has a broker and an account of its own."""
    made = Deployment(
        tmp_path_factory.mktemp("hall"),
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
        TOPIC_PREFIX=f"t{uuid.uuid4().hex[:8]}.",
        VALKEY_URL=new_database(),
        **SETTINGS,
    )
    switch_off(made)
    yield made, script_of(made)
    made.stop()


class Floor:
    """The log, a broker, and what of the log is of its account."""

    def __init__(self, deployment: Deployment, script: ScriptedLog, broker: V20Process) -> None:
        self.deployment, self.script, self.broker = deployment, script, broker
        self.executor = ExecutorProcess(deployment, broker.account_id, **broker.environment())

    def trade(self, **settings: str) -> tuple[ScriptedLog, ExecutorProcess]:
        """Start the executor, wait until it has reconciled, and write a bar without positions."""
        self.executor.settings |= settings
        self.executor.start()
        self.executor.until_reconciled()
        self.script.bar(dict.fromkeys(PAIRS, 0))
        return self.script, self.executor

    def run(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run a command with the settings of the broker."""
        return self.deployment.run(*arguments, **self.broker.environment() | settings)

    def exact(self) -> Ledger:
        """Assert that log and broker agree; return the books."""
        return require_exact(self.deployment, self.broker)

    def intents(self) -> list[OrderIntent]:
        """Return the account's intents."""
        found = self.deployment.events(ORDERS)
        return [i for i in found if i.account_id == self.broker.account_id]

    def reports(self) -> list[BrokerReport]:
        """Return the account's reports."""
        found = self.deployment.events(FILLS)
        mine = [r for r in found if isinstance(r, BrokerReport)]
        return [r for r in mine if r.account_id == self.broker.account_id]


_numbers = itertools.count(1)


@pytest.fixture
def open_floor(hall: tuple[Deployment, ScriptedLog]) -> Iterator[Callable[..., Floor]]:
    """Make a floor on a broker of its own: ``open_floor(balance="1000")``."""
    deployment, script = hall
    made: list[Floor] = []

    def make(**options: Any) -> Floor:
        account = f"101-001-{next(_numbers):07d}-001"
        broker = V20Process(hours="always", account_id=account, **options).start()
        made.append(Floor(deployment, script, broker))
        return made[-1]

    yield make
    for floor in made:
        process = floor.executor.process
        if process is not None and process.child.running:
            assert process.stop() == 0, floor.executor.words()
        floor.broker.stop()
    script.bar(dict.fromkeys(PAIRS, 0))


@pytest.fixture
def floor(open_floor: Callable[..., Floor]) -> Floor:
    """A floor on a broker with plenty of money."""
    return open_floor()


@pytest.fixture
def switched(hall: tuple[Deployment, ScriptedLog]) -> Iterator[None]:
    """The kill switch is off again after the test."""
    yield
    done = hall[0].run("kill", "off", "--reason", "the test is over")
    assert done.returncode == 0, done.stderr


def test_brackets_are_the_runs_levels_and_the_brokers_stop_is_booked(
    floor: Floor,
) -> None:
    script, executor = floor.trade()
    floor.broker.price("EUR_USD", "1.10000", "1.10010")
    script.bar({"EUR_USD": 1, "USD_JPY": -1})
    said = executor.until(lambda said: len(said["joined"]) == 2 and not said["unresolved"])
    assert said["joined"]["EUR_USD"]["entry_price"] == 1.1001

    def levelled() -> list[dict[str, Any]]:
        found = floor.broker.api("GET", "/accounts/{account}/openTrades")[1]["trades"]
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
    floor.broker.price("EUR_USD", "1.08600", "1.08610")
    executor.until(lambda said: "EUR_USD" not in said["joined"])
    ledger = floor.exact()
    stops = [
        r for reports in ledger.reports.values() for r in reports if r.cause == "stop_loss"
    ]  # fmt: skip
    assert stops and all(r.side == "sell" and r.instrument == "EUR_USD" for r in stops)
    script.bar({})  # the run goes on: it is not joined again in the middle
    end_ms = script.bar({})
    executor.until(lambda said: said["epoch_ms"] >= end_ms)
    assert [i.kind for i in floor.intents() if i.instrument == "EUR_USD"].count("open") == 1


def test_the_kill_switch_holds_back_openings_and_lets_closings_through(
    floor: Floor, switched: None
) -> None:
    script, executor = floor.trade()
    script.bar({"EUR_USD": 1})
    executor.until(lambda said: "EUR_USD" in said["joined"])
    assert floor.run("kill", "on", "--reason", "test").returncode == 0
    end_ms = script.bar({"GBP_USD": 1})
    executor.until(lambda said: said["epoch_ms"] >= end_ms)
    (held_back,) = [i for i in floor.intents() if i.instrument == "GBP_USD"]
    assert not held_back.submitted
    verdict = next(v for v in held_back.guards if v.guard == "kill_switch")
    assert not verdict.passed and "test" in verdict.detail
    assert len(held_back.guards) > 30, "not every guard is recorded"
    script.bar(dict.fromkeys(PAIRS, 0))
    said = executor.until(flat)
    assert said["kill_switch"]["engaged"]
    assert "kill_switch" in said["blocked"]["GBP_USD"][0]
    ledger = floor.exact()
    assert {i.kind for i in ledger.intents.values() if i.submitted} >= {"open", "close"}


def test_a_word_to_reconcile_is_obeyed_at_once_by_the_executor_of_its_account(
    floor: Floor,
) -> None:
    script, executor = floor.trade(RECONCILE_INTERVAL_SEC="3600")
    end_ms = script.bar(dict.fromkeys(PAIRS, 0))
    executor.until(lambda said: said["epoch_ms"] >= end_ms)

    def say(account_id: str) -> None:
        word = reconcile_record(account_id, "ann", "look", int(time.time() * 1000))
        append_control(floor.deployment.runtime, floor.deployment.codec, [word])

    def reconciles() -> int:
        return len(floor.broker.requests("openTrades"))

    before, cycle_ms = reconciles(), executor.status()["last_cycle_ms"]  # type: ignore[index]
    say("101-001-9999999-001")
    executor.until(lambda said: said["last_cycle_ms"] > cycle_ms)
    assert reconciles() == before
    say(floor.broker.account_id)
    await_that(lambda: reconciles() == before + 1, executor.words)
    assert "'ann': 'look'" in executor.words()


def test_the_executors_port_takes_no_calls(floor: Floor) -> None:
    _, executor = floor.trade()
    for path in ("/reconcile", "/status", "/"):
        request = urllib.request.Request(
            f"http://127.0.0.1:{executor.port}{path}", data=b"{}", method="POST"
        )
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=PATIENCE_S)
        assert refused.value.code in (404, 405)


def test_flatten_is_obeyed_by_the_executor_that_runs(floor: Floor, switched: None) -> None:
    script, executor = floor.trade()
    script.bar({"EUR_USD": 1, "GBP_USD": -1})
    executor.until(lambda said: len(said["joined"]) == 2)
    done = floor.run("flatten", "--reason", "storm", "--actor", "ops", "--wait", "30")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no position of the executor" in done.stdout and "taking over" not in done.stdout
    executor.until(flat)
    ledger = floor.exact()
    closed = [i for i in ledger.intents.values() if i.kind == "close"]
    assert {i.reason for i in closed} == {"flatten by ops: storm"}
    kinds = [e.kind for e in floor.deployment.events(CONTROL) if isinstance(e, Control)]
    assert kinds[-2:] == ["kill_switch", "flatten"]
    assert floor.run("kill", "status").returncode == 1


def test_flatten_closes_by_itself_when_no_executor_runs(floor: Floor, switched: None) -> None:
    script, executor = floor.trade()
    script.bar({"EUR_USD": 1})
    executor.until(lambda said: "EUR_USD" in said["joined"])
    assert executor.process is not None
    executor.process.child.kill()
    done = floor.run("flatten", "--reason", "storm", "--wait", "0")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "taking over" in done.stdout
    assert not floor.exact().holdings
    refused = floor.run("flatten", "--reason", "storm", READ_ONLY="1")
    assert refused.returncode == 2 and "READ_ONLY" in refused.stderr


def test_flatten_closes_whatever_calendar_is_active_and_trading_does_not_begin(
    floor: Floor, switched: None
) -> None:
    script, executor = floor.trade()
    script.bar({"EUR_USD": 1})
    executor.until(lambda said: "EUR_USD" in said["joined"])
    assert executor.process is not None
    executor.process.child.kill()
    applied = floor.run("config", "set", "MARKET_CALENDAR=continuous", "--reason", "test")
    assert applied.returncode == 0, applied.stderr
    try:
        for here in ("fx", "continuous"):
            refused = floor.run("trade", MARKET_CALENDAR=here, TRADE_STATUS_PORT="0")
            assert refused.returncode == 2
            assert "MARKET_CALENDAR=continuous is active in ops.control" in refused.stderr
        assert list(floor.exact().holdings) == ["EUR_USD"]
        done = floor.run("flatten", "--reason", "storm", "--wait", "0")
        assert done.returncode == 0, done.stdout + done.stderr
        assert not floor.exact().holdings
    finally:
        restored = floor.run("config", "set", "MARKET_CALENDAR=fx", "--reason", "the test is over")
    assert restored.returncode == 0, restored.stderr


def test_what_others_hold_is_said_blocks_its_instrument_and_is_not_touched(
    floor: Floor,
) -> None:
    order = {"type": "MARKET", "instrument": "EUR_USD", "units": "777", "timeInForce": "FOK"}
    status, _ = floor.broker.api("POST", "/accounts/{account}/orders", {"order": order})
    assert status == 201
    script, executor = floor.trade()
    said = executor.until(lambda said: said["differences"])
    assert "777 units is not ours" in said["differences"][0]
    script.bar({"EUR_USD": 1, "GBP_USD": 1})
    executor.until(lambda said: "GBP_USD" in said["joined"])
    (held_back,) = [i for i in floor.intents() if i.instrument == "EUR_USD"]
    assert [v.guard for v in held_back.guards if not v.passed] == ["foreign"]
    script.bar(dict.fromkeys(PAIRS, 0))
    executor.until(lambda said: not said["joined"] and not said["unresolved"])
    assert floor.broker.account()["positions"] == {"EUR_USD": "777"}


def test_what_somebody_closed_by_hand_is_booked_and_not_closed_again(
    floor: Floor,
) -> None:
    script, executor = floor.trade()
    script.bar({"EUR_USD": 1})
    executor.until(lambda said: "EUR_USD" in said["joined"])
    body = {"longUnits": "ALL"}
    assert floor.broker.api("PUT", "/accounts/{account}/positions/EUR_USD/close", body)[0] == 200
    executor.until(flat)
    held = floor.exact().holdings
    assert held == {}
    script.bar({"EUR_USD": 0})
    end_ms = script.bar({})
    executor.until(lambda said: said["epoch_ms"] >= end_ms)
    assert [i.kind for i in floor.intents()].count("close") == 0
    others = [r for r in floor.reports() if r.cause == "other"]
    assert sum(r.units for r in others) > 0


def test_nothing_is_sent_read_only_or_dry(floor: Floor) -> None:
    script, executor = floor.trade(READ_ONLY="1", DRY_RUN_TRADES="1")
    end_ms = script.bar({"EUR_USD": 1})
    executor.until(lambda said: said["epoch_ms"] >= end_ms)
    (intent,) = floor.intents()
    assert not intent.submitted
    assert [v.guard for v in intent.guards if not v.passed] == ["read_only", "dry_run"]
    assert intent.units > 0 and intent.stop_loss is not None
    assert floor.broker.account()["clientOrders"] == {}


def test_too_much_margin_in_use_engages_the_kill_switch(
    open_floor: Callable[..., Floor], switched: None
) -> None:
    floor = open_floor(balance="1000", margin_rate="0.05")
    order = {"type": "MARKET", "instrument": "USD_CAD", "units": "17000", "timeInForce": "FOK"}
    assert floor.broker.api("POST", "/accounts/{account}/orders", {"order": order})[0] == 201
    _, executor = floor.trade()
    said = executor.until(lambda said: said["kill_switch"]["engaged"])
    assert "MARGIN_OVERLOAD" in said["kill_switch"]["why"][0]


def test_health_and_metrics_tell_what_is_going_on(floor: Floor) -> None:
    script, executor = floor.trade()
    script.bar({"EUR_USD": 1})
    executor.until(lambda said: "EUR_USD" in said["joined"])
    base = f"http://127.0.0.1:{executor.port}"
    with urllib.request.urlopen(f"{base}/healthz") as answer:
        assert answer.status == 200
    with urllib.request.urlopen(f"{base}/metrics") as answer:
        text = answer.read().decode()
    assert 'sep_strategy_entry_total{instrument="EUR_USD"} 1.0' in text
    assert "manifold_reconciled 1.0" in text
    token = floor.broker.token
    assert executor.process is not None
    said = executor.process.child.log.read_text()
    assert token not in said + text
    assert all(token not in report.raw for report in floor.reports())


def test_wrong_settings_are_one_sentence_each(floor: Floor) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for settings, named in (
            ({"OANDA_API_KEY": ""}, "OANDA_API_KEY"),
            ({"OANDA_ENVIRONMENT": "live"}, "LIVE_TRADING_ENABLED"),
            ({"TRADE_STATUS_PORT": port}, "TRADE_STATUS_PORT"),
            ({"MARGIN_HYST_LOW": "0.5"}, "MARGIN_HYST_HIGH"),
        ):
            done = floor.run("trade", **{"TRADE_STATUS_PORT": "0"} | settings)
            assert done.returncode == 2, done.stderr
            assert named in done.stderr and "Traceback" not in done.stderr
