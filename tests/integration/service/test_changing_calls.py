"""Calls that change something, on a real log: who and why stand there first, or nothing is done."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis

from streams.kafka.control_topic import append_control, read_control
from streams.process.child import free_port
from streams.records.audit import audit_record
from streams.records.events import Candle, Control, GateDecision, Weights
from streams.records.topics import CANDLES, CONTROL, GATES, WEIGHTS
from streams.service import documents
from streams.service.app import make_rest
from streams.stack.kafka import QUICK_JVM, KafkaBroker
from streams.stack.valkey import ValkeyServer
from tests.support.candle_files import market, write_csv
from tests.support.deployment import LIVELY, Deployment
from tests.support.service import Answer, ServiceProcess, frames_until, subscribe
from tests.support.v20.server import V20Server

pytestmark = pytest.mark.kafka

PAIR = "EUR_USD"
ACCEPTED: dict[str, dict[str, Any]] = {
    "/api/kill-switch": {"kill_switch": True},
    "/api/trading/mode": {"mode": "paper"},
    "/api/trade/reconcile": {},
    "/api/trade/pause": {"instrument": PAIR},
    "/api/trade/resume": {"instrument": PAIR},
    "/api/trade/close": {"instrument": PAIR},
    "/api/order": {"instrument": PAIR, "units": -1000},
    "/api/trade/limits/reset": {"limit": "drawdown"},
    "/api/candles/fetch": {"instrument": PAIR, "granularity": "M1", "count": 60},
    "/api/studies/enqueue-long-run": {"instrument": PAIR, "days": 30, "c_min": 0.5},
    "/api/config/apply": {"settings": {"ALLOC_TOP_K": "4"}},
    "/api/config/set": {"settings": {"ALLOC_TOP_K": 2}},
}
"""Every call of the OpenAPI document that is no reading, and a body that it takes here."""
NOT_HERE = {"/api/trade/release": {"instrument": PAIR}}
"""What the paper account does not do."""
KINDS = {
    "/api/kill-switch": "kill_switch",
    "/api/trade/reconcile": "reconcile",
    "/api/trade/pause": "pause",
    "/api/trade/resume": "resume",
    "/api/trade/close": "close",
    "/api/order": "order",
    "/api/trade/limits/reset": "limits_reset",
    "/api/config/apply": "config",
    "/api/config/set": "config",
}
"""Whose record is the word itself; all others leave one of kind ``audit``."""
EVERY = sorted(ACCEPTED)


def kinds(path: str) -> set[str]:
    """Return the kinds of record that a call may leave; the same configuration again is no word."""
    word = KINDS.get(path, "audit")
    return {word, "audit"} if word == "config" else {word}


class Place(NamedTuple):
    """A service with an executor on the paper account and with OANDA, on a broker of its own."""

    broker: KafkaBroker
    deployment: Deployment
    service: ServiceProcess

    def ask(self, path: str, reason: str, **more: Any) -> Answer:
        """Make a call that is right."""
        said = {"actor": "ann", "reason": reason}
        return self.service.post(path, ACCEPTED[path] | said | more)

    def records(self, reason: str) -> list[Control]:
        """Return what stands in the log for that reason."""
        return [r for r in self.deployment.events(CONTROL) if r.reason == reason]


@pytest.fixture(scope="module")
def place(kafka: KafkaBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("calls")
    # ``kafka`` is asked for because it skips where there is none; this one is killed
    broker = KafkaBroker(directory / "kafka", jvm=QUICK_JVM)
    valkey = ValkeyServer(directory / "valkey")
    broker.start()
    valkey.start()
    with V20Server(hours="always") as oanda:
        deployment = Deployment(
            directory,
            KAFKA_BOOTSTRAP_SERVERS=broker.bootstrap,
            TOPIC_PREFIX="calls.",
            TOPIC_PARTITIONS="2",
            VALKEY_URL=valkey.url,
            HOTBAND_PAIRS=PAIR,
        )
        port = str(free_port())
        settings = oanda.environment() | {
            "OANDA_HTTP_RETRIES": "0",
            "FEED_METRICS_PORT": "0",
            "API_RATE_PER_SEC": "0",
            "API_WRITE_RATE_PER_MIN": "100000",
            "TRADE_STATUS_URL": f"http://127.0.0.1:{port}/status",
        }
        made = Place(broker, deployment, ServiceProcess(deployment, **settings))
        try:
            made.service.start()
            first = made.ask("/api/candles/fetch", "warm up")
            assert first.status == 200 and first.json["written"] >= 60, first.json
            deployment.start("trade", "trade", "--status-port", port, OPERATOR_ORDERS="open")
            made.service.wait_until(lambda: made.service.get("/api/risk/budget").status == 200)
            yield made
        finally:
            deployment.stop()
            valkey.stop()
            broker.stop()


def test_every_call_that_changes_something_is_tried_here() -> None:
    changing = {
        path
        for path, operations in documents.openapi(make_rest())["paths"].items()
        if operations.keys() - {"get", "head", "parameters"}
    }
    assert changing == {*ACCEPTED, *NOT_HERE}


@pytest.mark.parametrize("path", EVERY)
def test_a_call_leaves_one_record_with_who_and_why(place: Place, path: str) -> None:
    reason = f"to see it ✓ {path}"
    answer = place.ask(path, reason)
    assert answer.status == 200, answer.json
    (found,) = place.records(reason)
    assert found.kind in kinds(path) and found.actor == "ann"
    said = json.loads(found.value)
    if path not in KINDS:
        assert said == {"operation": f"POST {path}", "parameters": ACCEPTED[path]}
        assert found.instrument == ACCEPTED[path].get("instrument")
    assert abs(found.as_of_ms - place.service.get("/api/global-status").json["ts_ms"]) < 60_000
    if path not in KINDS:
        assert f"POST {path} by ann: to see it" in place.service.words


@pytest.mark.parametrize("path", EVERY)
def test_a_call_without_a_reason_leaves_a_record_that_says_so(place: Place, path: str) -> None:
    before = len(place.records("none given"))
    body = b"" if path == "/api/trade/reconcile" else ACCEPTED[path]
    answer = place.service.post(path, body)
    assert answer.status == 200, answer.json
    *_, found = place.records("none given")
    assert len(place.records("none given")) == before + 1
    assert found.kind in kinds(path) and found.actor == "api"


def test_a_fetch_that_writes_stands_in_the_log_before_what_it_writes(place: Place) -> None:
    every = [r for r in place.deployment.events(CONTROL) if isinstance(r, Control)]
    (at,) = [i for i, record in enumerate(every) if record.reason == "warm up"]
    assert every[at].kind == "audit"
    universes = [i for i, record in enumerate(every) if record.kind == "universe"]
    assert universes and at < universes[0], "the feed declared its universe first"


@pytest.mark.parametrize("path", EVERY)
def test_a_call_that_is_refused_leaves_nothing(place: Place, path: str) -> None:
    before = place.deployment.events(CONTROL)
    right = ACCEPTED[path] | {"actor": "ann", "reason": "x"}
    post = place.service.post
    assert post(path, right, token=None).status == 401
    if EVERY.index(path) % 3 == 0:  # after ten a minute the next ones are not even looked at
        assert post(path, right, token="wrong-wrong-wrong-wrong").status == 401
    assert post(path, right, Origin="http://evil.example").status == 403
    for wrong in (
        ACCEPTED[path] | {"reason": "  "},
        right | {"actor": ""},
        right | {"force": True},
        right | {"reason": "x" * 501},
    ):
        answer = post(path, wrong)
        assert (answer.status, answer.json["error"]) == (400, "invalid_request"), wrong
    assert place.deployment.events(CONTROL) == before


@pytest.mark.parametrize(
    ("path", "change", "status"),
    [
        ("/api/trading/mode", {"mode": "live"}, 409),
        ("/api/trade/release", {}, 409),
        ("/api/trade/pause", {"instrument": "GBP_USD"}, 404),
        ("/api/trade/close", {"units": 5}, 409),
        ("/api/order", {"instrument": "GBP_USD"}, 404),
        ("/api/order", {"units": 0}, 400),
        ("/api/order", {"request_id": "no spaces"}, 400),
        ("/api/candles/fetch", {"granularity": "H1"}, 409),
        ("/api/candles/fetch", {"instrument": "GBP_USD"}, 409),
        ("/api/studies/enqueue-long-run", {"instrument": "GBP_USD"}, 404),
        ("/api/config/set", {"settings": {"ALLOC_TOP_K": 0}}, 400),
        ("/api/config/set", {"settings": {"MAX_SPREAD_BPS": 3}}, 400),
        ("/api/config/set", {"settings": {"ALLOC_TOP_K": 9}, "config_id": "0" * 16}, 409),
        ("/api/config/set", {"settings": {"ALLOC_TOP_K": 9}, "dry_run": True}, 200),
        ("/api/config/apply", {"settings": {}, "dry_run": True}, 200),
    ],
)
def test_a_call_that_this_deployment_cannot_take_leaves_nothing(
    place: Place, path: str, change: dict[str, Any], status: int
) -> None:
    asked = (ACCEPTED | NOT_HERE)[path] | change | {"reason": "not to be found"}
    assert place.service.post(path, asked).status == status
    assert place.records("not to be found") == []


def test_the_other_ports_take_no_calls(place: Place) -> None:
    token = {"Authorization": f"Bearer {place.service.settings['API_TOKEN']}"}
    for port in ("ALLOCATOR_STATUS_PORT", "HYDRATOR_STATUS_PORT"):
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            found = place.service.ask(method, "/status", b"{}", port, **token)
            assert found.status == 405, (port, method)


def test_a_record_is_told_over_the_websocket(place: Place) -> None:
    with place.service.socket() as ws:
        subscribe(ws, "system")
        assert place.ask("/api/trading/mode", "to be told").status == 200
        told = frames_until(ws, lambda f: f["type"] == "control")[-1]
    assert told["data"]["kind"] == "audit" and told["data"]["reason"] == "to be told"
    assert told["data"]["value"]["parameters"] == {"mode": "paper"}


def test_without_the_log_a_call_is_refused_and_nothing_is_done(place: Place) -> None:
    service, reason = place.service, "while it is away"

    def runs() -> list[str]:
        return [one["queued"] for one in service.get("/api/studies/long-runs").json["runs"]]

    def ask(path: str) -> Answer:
        other = {"days": 31} if "long-run" in path else {}
        return place.ask(path, reason, **other)

    before = runs()
    candles = [e for e in place.deployment.events(CANDLES) if isinstance(e, Candle)]
    place.broker.kill()
    with ThreadPoolExecutor(len(EVERY)) as pool:
        answers = dict(zip(EVERY, pool.map(ask, EVERY), strict=True))
    off = service.post("/api/kill-switch", {"kill_switch": False, "reason": reason})
    for path, answer in answers.items():
        assert answer.status == 503 and answer.json["detail"], (path, answer.json)
        if path != "/api/kill-switch":
            assert answer.json["error"] == "not_recorded", (path, answer.json)
            assert answer.json["detail"].startswith("nothing was done"), path
            assert int(answer.headers["retry-after"]) >= 1
    assert off.status == 503
    # the one exception, towards safety: engaging works without the log
    with redis.Redis.from_url(place.deployment.environment["VALKEY_URL"]) as client:
        assert client.get("ops:kill_switch") == b"1"
    assert runs() == before
    place.broker.start()
    service.wait_until(lambda: service.healthy)
    assert place.records(reason) == []
    assert [e for e in place.deployment.events(CANDLES) if isinstance(e, Candle)] == candles
    assert service.wait_until(lambda: place.ask("/api/trading/mode", "again").status == 200)
    assert len(place.records("again")) >= 1
    assert service.process is not None
    assert "Traceback" not in service.process.child.log.read_text()


def test_a_log_with_calls_in_its_middle_derives_the_same_and_is_shown(
    kafka: KafkaBroker, valkey_url: str, tmp_path: Path
) -> None:
    pairs = (PAIR, "USD_JPY")
    deployment = Deployment(
        tmp_path,
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
        TOPIC_PREFIX=f"t{uuid.uuid4().hex[:8]}.",
        TOPIC_PARTITIONS="2",
        VALKEY_URL=valkey_url,
        **LIVELY,
    )
    try:
        deployment.start_worker()
        assert deployment.run("load", write_csv(tmp_path / "a.csv", market(pairs, 200))).stderr
        end = read_control(deployment.runtime, deployment.codec).end
        said = [
            audit_record("POST /api/x", {"count": 3}, "ann", "in the middle", 1_700_000_000_000),
            audit_record("POST /api/y", {}, "ben", "in the middle", 1_700_000_000_000, PAIR),
        ]
        assert append_control(deployment.runtime, deployment.codec, said) == [end, end + 1]
        deployment.run("load", write_csv(tmp_path / "b.csv", market(pairs, 320)))
        deployment.settle()
        deployment.require_exact()
        for topic, kind in ((GATES, GateDecision), (WEIGHTS, Weights)):
            offsets = {e.control_offset for e in deployment.events(topic) if isinstance(e, kind)}
            assert min(offsets) <= end and max(offsets) >= end + 2, "none was crossed"
        deployment.require_verified()
        tail = deployment.run("tail", CONTROL, "-n", "20")
        shown = [json.loads(line) for line in tail.stdout.splitlines()]
        values = [json.loads(one["value"]) for one in shown if one["key"].startswith("audit")]
        assert [(v["kind"], v["actor"], v["reason"]) for v in values] == [
            ("audit", "ann", "in the middle"),
            ("audit", "ben", "in the middle"),
        ]
        for command in (("status",), ("why", PAIR), ("config", "show"), ("params", "show", PAIR)):
            done = deployment.run(*command)
            assert done.returncode == 0, (command, done.stderr)
    finally:
        deployment.stop()
