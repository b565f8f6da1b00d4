"""The service when what it asks is away, says no, or is OANDA."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from streams.feeds.synthetic import synthetic_market
from streams.process.child import free_port
from streams.records.events import Candle
from streams.records.topics import CANDLES
from streams.stack.kafka import KafkaBroker
from streams.stack.valkey import ValkeyServer
from tests.support.candle_files import START_MS
from tests.support.deployment import Deployment
from tests.support.service import ServiceProcess, frame, subscribe
from tests.support.trading import BarByBar
from tests.support.v20.server import V20Server

pytestmark = pytest.mark.kafka

PAIR = "EUR_USD"
SECRET = "s3cret-of-valkey"


def deploy(directory: Path, broker: KafkaBroker, valkey_url: str, prefix: str) -> Deployment:
    return Deployment(
        directory,
        KAFKA_BOOTSTRAP_SERVERS=broker.bootstrap,
        TOPIC_PREFIX=prefix,
        TOPIC_PARTITIONS="2",
        VALKEY_URL=valkey_url,
        HOTBAND_PAIRS=PAIR,
    )


def test_a_log_that_goes_away_is_said_at_once_and_gone_on_with_when_it_is_back(
    new_kafka: Callable[[], KafkaBroker],
    new_valkey: Callable[[], ValkeyServer],
    topic_prefix: str,
    tmp_path: Path,
) -> None:
    broker, valkey = new_kafka(), new_valkey()
    deployment = deploy(tmp_path, broker, valkey.url, topic_prefix)
    service = ServiceProcess(deployment, KILL_SWITCH="0")
    try:
        market = BarByBar(deployment, synthetic_market(1, (PAIR,), START_MS, 50), START_MS)
        market.next()
        service.start()
        service.wait_until(lambda: not service.get("/api/kill-switch").json["engaged"])
        with service.socket() as ws:
            subscribe(ws, "market")
            last_ms = market.next().as_of_ms
            assert frame(ws)["ts_ms"] == last_ms
            broker.kill()
            kill = service.wait_until(
                lambda: (k := service.get("/api/kill-switch").json)["engaged"] and k, 10.0
            )
            assert any("ops.control" in one for one in kill["why"]), kill
            service.wait_until(lambda: service.get("/health").status == 503)
            assert service.get("/health").json["trouble"]
            told = service.get("/api/global-status").json["instruments"][0]
            assert told["candle"]["as_of_ms"] == last_ms, (
                "what it knew it still tells, with its age"
            )
            valkey.kill()
            candles = service.get(f"/api/candles?instrument={PAIR}")
            assert candles.status == 503 and "VALKEY_URL" in candles.json["detail"]
            valkey.start()
            broker.start()
            service.wait_until(lambda: service.healthy)
            last_ms = market.next().as_of_ms
            assert frame(ws)["ts_ms"] == last_ms, "the same connection, and nothing twice"
        assert service.process is not None and service.process.restarts == 0
        assert "Traceback" not in service.process.child.log.read_text()
    finally:
        deployment.stop()


def test_a_valkey_that_refuses_is_told_without_its_password(
    kafka: KafkaBroker, topic_prefix: str, tmp_path: Path
) -> None:
    url = f"redis://:{SECRET}@127.0.0.1:{free_port()}/0"
    deployment = deploy(tmp_path, kafka, url, topic_prefix)
    service = ServiceProcess(deployment, KILL_SWITCH="0")
    try:
        market = BarByBar(deployment, synthetic_market(1, (PAIR,), START_MS, 5), START_MS)
        market.next()
        service.start()
        service.wait_until(lambda: PAIR in service.get("/api/pairs").json["pairs"])
        found = service.get(f"/api/candles?instrument={PAIR}")
        assert (found.status, found.json["error"]) == (503, "unavailable")
        state = service.get("/api/kill-switch").json
        assert state["engaged"] is True and any("Valkey" in one for one in state["why"])
        told = found.body + service.get("/api/preflight").body + service.get("/metrics").body
    finally:
        deployment.stop()
    assert SECRET not in told.decode()
    assert SECRET not in service.process.child.log.read_text()  # type: ignore[union-attr]


# -- OANDA -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def oanda() -> Iterator[V20Server]:
    with V20Server(hours="always") as broker:
        yield broker


@pytest.fixture(scope="module")
def connected(
    kafka: KafkaBroker, oanda: V20Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServiceProcess]:
    """A service with an OANDA account, on an empty log."""
    directory = tmp_path_factory.mktemp("oanda")
    valkey = ValkeyServer(directory / "valkey")
    valkey.start()
    deployment = deploy(directory, kafka, valkey.url, "apioanda.")
    feed_port = str(free_port())
    settings = oanda.environment() | {
        "OANDA_HTTP_RETRIES": "0",
        "FEED_METRICS_PORT": feed_port,
        "API_WRITE_RATE_PER_MIN": "100000",
    }
    service = ServiceProcess(deployment, **settings)
    try:
        service.start()
        yield service
    finally:
        deployment.stop()
        valkey.stop()


def test_the_account_is_told_in_oandas_own_words(
    oanda: V20Server, connected: ServiceProcess
) -> None:
    _, summary = oanda.api("GET", "/accounts/{account}/summary")
    found = connected.get("/api/oanda/account").json
    assert found["source"] == "oanda"
    for name in ("id", "currency", "balance", "NAV"):
        assert found["account"][name] == summary["account"][name], name
    _, instruments = oanda.api("GET", "/accounts/{account}/instruments")
    assert connected.get("/api/oanda/instruments").json["instruments"] == instruments["instruments"]
    order = {"type": "MARKET", "instrument": PAIR, "units": "100", "timeInForce": "FOK"}
    status, _ = oanda.api("POST", "/accounts/{account}/orders", {"order": order})
    assert status == 201
    (position,) = connected.get("/api/oanda/positions").json["positions"]
    assert (position["instrument"], position["long"]["units"]) == (PAIR, "100")
    for path in ("/api/oanda/open-trades", "/api/trades/open"):
        (trade,) = connected.get(path).json["trades"]
        assert trade["initialUnits"] == "100"
    oanda.price("USD_JPY", "150.000", "150.020")
    price = connected.get("/api/oanda/pricing?instruments=USD_JPY").json
    assert price["source"] == "oanda"
    assert (price["prices"]["USD_JPY"]["bid"], price["prices"]["USD_JPY"]["ask"]) == (150.0, 150.02)
    mode = connected.get("/api/trading/mode").json
    assert mode["oanda_configured"] and mode["oanda_connected"] and mode["mode"] == "none"
    assert oanda.violations() == []


def test_what_oanda_refuses_is_a_503_and_the_token_is_never_shown(
    oanda: V20Server, connected: ServiceProcess
) -> None:
    for code in (401, 403, 500, 429):
        oanda.fault("status", code=code, count=1, path="summary")
        found = connected.get("/api/oanda/account")
        assert found.status == 503 and found.json["detail"], code
        assert oanda.token not in found.body.decode()
        assert connected.get("/api/trading/mode").json["oanda_connected"] is False
    assert connected.get("/api/oanda/account").status == 200
    log = connected.process.child.log.read_text()  # type: ignore[union-attr]
    assert oanda.token not in log and "Traceback" not in log


def candles_of(service: ServiceProcess) -> list[Any]:
    return [e for e in service.deployment.events(CANDLES) if isinstance(e, Candle)]


def test_candles_that_the_log_lacks_are_fetched_once(connected: ServiceProcess) -> None:
    asked = {"instrument": PAIR, "granularity": "M1", "count": 60, "reason": "warm up"}
    first = connected.post("/api/candles/fetch", asked)
    assert first.status == 200 and first.json["success"] is True, first.json
    found = candles_of(connected)
    assert len(found) == first.json["written"] >= 60
    assert {e.source for e in found} == {"oanda"}
    connected.wait_until(
        lambda: (
            connected.get("/api/authenticity").json["instruments"]
            and connected.get("/api/authenticity").json["instruments"][0]["candle_source"]
            == "oanda"
        )
    )
    again = connected.post("/api/candles/fetch", asked)
    assert again.json["success"] is True and again.json["written"] <= 1, again.json
    assert "a feed is running" not in again.json["detail"]
    assert len({e.bar_ms for e in candles_of(connected)}) == len(candles_of(connected))
    assert "POST /api/candles/fetch by api: warm up" in connected.words


def test_fetching_says_that_a_feed_runs_while_one_does_and_not_when_it_has_ended(
    oanda: V20Server, connected: ServiceProcess
) -> None:
    asked = {"instrument": PAIR, "granularity": "M1", "count": 60, "reason": "look"}
    port = connected.settings["FEED_METRICS_PORT"]
    settings = oanda.environment() | {"FEED_METRICS_PORT": port}
    feed = connected.deployment.start("feed", "feed", "oanda", **settings)

    def told() -> str:
        return str(connected.post("/api/candles/fetch", asked).json["detail"])

    try:
        connected.wait_until(lambda: "a feed is running" in told())
    finally:
        feed.stop()
        del connected.deployment.processes["feed"]
    after = told()
    assert "a feed is running" not in after
    assert "no feed answers" in after or after == "written from OANDA"


def test_an_instrument_that_oanda_does_not_know_is_the_askers_mistake(
    connected: ServiceProcess,
) -> None:
    found = connected.get("/api/oanda/pricing?instruments=EUR_USD,XXX_YYY")
    assert (found.status, found.json["error"]) == (400, "unknown_instrument")
    assert "XXX_YYY" in found.json["detail"]
    assert connected.get("/api/trading/mode").json["oanda_connected"] is True


def test_the_budget_is_of_the_base_that_the_executor_sizes_by(
    oanda: V20Server, connected: ServiceProcess
) -> None:
    order = {"type": "MARKET", "instrument": "GBP_USD", "units": "100000", "timeInForce": "FOK"}
    assert oanda.api("POST", "/accounts/{account}/orders", {"order": order})[0] == 201
    port = connected.settings["TRADE_STATUS_URL"].rpartition(":")[2].partition("/")[0]
    arguments = ("trade", "--venue", "oanda", "--status-port", port)
    process = connected.deployment.start("trade", *arguments, **oanda.environment())
    try:
        connected.wait_until(lambda: connected.get("/api/risk/budget").status == 200)
        found = connected.get("/api/risk/budget").json
    finally:
        process.stop()
        del connected.deployment.processes["trade"]
        body = {"longUnits": "ALL"}
        oanda.api("PUT", "/accounts/{account}/positions/GBP_USD/close", body)
    assert found["margin_used"] > 0
    wanted = min(found["balance"], found["margin_used"] + found["margin_available"])
    assert found["base"] == wanted > found["margin_available"]
    assert found["budget"] == pytest.approx(wanted * found["target_pct"])
