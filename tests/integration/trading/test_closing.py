"""Closing on the v20 test broker: fractions, delisting, a rotated token, refusals, lost answers."""

from __future__ import annotations

import itertools
import json
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

from streams.stack.kafka import KafkaBroker
from tests.integration.trading.test_trading import Floor
from tests.support.deployment import Deployment
from tests.support.trading import SETTINGS, ScriptedLog, await_that, flat, script_of, switch_off
from tests.support.v20 import V20Process

pytestmark = pytest.mark.kafka

PAIRS = ("BTC_USD", "EUR_USD", "GBP_USD")
OUT = dict.fromkeys(PAIRS, 0)
FRIDAY = "2024-03-08T20:00:00Z"
FRIDAY_MS = 1_709_928_000_000
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def hall(
    kafka: KafkaBroker, new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Deployment, ScriptedLog]]:
    """One log for all tests of this module; each has a broker and an account of its own."""
    made = Deployment(
        tmp_path_factory.mktemp("closing"),
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
        TOPIC_PREFIX=f"t{uuid.uuid4().hex[:8]}.",
        VALKEY_URL=new_database(),
        **SETTINGS | {"HOTBAND_PAIRS": ",".join(PAIRS)},
    )
    switch_off(made)
    yield made, script_of(made, pairs=PAIRS)
    made.stop()


@pytest.fixture
def open_floor(hall: tuple[Deployment, ScriptedLog]) -> Iterator[Callable[..., Floor]]:
    """Make a floor on a broker of its own."""
    deployment, script = hall
    made: list[Floor] = []

    def make(**options: Any) -> Floor:
        account = f"101-002-{next(_numbers):07d}-001"
        given = {"hours": "always"} | options
        broker = V20Process(account_id=account, **given).start()
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
def floor(open_floor: Callable[..., Floor]) -> Floor:
    """A floor on a broker with plenty of money."""
    return open_floor()


def health(floor: Floor) -> tuple[int, list[str]]:
    """Return the status of /healthz and what it says."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{floor.executor.port}/healthz") as answer:
            return answer.status, json.load(answer)["stuck"]
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)["stuck"]


def metrics(floor: Floor) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{floor.executor.port}/metrics") as answer:
        return str(answer.read().decode())


def closings(floor: Floor) -> list[dict[str, Any]]:
    """Return the requests that were to close something."""
    return floor.broker.requests("/close")


def test_fractional_units_are_held_and_closed_to_the_last_hundredth(floor: Floor) -> None:
    script, executor = floor.trade(
        PM_RAMP_STEP_PCT="0.25", PM_REBALANCE_MIN_PCT="0", MAX_SPREAD_BPS="10000"
    )
    script.bar({"BTC_USD": 1}, pct=0.25)

    def ramped(said: dict[str, Any]) -> bool:
        return len(floor.exact().holdings["BTC_USD"].trades) >= 4 if said["joined"] else False

    executor.until(ramped)
    held = floor.exact().holdings["BTC_USD"]  # the same number as the broker's, exactly
    assert held.units % Decimal("0.01") == 0 and held.units % 1 != 0
    script.bar({"BTC_USD": 0})
    executor.until(flat)
    ledger = floor.exact()
    assert not ledger.holdings
    bodies = [(r["path"].split("/")[-2], json.loads(r["body"])) for r in closings(floor)]
    assert bodies == [(trade, {"units": "ALL"}) for trade in ledger.openers]


def test_an_instrument_that_goes_away_is_blocked_closed_and_stops_nobody_else(
    floor: Floor,
) -> None:
    script, executor = floor.trade()
    script.bar({"EUR_USD": 1})
    executor.until(lambda said: "EUR_USD" in said["joined"])
    floor.broker.delist("EUR_USD", "BTC_USD")
    assert executor.process is not None
    executor.process.child.kill()
    executor.start()
    # another instrument is joined, and what the account cannot trade is said
    executor.until_reconciled()
    script.bar({"GBP_USD": 1, "BTC_USD": 1})
    said = executor.until(lambda said: "GBP_USD" in said["joined"] and said["untraded"])
    said = executor.until(lambda said: "EUR_USD" in said["untraded"])
    assert "does not trade it" in said["blocked"]["BTC_USD"][0]
    assert "does not trade it" in said["blocked"]["EUR_USD"][0]
    assert 'manifold_instrument_untraded{instrument="EUR_USD"} 1.0' in metrics(floor)
    refused = [i for i in floor.intents() if i.instrument == "BTC_USD"]
    assert refused and not any(i.submitted for i in refused)
    script.bar(OUT)
    executor.until(flat)
    assert not floor.exact().holdings


def test_an_instrument_that_goes_away_in_mid_run_holds_up_no_other(floor: Floor) -> None:
    script, executor = floor.trade()
    script.bar({"EUR_USD": 1})
    executor.until(lambda said: "EUR_USD" in said["joined"])
    floor.broker.delist("EUR_USD")
    script.bar({"GBP_USD": 1})
    executor.until(lambda said: "GBP_USD" in said["joined"] and "EUR_USD" in said["untraded"])
    script.bar(OUT)
    executor.until(flat)
    assert not floor.exact().holdings


def test_a_rotated_token_needs_no_restart(floor: Floor, tmp_path: Any) -> None:
    path = tmp_path / "token"
    path.write_text(floor.broker.token)
    script, executor = floor.trade(OANDA_API_KEY="", OANDA_API_KEY_FILE=str(path))
    script.bar({"EUR_USD": 1, "GBP_USD": 1})
    executor.until(lambda said: len(said["joined"]) == 2)
    floor.broker.rotate("another-token")
    executor.until(lambda said: "refuses the login (401" in said["unreconciled"])
    status, stuck = health(floor)
    assert status == 503 and any("refuses the login (401" in one for one in stuck)
    script.bar({"EUR_USD": 0, "BTC_USD": 1})  # closing is tried, opening is blocked
    await_that(lambda: [r for r in closings(floor) if r["status"] == 401], executor.words)
    assert floor.broker.account()["positions"].keys() == {"EUR_USD", "GBP_USD"}
    path.write_text("another-token")
    executor.until(lambda said: said["reconciled"] and "EUR_USD" not in said["joined"])
    assert "GBP_USD" in floor.broker.account()["positions"]
    await_that(lambda: health(floor)[0] == 200, executor.words)
    assert executor.process is not None and executor.process.child.running
    assert "another-token" not in executor.process.child.log.read_text()
    script.bar(OUT)
    executor.until(flat)
    assert not floor.exact().holdings


def test_a_token_that_stays_refused_ends_the_executor_after_auth_retry_sec(floor: Floor) -> None:
    script, executor = floor.trade(AUTH_RETRY_SEC="3")
    script.bar({"EUR_USD": 1})
    executor.until(lambda said: "EUR_USD" in said["joined"])
    floor.broker.control("POST", "/token", {"token": "another-token"})
    script.bar(OUT)
    process = executor.process
    assert process is not None
    await_that(lambda: not process.child.running, executor.words)
    assert process.child.returncode == 2, executor.words()
    assert "AUTH_RETRY_SEC is 3" in executor.words()
    assert [r for r in closings(floor) if r["status"] == 401], "closing was tried until then"


def test_a_closing_that_is_refused_is_said_and_tried_less_and_less_often(floor: Floor) -> None:
    script, executor = floor.trade(PM_RAMP_STEP_PCT="1")  # one trade: each has pauses of its own
    script.bar({"EUR_USD": 1, "GBP_USD": 1})
    executor.until(lambda said: len(said["joined"]) == 2)
    floor.broker.fault("cancel_order", path="/close$", reason="INSUFFICIENT_LIQUIDITY")
    script.bar({"EUR_USD": 0})
    said = executor.until(lambda said: said["cannot_close"])
    assert said["cannot_close"]["EUR_USD"].startswith("INSUFFICIENT_LIQUIDITY (tried")
    assert any("cannot close: INSUFFICIENT" in one for one in said["blocked"]["EUR_USD"])
    status, stuck = health(floor)
    assert status == 503 and stuck[0].startswith("cannot close EUR_USD: INSUFFICIENT_LIQUIDITY")
    assert 'manifold_cannot_close{instrument="EUR_USD"} 1.0' in metrics(floor)
    await_that(lambda: len(closings(floor)) >= 4, executor.words)
    times = [r["time"] for r in closings(floor)]
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert all(gap >= 0.4 * 2**n for n, gap in enumerate(gaps)), gaps
    floor.broker.clear_faults()
    executor.until(lambda said: list(said["joined"]) == ["GBP_USD"] and not said["cannot_close"])
    assert 'manifold_cannot_close{instrument="EUR_USD"} 0.0' in metrics(floor)
    script.bar(OUT)
    executor.until(flat)
    assert not floor.exact().holdings


def test_where_fifo_forbids_ids_the_side_of_the_position_is_closed(floor: Floor) -> None:
    script, executor = floor.trade()
    script.bar({"EUR_USD": -1})
    executor.until(lambda said: "EUR_USD" in said["joined"])
    floor.broker.fault("cancel_order", path="/trades/[0-9]+/close$", reason="FIFO_VIOLATION")
    script.bar(OUT)
    executor.until(flat)
    assert not floor.exact().holdings
    by_id, by_side = closings(floor)
    assert by_id["path"].split("/")[-3] == "trades"
    assert by_side["path"].endswith("/positions/EUR_USD/close")
    assert json.loads(by_side["body"])["shortUnits"] == "ALL"
    assert floor.intents()[-1].close_by == "position"


@pytest.mark.parametrize("restarted", [False, True])
def test_a_closing_whose_answer_is_lost_is_settled_by_the_venues_transactions(
    floor: Floor, restarted: bool
) -> None:
    script, executor = floor.trade()
    script.bar({"EUR_USD": 1})
    executor.until(lambda said: "EUR_USD" in said["joined"])
    floor.broker.fault("lost_answer", path="/close$", count=1)
    if restarted:
        floor.broker.fault("status", code=503, path="/sinceid$")
    script.bar(OUT)
    await_that(lambda: floor.broker.account()["positions"] == {}, executor.words)
    if restarted:
        assert executor.process is not None
        executor.process.child.kill()
        floor.broker.clear_faults()
        executor.start()
    executor.until(flat)
    ledger = floor.exact()
    closed = [r for r in floor.reports() if r.status == "filled" and r.side == "sell"]
    assert [r.cause for r in closed] == ["order"]
    assert ledger.intents[closed[0].order_id].close_by == "trade"


def test_trades_of_others_stay_untouched_beside_ours_by_flatten_too(floor: Floor) -> None:
    order = {"type": "MARKET", "instrument": "EUR_USD", "units": "777", "timeInForce": "FOK"}
    script, executor = floor.trade()
    script.bar({"EUR_USD": 1})
    executor.until(lambda said: "EUR_USD" in said["joined"])
    assert floor.broker.api("POST", "/accounts/{account}/orders", {"order": order})[0] == 201
    assert executor.process is not None
    executor.process.child.kill()
    for path in ("/openTrades$", "/openPositions$"):
        floor.broker.fault("status", code=503, path=path)
    done = floor.run("flatten", "--reason", "storm", OANDA_HTTP_BACKOFF="1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert floor.broker.account()["positions"] == {"EUR_USD": "777"}
    assert floor.run("kill", "off", "--reason", "the test is over").returncode == 0


def test_a_halted_weekend_takes_a_handful_of_orders_and_ends_at_the_reopening(
    kafka: KafkaBroker, valkey_url: str, topic_prefix: str, tmp_path: Any
) -> None:
    broker = V20Process(hours="fx", start=FRIDAY).start()
    deployment = Deployment(
        tmp_path, KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap, TOPIC_PREFIX=topic_prefix,
        VALKEY_URL=valkey_url, **SETTINGS | broker.environment(),
    )  # fmt: skip
    try:
        switch_off(deployment)
        script = ScriptedLog(deployment, ("EUR_USD",), FRIDAY_MS - 600_000)
        floor = Floor(deployment, script, broker)
        script.bar({"EUR_USD": 0})
        floor.executor.start()
        floor.executor.until_reconciled()
        script.bar({"EUR_USD": 1})
        floor.executor.until(lambda said: "EUR_USD" in said["joined"])
        broker.control("POST", "/clock", {"to": "2024-03-09T06:00:00Z"})
        script.bar({"EUR_USD": 0})
        said = floor.executor.until(lambda said: said["cannot_close"])
        assert "MARKET_HALTED" in said["cannot_close"]["EUR_USD"]
        for _ in range(38):
            broker.advance(3600)
            cycle_ms = floor.executor.until(lambda said: said["reconciled"])["last_cycle_ms"]
            floor.executor.until(lambda said, seen=cycle_ms: said["last_cycle_ms"] > seen)
        weekend = len(closings(floor))
        assert weekend <= 4, closings(floor)
        assert health(floor)[1][0].startswith("cannot close EUR_USD: MARKET_HALTED")
        assert broker.account()["positions"] != {}
        broker.advance(4 * 3600)
        floor.executor.until(flat)
        assert len(closings(floor)) <= weekend + 3
        assert floor.executor.process is not None
        assert floor.executor.process.stop() == 0
    finally:
        deployment.stop()
        broker.stop()
