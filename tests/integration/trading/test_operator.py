"""The operator's hand: what is done at the broker beside the executor, and commands to it."""

from __future__ import annotations

import itertools
import json
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from streams.kafka.control_topic import append_control
from streams.records.control import UniverseChange
from streams.records.events import Control
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
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def hall(
    kafka: KafkaBroker, new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Deployment, ScriptedLog]]:
    """One log for all tests of this module; each has a broker and an account of its own."""
    made = Deployment(
        tmp_path_factory.mktemp("operator"),
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
        TOPIC_PREFIX=f"t{uuid.uuid4().hex[:8]}.",
        VALKEY_URL=new_database(),
        **SETTINGS,
    )
    switch_off(made)
    script = script_of(made)
    universe = UniverseChange("replace", PAIRS, 0, None).to_json()
    append_control(
        made.runtime,
        made.codec,
        [Control("universe", None, universe, "test", "", 1_600_000_000_000)],
    )
    yield made, script
    made.stop()


@pytest.fixture
def floor(hall: tuple[Deployment, ScriptedLog]) -> Iterator[Floor]:
    """An executor's log, and a broker and an account of its own."""
    deployment, script = hall
    broker = V20Process(hours="always", account_id=f"101-003-{next(_numbers):07d}-001").start()
    made = Floor(deployment, script, broker)
    yield made
    process = made.executor.process
    if process is not None and process.child.running:
        assert process.stop() == 0, made.executor.words()
    broker.stop()
    script.bar(OUT)


def restart(floor: Floor) -> None:
    """Kill the executor and start it again."""
    assert floor.executor.process is not None
    floor.executor.process.child.kill()
    floor.executor.start()
    floor.executor.until_reconciled()


def cycles(floor: Floor, count: int = 3) -> dict[str, Any]:
    """Let the executor compare itself with the broker some times; return its status."""
    for _ in range(count):
        seen = len(floor.broker.requests("openTrades"))
        await_that(
            lambda seen=seen: len(floor.broker.requests("openTrades")) > seen,  # type: ignore[misc]
            floor.executor.words,
        )
    return floor.executor.until(lambda said: said["reconciled"])


def next_bar(floor: Floor, positions: dict[str, int] | None = None, **options: Any) -> None:
    """Write a bar and wait until the executor has worked on it."""
    end_ms = floor.script.bar(positions or {}, **options)
    floor.executor.until(lambda said: said["epoch_ms"] >= end_ms)


def test_what_was_partly_or_wholly_closed_by_hand_is_not_bought_again(floor: Floor) -> None:
    script, executor = floor.trade(PM_RAMP_STEP_PCT="1", PM_REBALANCE_MIN_PCT="0.01")
    script.bar({"EUR_USD": 1, "GBP_USD": -1})
    executor.until(lambda said: len(said["joined"]) == 2 and not said["unresolved"])
    held = floor.exact().holdings["EUR_USD"]
    trade, before = held.trade_ids[0], int(held.units)
    path = f"/accounts/{{account}}/trades/{trade}/close"
    assert floor.broker.api("PUT", path, {"units": "1110"})[0] == 200
    body = {"shortUnits": "ALL"}
    assert floor.broker.api("PUT", "/accounts/{account}/positions/GBP_USD/close", body)[0] == 200
    executor.until(lambda said: list(said["joined"]) == ["EUR_USD"])
    # the weight asks for more than is left, and the runs go on
    for _ in range(3):
        next_bar(floor, pct=0.08)
        cycles(floor, 1)
    restart(floor)
    next_bar(floor, pct=0.09)
    said = cycles(floor)
    assert floor.broker.account()["positions"] == {"EUR_USD": str(before - 1110)}
    assert "1110 units were closed by no order of ours" in " ".join(said["blocked"]["EUR_USD"])
    sent = [(i.instrument, i.kind) for i in floor.intents() if i.submitted]
    assert sorted(sent) == [("EUR_USD", "open"), ("GBP_USD", "open")]
    # what is left follows its run to the end
    script.bar(OUT)
    executor.until(flat)
    assert not floor.exact().holdings


def brackets_of(floor: Floor, trade: str) -> dict[str, Any]:
    """Return stop, target and trailing distance of an open trade at the broker."""
    found = floor.broker.api("GET", f"/accounts/{{account}}/trades/{trade}")[1]["trade"]
    return {
        "stop": found.get("stopLossOrder", {}).get("price"),
        "target": found.get("takeProfitOrder", {}).get("price"),
        "trailing": found.get("trailingStopLossOrder", {}).get("distance"),
    }


def set_by_hand(floor: Floor, trade: str, **body: Any) -> None:
    """Change the brackets of a trade as somebody at the broker's own page does."""
    path = f"/accounts/{{account}}/trades/{trade}/orders"
    status, answer = floor.broker.api("PUT", path, body)
    assert status == 200, answer


def test_brackets_set_by_hand_are_kept_said_and_recorded(floor: Floor) -> None:
    script, executor = floor.trade(PM_RAMP_STEP_PCT="1")
    for name in PAIRS[:2]:
        floor.broker.price(name, "1.10000", "1.10010")
    script.bar({"EUR_USD": 1, "GBP_USD": 1, "USD_JPY": -1})
    executor.until(lambda said: len(said["joined"]) == 3 and not said["unresolved"])
    trades = {name: held.trade_ids[0] for name, held in floor.exact().holdings.items()}
    own = {"stop": "1.08635", "target": "1.10560", "trailing": None}
    await_that(lambda: brackets_of(floor, trades["EUR_USD"]) == own, executor.words)
    cycles(floor, 1)
    # tightened; a trailing stop in place of the fixed one; both removed
    set_by_hand(floor, trades["EUR_USD"], stopLoss={"price": "1.09000"})
    trailing = {"distance": "0.00500"}
    set_by_hand(floor, trades["GBP_USD"], stopLoss=None, trailingStopLoss=trailing)
    set_by_hand(floor, trades["USD_JPY"], stopLoss=None, takeProfit=None)
    said = executor.until(lambda said: len(said["by_hand"]) == 3)
    assert "tighter by hand (the run's is 1.08635)" in said["by_hand"]["EUR_USD"][0]
    assert "trails at a distance of 0.005 by hand" in said["by_hand"]["GBP_USD"][0]
    assert ["was removed by hand" in one for one in said["by_hand"]["USD_JPY"]] == [True, True]
    cycles(floor)
    restart(floor)
    next_bar(floor)
    cycles(floor)
    assert brackets_of(floor, trades["EUR_USD"]) == own | {"stop": "1.09000"}
    kept = {"stop": None, "target": own["target"], "trailing": "0.00500"}
    assert brackets_of(floor, trades["GBP_USD"]) == kept
    assert set(brackets_of(floor, trades["USD_JPY"]).values()) == {None}
    # one record for each change, before and after the restart
    found = [i for i in floor.intents() if i.kind == "brackets" and "operator" in
             (i.stop_by, i.target_by)]  # fmt: skip
    told = {i.instrument: (i.stop_loss, i.trailing_stop, i.take_profit, i.stop_by, i.target_by)
            for i in found}  # fmt: skip
    assert len(found) == 3 and told == {
        "EUR_USD": (1.09, None, None, "operator", ""),
        "GBP_USD": (None, 0.005, None, "operator", ""),
        "USD_JPY": (None, None, None, "operator", "operator"),
    }
    # the trailing stop closes, and nothing is bought again
    floor.broker.price("GBP_USD", "1.09400", "1.09410")
    executor.until(lambda said: "GBP_USD" not in said["joined"])
    assert [r.cause for r in floor.reports() if r.instrument == "GBP_USD"][-1] == "stop_loss"
    script.bar(OUT)
    executor.until(flat)
    assert not floor.exact().holdings


def test_a_stop_that_is_missing_and_that_nobody_removed_is_set_again(floor: Floor) -> None:
    script, executor = floor.trade(PM_RAMP_STEP_PCT="1")
    floor.broker.price("EUR_USD", "1.10000", "1.10010")
    script.bar({"EUR_USD": 1})
    executor.until(lambda said: "EUR_USD" in said["joined"] and not said["unresolved"])
    (trade,) = floor.exact().holdings["EUR_USD"].trade_ids
    own = {"stop": "1.08635", "target": "1.10560", "trailing": None}
    await_that(lambda: brackets_of(floor, trade) == own, executor.words)
    found = floor.broker.api("GET", f"/accounts/{{account}}/trades/{trade}")[1]["trade"]
    floor.broker.end_order(found["stopLossOrder"]["id"], "INTERNAL_SERVER_ERROR")
    await_that(lambda: brackets_of(floor, trade) == own, executor.words)
    said = cycles(floor)
    assert said["by_hand"] == {} and said["differences"] == []
    # the same again, and by hand: it stays away
    set_by_hand(floor, trade, stopLoss=None)
    executor.until(lambda said: said["by_hand"])
    cycles(floor)
    assert brackets_of(floor, trade) == own | {"stop": None}
    script.bar(OUT)
    executor.until(flat)
    assert not floor.exact().holdings


def test_a_pause_holds_one_instrument_back_until_it_is_resumed(floor: Floor) -> None:
    script, executor = floor.trade(PM_RAMP_STEP_PCT="1")
    said = floor.run("pause", "eurusd", "--reason", "storm", "--actor", "ann")
    assert said.returncode == 0 and "pause EUR_USD of account" in said.stdout, said.stderr
    assert "paused already by ann: storm" in floor.run("pause", "EUR_USD", "--reason", "x").stdout
    for command in ("pause", "resume", "close", "release"):
        unknown = floor.run(command, "EUR_GBP", "--reason", "storm")
        assert unknown.returncode == 2 and "no feed has declared EUR_GBP" in unknown.stderr
    said_status = executor.until(lambda said: said["paused"])
    assert said_status["paused"]["EUR_USD"]["actor"] == "ann"
    restart(floor)
    script.bar({"EUR_USD": 1, "GBP_USD": 1})
    said_status = executor.until(lambda said: list(said["joined"]) == ["GBP_USD"])
    executor.until(lambda said: "paused by ann: storm" in " ".join(said["blocked"]["EUR_USD"]))
    assert "EUR_USD" not in floor.broker.account()["positions"]
    next_bar(floor, OUT)
    assert floor.run("resume", "EUR_USD", "--reason", "over").returncode == 0
    executor.until(lambda said: not said["paused"])
    script.bar({"EUR_USD": 1})
    executor.until(lambda said: "EUR_USD" in said["joined"])
    script.bar(OUT)
    executor.until(flat)
    assert not floor.exact().holdings


def test_close_closes_one_instrument_now_and_the_other_goes_on(floor: Floor) -> None:
    script, executor = floor.trade(PM_RAMP_STEP_PCT="1")
    script.bar({"EUR_USD": 1, "GBP_USD": -1})
    executor.until(lambda said: len(said["joined"]) == 2 and not said["unresolved"])
    done = floor.run("close", "EUR_USD", "--reason", "enough", "--actor", "ann")
    assert done.returncode == 0 and "no position of the executor in EUR_USD any more" in done.stdout
    executor.until(lambda said: list(said["joined"]) == ["GBP_USD"])
    (closing,) = [i for i in floor.intents() if i.kind == "close"]
    assert (closing.instrument, closing.reason) == ("EUR_USD", "close by ann: enough")
    # not again in the middle of the run; its next entry is joined
    next_bar(floor)
    restart(floor)
    next_bar(floor)
    assert list(floor.broker.account()["positions"]) == ["GBP_USD"]
    next_bar(floor, {"EUR_USD": 0})
    script.bar({"EUR_USD": 1})
    executor.until(lambda said: len(said["joined"]) == 2)
    assert "no position of the executor" in floor.run("close", "USD_JPY", "--reason", "x").stdout
    script.bar(OUT)
    executor.until(flat)
    assert not floor.exact().holdings


def test_an_order_reduces_what_is_held_and_its_command_says_what_became_of_it(
    floor: Floor,
) -> None:
    script, executor = floor.trade(PM_RAMP_STEP_PCT="1")
    script.bar({"EUR_USD": 1})
    executor.until(lambda said: len(said["joined"]) == 1 and not said["unresolved"])
    units = float(floor.broker.account()["positions"]["EUR_USD"])
    said = ("--reason", "half", "--actor", "ann")
    done = floor.run("order", "EUR_USD", "--reduce", "1000", "--request-id", "half-1", *said)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "reduce: 1000 units filled at" in done.stdout
    again = floor.run("order", "EUR_USD", "--reduce", "1000", "--request-id", "half-1", *said)
    assert again.returncode == 0, "the same order: it is told, and not carried out again"
    part = floor.run("close", "EUR_USD", "--units", "500", *said)
    assert part.returncode == 0 and "reduce: 500 units filled" in part.stdout, part.stderr
    restart(floor)
    next_bar(floor)
    assert float(floor.broker.account()["positions"]["EUR_USD"]) == units - 1500
    refused = floor.run("order", "EUR_USD", "--buy", "1000", *said)
    assert refused.returncode == 1
    assert "not sent: reduce_only (OPERATOR_ORDERS=reduce" in refused.stdout
    nothing = floor.run("order", "USD_JPY", "--reduce", "1", *said)
    assert nothing.returncode == 1 and "no position of the executor" in nothing.stdout
    orders = {one["request_id"]: one for one in executor.until_reconciled()["orders"]}
    assert (orders["half-1"]["status"], orders["half-1"]["actor"]) == ("filled", "ann")
    for wrong, words in (
        ((), "give one of --buy, --sell and --reduce"),
        (("--buy", "1", "--sell", "1"), "give one of"),
        (("--buy", "-1"), "not a number of units"),
    ):
        bad = floor.run("order", "EUR_USD", *wrong, *said)
        assert bad.returncode == 2 and words in bad.stderr, bad.stderr
    script.bar(OUT)
    executor.until(flat)
    assert not floor.exact().holdings


def test_a_released_position_is_the_operators_with_its_brackets(floor: Floor) -> None:
    script, executor = floor.trade(PM_RAMP_STEP_PCT="1")
    floor.broker.price("EUR_USD", "1.10000", "1.10010")
    script.bar({"EUR_USD": 1, "GBP_USD": -1})
    executor.until(lambda said: len(said["joined"]) == 2 and not said["unresolved"])
    (trade,) = floor.exact().holdings["EUR_USD"].trade_ids
    own = {"stop": "1.08635", "target": "1.10560", "trailing": None}
    await_that(lambda: brackets_of(floor, trade) == own, executor.words)
    units = floor.broker.account()["positions"]["EUR_USD"]
    done = floor.run("release", "EUR_USD", "--reason", "mine", "--actor", "ann")
    assert done.returncode == 0, done.stdout + done.stderr
    line = f"{units} units of EUR_USD are open and were released by ann: mine; they are not closed"
    assert line in floor.run("close", "EUR_USD", "--reason", "enough").stdout
    said = executor.until(lambda said: "EUR_USD" in said["foreign"])
    assert f"trade {trade} of {units} units was released" in said["foreign"]["EUR_USD"]
    restart(floor)
    # neither the run's end nor its next entry touches it
    next_bar(floor, {"EUR_USD": 0, "GBP_USD": 0})
    executor.until(flat)
    next_bar(floor, {"EUR_USD": 1})
    cycles(floor)
    assert floor.broker.account()["positions"] == {"EUR_USD": units}
    assert brackets_of(floor, trade) == own
    (taken,) = [r for r in floor.reports() if r.cause == "released"]
    assert (taken.trade_ids, taken.reason) == ((trade,), "release by ann: mine")
    # its stop is the operator's affair, and then the instrument is free again
    floor.broker.price("EUR_USD", "1.08000", "1.08010")
    executor.until(lambda said: "EUR_USD" not in said["foreign"])
    assert [r.cause for r in floor.reports() if r.instrument == "EUR_USD"] == ["order", "released"]
    floor.broker.price("EUR_USD", "1.10000", "1.10010")
    next_bar(floor, OUT)
    script.bar({"EUR_USD": 1})
    executor.until(lambda said: "EUR_USD" in said["joined"])
    script.bar(OUT)
    executor.until(flat)
    assert not floor.exact().holdings


def test_the_drawdown_counts_from_the_reset_on_and_after_a_restart_too(floor: Floor) -> None:
    settings = {"RISK_MAX_DRAWDOWN": "0.1", "PM_RAMP_STEP_PCT": "1"}
    floor.broker.price("EUR_USD", "1.10000", "1.10010")
    script, executor = floor.trade(**settings)
    script.bar({"EUR_USD": 1}, pct=0.3)
    executor.until(lambda said: "EUR_USD" in said["joined"])
    # the market falls through the stop: 15 % of the account is lost
    floor.broker.price("EUR_USD", "0.55000", "0.55010")
    executor.until(lambda said: flat(said) and said["limits"]["drawdown"] > 0.1)
    next_bar(floor, {"EUR_USD": 0, "GBP_USD": 1})
    (held_back,) = [i for i in floor.intents() if i.instrument == "GBP_USD"]
    assert [v.guard for v in held_back.guards if not v.passed] == ["drawdown"]
    done = floor.run("limits", "reset", "drawdown", "--reason", "looked into it", "--actor", "ann")
    assert done.returncode == 0 and "reset of drawdown of account" in done.stdout, done.stderr
    said = executor.until(lambda said: said["limits"]["drawdown"] == 0.0)
    peak = said["limits"]["peak_nav"]
    assert peak == said["account"]["nav"] < 90_000.0
    restart(floor)
    said = executor.until(lambda said: said["limits"]["peak_nav"] is not None)
    assert said["limits"]["peak_nav"] == peak
    next_bar(floor, OUT)
    script.bar({"GBP_USD": 1})
    executor.until(lambda said: "GBP_USD" in said["joined"])
    script.bar(OUT)
    executor.until(flat)
    floor.exact()


def steps_of(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    """Return the steps of an explanation by name."""
    assert done.returncode == 0, done.stderr
    return {one["step"]: one for one in json.loads(done.stdout)["steps"]}


def test_why_goes_to_the_broker_now_and_in_the_past_and_executor_shows_the_status(
    floor: Floor,
) -> None:
    script, executor = floor.trade(PM_RAMP_STEP_PCT="1")
    url = {"TRADE_STATUS_URL": f"http://127.0.0.1:{executor.port}/status"}
    before = f"@{int(time.time() * 1000)}"
    script.bar({"EUR_USD": 1})
    executor.until(lambda said: "EUR_USD" in said["joined"] and not said["unresolved"])
    units = floor.broker.account()["positions"]["EUR_USD"]
    assert floor.run("pause", "EUR_USD", "--reason", "storm", "--actor", "ann").returncode == 0
    held = f"@{int(time.time() * 1000)}"
    executor.until(lambda said: said["paused"])
    now = steps_of(floor.run("why", "EUR_USD", "--json", **url))
    assert now["kill_switch"]["ok"] and now["executor"]["ok"] and now["guards"]["ok"]
    assert now["order"]["detail"].endswith("filled") and now["broker"]["detail"].startswith(units)
    assert now["operator"]["ok"] is False and "by ann: storm" in now["operator"]["detail"]
    shown = floor.run("executor", **url)
    assert shown.returncode == 0, shown.stderr
    assert f"EUR_USD: {units} units at" in shown.stdout and "by ann: storm" in shown.stdout
    assert json.loads(floor.run("executor", "--json", **url).stdout)["joined"]["EUR_USD"]
    assert floor.run("close", "EUR_USD", "--reason", "enough").returncode == 0
    assert floor.run("resume", "EUR_USD", "--reason", "over").returncode == 0
    executor.until(flat)
    # of the past the log tells the same, whatever came later
    then = steps_of(floor.run("why", "EUR_USD", "--json", "--at", held, **url))
    assert then["broker"]["detail"].startswith(f"{units} units in account") and then["run"]["ok"]
    assert then["operator"]["ok"] is False and then["executor"]["ok"] is None
    assert then["kill_switch"]["ok"] and then["guards"]["ok"]
    early = steps_of(floor.run("why", "EUR_USD", "--json", "--at", before, **url))
    assert early["broker"]["ok"] is False and early["operator"]["ok"]
    now = steps_of(floor.run("why", "EUR_USD", "--json", **url))
    assert now["broker"]["ok"] is False and now["operator"]["ok"]
    assert "close" in now["order"]["detail"]
    assert executor.process is not None and executor.process.stop() == 0
    gone = floor.run("executor", **url)
    assert gone.returncode == 75 and "no executor answers" in gone.stderr
