"""The service as a process, on a real log and a real Valkey: what it says, and to whom."""

from __future__ import annotations

import json
import math
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families

from streams.process.child import free_port
from streams.process.supervise import Supervised
from streams.records.events import Candle, GateDecision, Manifold, SimulatedTrade, Summary, Weights
from streams.records.topics import CANDLES, CONTROL, GATES, MANIFOLDS, SUMMARIES, TRADES, WEIGHTS
from streams.stack.kafka import KafkaBroker
from tests.support.candle_files import market, write_csv
from tests.support.deployment import LIVELY, Deployment
from tests.support.service import PORTS, TOKEN, ServiceProcess
from tests.support.waiting import PATIENCE_S

pytestmark = pytest.mark.kafka

PAIRS = ("EUR_USD", "USD_JPY")
PAIR = "EUR_USD"
BARS = 300


@pytest.fixture(scope="module")
def deployment(
    kafka: KafkaBroker, new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """A deployment whose log is derived and mirrored, and nothing goes on."""
    directory = tmp_path_factory.mktemp("api")
    made = Deployment(
        directory,
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
        TOPIC_PREFIX="api.",
        TOPIC_PARTITIONS="2",
        VALKEY_URL=new_database(),
        HOTBAND_PAIRS=",".join(PAIRS),
        **LIVELY,
    )
    path = write_csv(directory / "candles.csv", market(PAIRS, BARS))
    try:
        made.start_worker()
        made.start("mirror", "mirror")
        assert made.run("load", path).returncode == 0
        made.settle()
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def service(deployment: Deployment) -> ServiceProcess:
    found = ServiceProcess(deployment, API_RATE_PER_SEC="0", API_WRITE_RATE_PER_MIN="100000")
    found.start()
    found.wait_until(lambda: found.get("/api/preflight").status == 200)
    return found


def last(deployment: Deployment, topic: str, kind: type, instrument: str | None = PAIR) -> Any:
    """Return the newest event of a kind in the log."""
    events = [e for e in deployment.events(topic) if isinstance(e, kind)]
    mine = [e for e in events if instrument is None or e.instrument == instrument]  # type: ignore[attr-defined]
    return max(mine, key=lambda e: e.as_of_ms)


# -- the shapes that the profile asks for --------------------------------------------------------


SHAPES: dict[str, tuple[int, set[str]]] = {
    "/health": (200, {"status", "timestamp", "kill_switch", "trading_active", "enabled_pairs"}),
    "/api/health": (200, {"status", "timestamp", "kill_switch", "trading_active", "enabled_pairs"}),
    "/api/status": (200, {"status", "timestamp", "kill_switch", "trading_active", "enabled_pairs"}),
    "/api/pairs": (200, {"pairs"}),
    "/api/trade/readiness": (200, {"ts_ms", "trading_active", "kill_switch", "instruments"}),
    "/api/ranking/active": (200, {"now_ms", "sessions", "items"}),
    "/api/strategy/status": (200, {"ts_ms", "mode", "config_id", "instruments"}),
    "/api/authenticity": (200, {"instruments"}),
    "/api/global-status": (200, {"ts_ms", "instruments", "weights", "signals", "trading", "lag"}),
    "/openapi.json": (200, {"openapi", "paths", "components"}),
    "/asyncapi.json": (200, {"asyncapi", "channels", "components"}),
    "/api/opt/slice(410)": (410, {"error", "detail"}),
    "unknown-path(404)": (404, {"error"}),
}


@pytest.mark.parametrize("endpoint", SHAPES)
def test_an_endpoint_of_the_profile_answers_in_its_shape(
    service: ServiceProcess, endpoint: str
) -> None:
    status, fields = SHAPES[endpoint]
    path = endpoint.partition("(")[0]
    answer = service.get(path if path.startswith("/") else "/no/such/path")
    assert answer.status == status
    assert fields <= answer.json.keys(), answer.json


# -- what it says is what the log says -----------------------------------------------------------


def test_manifolds_and_candles_are_those_of_the_log(
    deployment: Deployment, service: ServiceProcess
) -> None:
    newest: Manifold = last(deployment, MANIFOLDS, Manifold)
    found = service.get(f"/api/manifold/latest?instrument={PAIR}").json
    assert (found["as_of_ms"], found["coherence"], found["lambda"]) == (
        newest.as_of_ms,
        newest.coherence,
        newest.lambda_,
    )
    coeffs = service.get(f"/api/manifold/coeffs?instrument={PAIR}").json
    assert coeffs == {
        "instrument": PAIR,
        "ts_ms": newest.as_of_ms,
        "sigma_eff": newest.sigma_eff,
        "lambda": newest.lambda_,
        "lambda_hazard": newest.lambda_hazard,
    }
    every = [e for e in deployment.events(MANIFOLDS) if isinstance(e, Manifold)]
    mine = sorted((e for e in every if e.instrument == PAIR), key=lambda e: e.as_of_ms)
    items = service.get(f"/api/manifold/history?instrument={PAIR}&limit=50").json["items"]
    assert [one["as_of_ms"] for one in items] == [e.as_of_ms for e in mine[-50:]]
    assert [one["entropy"] for one in items] == [e.entropy for e in mine[-50:]]
    candles = [e for e in deployment.events(CANDLES) if isinstance(e, Candle)]
    wanted = [e for e in candles if e.instrument == PAIR][-20:]
    for path, name in (("market-data", "candles"), ("candles", "items")):
        shown = service.get(f"/api/{path}?instrument={PAIR}&granularity=M1&limit=20").json[name]
        assert [(one["t"], one["c"], one["v"]) for one in shown] == [
            (e.bar_ms, e.mid.close, e.volume) for e in wanted
        ]
    points = service.get(f"/api/coherence/status?instrument={PAIR}&points=3").json
    assert points["ts_ms"] == newest.as_of_ms and len(points["points"]) == 3
    assert points["metrics"]["stability"] == points["stability"] == newest.stability


def test_weights_and_the_allocators_status_are_those_of_the_log_and_of_valkey(
    deployment: Deployment, service: ServiceProcess
) -> None:
    newest: Weights = last(deployment, WEIGHTS, Weights, None)
    wanted = {entry.instrument: entry.weight for entry in newest.entries}
    found = service.get("/api/risk/allocation-status").json
    assert found["weights"] == wanted and found["ts_ms"] == newest.epoch_ms
    status = service.get("/status", "ALLOCATOR_STATUS_PORT").json
    with redis.Redis.from_url(deployment.environment["VALKEY_URL"]) as client:
        mirrored = json.loads(client.get("opt:allocator:status"))
    assert mirrored.items() <= status.items()
    shown = service.get("/api/global-status").json["weights"]
    assert {one["instrument"]: one["weight"] for one in shown["entries"]} == wanted


def test_the_hydrators_status_tells_the_age_of_every_manifold(
    deployment: Deployment, service: ServiceProcess
) -> None:
    found = service.get("/status", "HYDRATOR_STATUS_PORT").json
    assert found["count"] == found["pairs"] == 2 and found["stale"] == list(PAIRS)
    newest: Manifold = last(deployment, MANIFOLDS, Manifold)
    one = found["instruments"][PAIR]
    assert one["as_of_ms"] == newest.as_of_ms and one["age_ms"] > 300_000
    assert service.get("/nothing", "HYDRATOR_STATUS_PORT").json == {"error": "not_found"}


def test_the_aggregate_says_of_every_instrument_what_the_log_says(
    deployment: Deployment, service: ServiceProcess
) -> None:
    found = service.wait_until(
        lambda: (s := service.get("/api/global-status").json)["lag"]["signals"] == 0 and s
    )
    assert [one["instrument"] for one in found["instruments"]] == list(PAIRS)
    decision: GateDecision = last(deployment, GATES, GateDecision)
    gate = found["instruments"][0]["gate"]
    assert (gate["as_of_ms"], gate["eligible"]) == (decision.as_of_ms, decision.eligible)
    assert [one["reason"] for one in gate["reasons"]] == list(decision.reasons)
    assert all(one["text"] for one in gate["reasons"])
    assert found["trading"]["executor"] == "absent" and found["trading"]["account"] is None
    assert found["lag"] == {"signals": 0, "gates": 0, "weights": 0, "mirror": 0}
    assert found["versions"]["config_id"] == decision.config_id
    assert found["versions"]["engine"].startswith("qfh-")
    assert {one["name"] for one in found["signals"]} >= {"kill_switch_stuck", "candle_stale"}


def test_the_ranking_and_the_strategy_go_by_the_last_decisions(
    deployment: Deployment, service: ServiceProcess
) -> None:
    items = service.get("/api/ranking/active").json["items"]
    scores = [one["score"] for one in items]
    assert scores == sorted(scores, reverse=True) and len(items) == 2
    assert len(service.get("/api/ranking/active?limit=1").json["items"]) == 1
    decision: GateDecision = last(deployment, GATES, GateDecision)
    strategy = service.get("/api/strategy/status").json["instruments"][0]
    assert (strategy["position"], strategy["params_id"], strategy["passes"]) == (
        decision.position,
        decision.params_id,
        decision.passes,
    )


def test_studies_and_backtests_are_those_of_the_log(
    deployment: Deployment, service: ServiceProcess
) -> None:
    summary: Summary = last(deployment, SUMMARIES, Summary)
    series = service.get(f"/api/studies/series?instrument={PAIR}").json
    assert [(one["days"], one["trades"]) for one in series] == [
        (one.days, one.trades) for one in sorted(summary.slices, key=lambda s: s.days)
    ]
    assert summary.params is not None
    same = f"c_min={summary.params.c_min}&look={summary.params.direction_lookback}&entry_cd=60"
    assert service.get(f"/api/studies/series?instrument={PAIR}&{same}").json == series
    none = service.get(f"/api/studies/series?instrument={PAIR}&c_min=0.99")
    assert (none.status, none.json["error"]) == (404, "no_long_run")
    run = service.get(f"/api/backtest/latest-run?instrument={PAIR}").json
    assert run["run_id"] == f"{PAIR}:{summary.params_id}"
    assert (
        service.get(f"/api/backtest/latest-run?instrument={PAIR}&min_trades=100000").status == 404
    )
    results = service.get(f"/api/backtest/results?run_id={run['run_id']}").json
    assert len(results["slices"]) == len(summary.slices)
    assert results["floor_samples"] == summary.floor_samples
    every = [e for e in deployment.events(TRADES) if isinstance(e, SimulatedTrade)]
    mine = [e for e in every if e.instrument == PAIR]
    assert len(mine) > 3, "the market brought no trades"
    found = service.get(f"/api/backtest/trades?run_id={run['run_id']}&limit=5000").json
    assert found["complete"] is True
    assert [one["trade_id"] for one in found["trades"]] == [e.trade_id for e in reversed(mine)]
    short = service.get(f"/api/backtest/trades?run_id={run['run_id']}&limit=2").json
    assert short["complete"] is False and len(short["trades"]) == 2
    assert service.get(f"/api/backtest/trades?run_id={PAIR}:00ff").json["trades"] == []
    assert service.get("/api/studies/default-window").json == {"days": 30, "hours": 720}


def test_a_run_under_other_parameters_is_run_beside_the_live_loop(
    deployment: Deployment, service: ServiceProcess
) -> None:
    path = f"/api/studies/series?instrument={PAIR}&c_min=0.45&entry_cd=120"
    assert service.get(path).json["error"] == "no_long_run"
    asked = {"instrument": PAIR, "c_min": 0.45, "entry_cd": 120, "days": 3_650, "reason": "what if"}
    queued = service.post("/api/studies/enqueue-long-run", asked)
    assert queued.status == 200 and queued.json["state"] in ("queued", "running")
    assert (
        service.post("/api/studies/enqueue-long-run", asked).json["queued"]
        == (queued.json["queued"])
    )

    def ended() -> Any:
        (one,) = service.get("/api/studies/long-runs").json["runs"]
        return one["state"] in ("done", "failed") and one

    run = service.wait_until(ended)
    assert run["state"] == "done", run
    replayed = deployment.run(
        *("replay", "--instruments", PAIR, "--set", "AUTO_MIN_COHERENCE=0.45"),
        *("--set", "ENTRY_COOLDOWN_SEC=120", "--topic", TRADES),
    )
    ids = [json.loads(json.loads(x)["value"])["trade_id"] for x in replayed.stdout.splitlines()]
    assert ids
    found = service.get(f"/api/backtest/trades?run_id={run['run_id']}&limit=5000").json
    assert [one["trade_id"] for one in found["trades"]] == ids[::-1]
    assert service.get(path).json[0]["trades"] == len(ids)
    assert service.get(f"/api/backtest/results?run_id={run['run_id']}").json["c_min"] == 0.45
    mine: Summary = last(deployment, SUMMARIES, Summary)
    assert not run["run_id"].endswith(mine.params_id), "the live run is another one"


def test_where_figures_come_from_can_be_looked_up_in_the_log(service: ServiceProcess) -> None:
    one = service.get(f"/api/authenticity?instruments={PAIR}").json["instruments"][0]
    assert (one["candle_source"], one["native"]) == ("file", True)
    topic, partition, _ = one["derived_from"].rsplit("-", 2)
    assert topic.endswith("md.candles") and partition in "01"
    assert one["manifold_id"].startswith("sep.manifolds-")


def test_why_goes_from_the_candle_to_the_broker(service: ServiceProcess) -> None:
    found = service.get(f"/api/why?instrument={PAIR}").json
    assert [one["step"] for one in found["steps"]] == [
        *("universe", "market", "candle", "signal", "gate", "weights", "run", "kill_switch"),
        *("operator", "executor", "guards", "order", "broker"),
    ]
    assert all(one["words"] == one["detail"] for one in found["steps"]), "the former name"
    by_step = {one["step"]: one for one in found["steps"]}
    assert by_step["candle"]["ok"] is False and by_step["candle"]["change"]
    assert by_step["kill_switch"]["ok"] is False
    assert by_step["executor"]["ok"] is False and "manifold trade" in by_step["executor"]["detail"]
    assert found["trading"] is False and found["stops_at"] and found["summary"]
    # before its first candle the log had nothing of it
    then = service.get(f"/api/why?instrument={PAIR}&at_ms=1000").json
    by_step = {one["step"]: one for one in then["steps"]}
    assert then["ts_ms"] == 1000 and by_step["candle"]["detail"] == "no candle in the log"
    assert by_step["broker"]["detail"] == "no open position according to the log"
    for other, status in (("at_ms=soon", 400), ("at=1000", 400), ("at_ms=4000000000000", 404)):
        assert service.get(f"/api/why?instrument={PAIR}&{other}").status == status


def test_metrics_tell_gates_weights_signals_and_the_service_itself(
    deployment: Deployment, service: ServiceProcess
) -> None:
    families = text_string_to_metric_families(service.get("/metrics").body.decode())
    samples = {
        (one.name, one.labels.get("instrument") or one.labels.get("name")): one.value
        for family in families
        for one in family.samples
    }
    summary: Summary = last(deployment, SUMMARIES, Summary)
    figures = next(one for one in summary.slices if one.days == summary.span_days)
    calmar = samples["sep_bt_calmar", PAIR]
    assert math.isnan(calmar) if figures.calmar is None else calmar == figures.calmar
    for name in ("sep_rolling_gate", "sep_allocator_selected", "sep_allocator_cooldown"):
        assert (name, PAIR) in samples
    assert samples["sep_span_integrity_ok", PAIR] == 1
    assert samples["manifold_kill_switch_engaged", None] == 1
    assert samples["sep_failure_signal", "candle_stale"] >= 0
    assert 0 <= samples["sep_global_status_age_seconds", None] < 30
    assert samples["manifold_api_following", None] == 1


# -- what is not there is said, never made up ----------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("/nothing", 404, "not_found"),
        ("/api/", 404, "not_found"),
        ("/api/manifold/latest?instrument=XXX_YYY", 404, "unknown_instrument"),
        ("/api/manifold/latest?instrument=EUR~USD", 400, "invalid_request"),
        ("/api/manifold/latest", 400, "invalid_request"),
        (f"/api/candles?instrument={PAIR}&limit=0", 400, "invalid_request"),
        (f"/api/candles?instrument={PAIR}&limit=1e3", 400, "invalid_request"),
        (f"/api/candles?instrument={PAIR}&granularity=M7", 400, "invalid_request"),
        ("/api/risk/budget", 503, "no_executor"),
        ("/api/oanda/account", 503, "no_executor"),
        ("/api/oanda/positions", 503, "no_executor"),
        ("/api/oanda/open-trades", 503, "no_executor"),
        ("/api/trades/open", 503, "no_executor"),
        ("/api/opt/slice", 410, "gone"),
        ("/api/opt/slice/matches?window_min=5", 410, "gone"),
    ],
)
def test_a_read_that_cannot_be_answered_says_so(
    service: ServiceProcess, path: str, status: int, error: str
) -> None:
    found = service.get(path)
    assert (found.status, found.json["error"]) == (status, error)
    if status not in (404,) or error != "not_found":
        assert found.json["detail"]


@pytest.mark.parametrize(
    ("path", "body", "status", "error"),
    [
        ("/api/trade/reconcile", {"reason": "x"}, 503, "no_executor"),
        ("/api/candles/fetch", {"reason": "x"}, 409, "no_oanda"),
        ("/api/candles/fetch", {"granularity": "H1", "reason": "x"}, 409, "other_granularity"),
        ("/api/candles/fetch", {"instrument": "XXX_YYY", "reason": "x"}, 409, "not_in_pairs"),
        ("/api/trading/mode", {"mode": "live", "reason": "x"}, 409, "fixed_by_settings"),
        (
            "/api/studies/enqueue-long-run",
            {"instrument": "XXX_YYY", "reason": "x"},
            404,
            "unknown_instrument",
        ),
    ],
)
def test_a_change_that_needs_what_is_not_there_is_no_success(
    deployment: Deployment,
    service: ServiceProcess,
    path: str,
    body: Any,
    status: int,
    error: str,
) -> None:
    before = len(deployment.events(CONTROL))
    found = service.post(path, body)
    assert (found.status, found.json["error"]) == (status, error)
    assert found.json["detail"]
    assert len(deployment.events(CONTROL)) == before


def test_prices_without_a_broker_are_the_last_candles_and_say_so(
    deployment: Deployment, service: ServiceProcess
) -> None:
    found = service.get(f"/api/oanda/pricing?instruments={PAIR}").json
    candles = [e for e in deployment.events(CANDLES) if isinstance(e, Candle)]
    newest = [e for e in candles if e.instrument == PAIR][-1]
    assert newest.bid is not None
    price = found["prices"][PAIR]
    assert found["source"] == "candles"
    assert (price["bid"], price["ts_ms"]) == (newest.bid.close, newest.as_of_ms)


# -- the kill switch -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"reason": "x"},
        {"enabled": True, "kill_switch": True, "reason": "x"},
        {"enabled": False, "kill_switch": False, "reason": "x"},
        {"enabled": None, "reason": "x"},
        {"enabled": "false", "reason": "x"},
        {"enabled": 0, "reason": "x"},
        {"kill_switch": [], "reason": "x"},
        {"enabled": False},
        {"enabled": False, "reason": ""},
        {"enabled": False, "reason": "   "},
        {"enabled": False, "reason": "x", "force": True},
        [],
        None,
        b"",
        b"{",
        b'{"enabled": false, "reason": "x"',
        b"\xff\xfe",
        b'{"enabled": NaN, "reason": "x"}',
    ],
)
def test_without_exactly_one_explicit_boolean_nothing_is_switched(
    deployment: Deployment, service: ServiceProcess, body: Any
) -> None:
    before = len(deployment.events(CONTROL))
    found = service.post("/api/kill-switch", body)
    assert (found.status, found.json["error"]) == (400, "invalid_request")
    assert len(deployment.events(CONTROL)) == before


def test_the_kill_switch_goes_off_and_on_and_the_log_knows_who_and_why(
    deployment: Deployment, service: ServiceProcess
) -> None:
    said = {"kill_switch": False, "reason": "checked \u2713", "actor": "ann"}
    off = service.post("/api/kill-switch", said)
    assert off.status == 200 and off.json["engaged"] is False, off.json
    assert off.json["kill_switch"] is off.json["enabled"] is False
    assert service.get("/api/kill-switch").json["actor"] == "ann"
    assert service.get("/health").json["kill_switch"] is False
    on = service.post("/api/kill-switch", {"enabled": True, "reason": "spread"})
    assert on.status == 200 and on.json["engaged"] is True
    status = service.get("/api/global-status").json["kill_switch"]
    assert status["engaged"] and status["reason"] == "spread" and status["actor"] == "api"
    words = [e for e in deployment.events(CONTROL) if e.kind == "kill_switch"][-2:]
    assert [(json.loads(w.value)["engaged"], w.actor, w.reason) for w in words] == [
        (False, "ann", "checked \u2713"),
        (True, "api", "spread"),
    ]
    with redis.Redis.from_url(deployment.environment["VALKEY_URL"]) as client:
        assert client.get("ops:kill_switch") == b"1"
    assert "kill-switch: engage by api: spread" in service.process.child.last_output(20)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/api/kill-switch", lambda told: told["engaged"]),
        ("/api/trading/mode", lambda told: told["kill_switch"]),
        ("/api/trade/readiness", lambda told: told["kill_switch"]["engaged"]),
        ("/api/global-status", lambda told: told["kill_switch"]["engaged"]),
        (
            f"/api/why?instrument={PAIR}",
            lambda told: [s["ok"] for s in told["steps"] if s["step"] == "kill_switch"] == [False],
        ),
    ],
)
def test_an_operators_word_in_valkey_is_seen_and_reaches_the_log(
    deployment: Deployment, service: ServiceProcess, path: str, says: Callable[[Any], bool]
) -> None:
    off = service.post("/api/kill-switch", {"enabled": False, "reason": "before"})
    assert off.json["engaged"] is False
    with redis.Redis.from_url(deployment.environment["VALKEY_URL"]) as client:
        client.set("ops:kill_switch", "1")
    assert says(service.get(path).json), "it answered with what it knew before"
    service.wait_until(
        lambda: "1" in [e for e in deployment.events(CONTROL) if e.kind == "kill_switch"][-1].reason
    )


# -- who is let in -------------------------------------------------------------------------------


def test_nobody_changes_anything_without_the_token(
    deployment: Deployment, service: ServiceProcess
) -> None:
    body = {"kill_switch": False, "reason": "x"}
    before = len(deployment.events(CONTROL))
    none = service.post("/api/kill-switch", body, token=None)
    assert none.status == 401 and none.headers["www-authenticate"] == "Bearer"
    assert service.post("/api/kill-switch", body, token="wrong-wrong-wrong-wrong").status == 401
    assert service.post(f"/api/kill-switch?token={TOKEN}", body, token=None).status == 401
    foreign = service.post("/api/kill-switch", body, Origin="http://evil.example")
    assert foreign.status == 403
    assert service.get("/api/kill-switch", Host="evil.example").status == 400
    assert len(deployment.events(CONTROL)) == before
    for method in ("PUT", "PATCH", "DELETE"):
        found = service.ask(method, "/api/kill-switch", b"{}", Authorization=f"Bearer {TOKEN}")
        assert found.status == 405 and found.headers["allow"], method


def test_a_body_that_is_too_large_is_not_read(service: ServiceProcess) -> None:
    found = service.post("/api/kill-switch", b"[" * 70_000)
    assert (found.status, found.json["error"]) == (413, "too_large")


def test_a_body_that_never_comes_is_not_waited_for(service: ServiceProcess) -> None:
    head = (
        f"POST /api/kill-switch HTTP/1.1\r\nHost: 127.0.0.1:{service.ports['API_PORT']}\r\n"
        f"Authorization: Bearer {TOKEN}\r\nContent-Length: 50\r\n\r\n{{"
    )
    with socket.create_connection(("127.0.0.1", service.ports["API_PORT"]), 20) as raw:
        raw.sendall(head.encode())
        assert b" 408 " in raw.recv(4_096)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x00\x05hello",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\n\r\n\r\n",
        b"GET /" + b"a" * 100_000,
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n",
    ],
)
def test_garbage_is_an_error_and_the_service_goes_on(
    service: ServiceProcess, garbage: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", service.ports["API_PORT"]), 5) as raw:
        raw.sendall(garbage)
        raw.shutdown(socket.SHUT_WR)
        answer = raw.recv(4_096)
    assert not answer or answer.split(b" ", 2)[1].startswith(b"4"), answer[:80]
    assert service.healthy


def test_the_page_is_served_with_a_policy_that_lets_nothing_foreign_in(
    service: ServiceProcess,
) -> None:
    found = service.get("/")
    assert found.status == 200 and found.headers["content-type"].startswith("text/html")
    assert found.headers["content-security-policy"].startswith("default-src 'self'")
    again = service.get("/", If_None_Match=found.headers["etag"])
    assert again.status == 304 and not again.body
    script = service.get("/page/main.js")
    assert script.status == 200 and script.headers["content-type"].startswith("text/javascript")
    for path in ("/page/../settings.py", "/page/%2e%2e/settings.py", "/page/", "/page/none.js"):
        assert service.get(path).status == 404, path
    assert (
        service.get("/api/pairs", Origin="http://evil.example")
        .headers.keys()
        .isdisjoint({"access-control-allow-origin"})
    )


def test_the_documents_are_served(service: ServiceProcess) -> None:
    place = Path(__file__).parents[3] / "streams" / "service"
    for name in ("openapi", "asyncapi"):
        assert service.get(f"/{name}.json").body == (place / f"{name}.json").read_bytes()


def test_who_asks_too_often_is_told_when_to_come_again(deployment: Deployment) -> None:
    limited = ServiceProcess(deployment, API_RATE_PER_SEC="20", WS_PORT="0", API_TOKEN="")
    limited.settings |= {"ALLOCATOR_STATUS_PORT": "0", "HYDRATOR_STATUS_PORT": "0"}
    process = deployment.start("limited", "serve", **limited.settings)
    limited.process = process
    try:
        limited.wait_until(lambda: limited.healthy)
        time.sleep(2.0)
        answers = [limited.get("/api/pairs") for _ in range(80)]
        refused = [one for one in answers if one.status == 429]
        assert 10 < len(refused) < 60
        assert int(refused[0].headers["retry-after"]) >= 1
        time.sleep(0.2)
        nobody = limited.post("/api/kill-switch", {"enabled": True, "reason": "x"}, token=None)
        assert (nobody.status, nobody.json["error"]) == (403, "no_token_set")
        assert "API_TOKEN" in nobody.json["detail"]
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", limited.ports["WS_PORT"]), 1).close()
    finally:
        process.stop()
        del deployment.processes["limited"]


# -- with an executor on the paper account ---------------------------------------------------------


@pytest.fixture
def executor(deployment: Deployment, service: ServiceProcess) -> Iterator[Supervised]:
    """``manifold trade`` where the service looks for it; gone afterwards, and seen to be."""
    port = service.settings["TRADE_STATUS_URL"].rpartition(":")[2].partition("/")[0]
    process = deployment.start("trade", "trade", "--status-port", port)

    def state() -> str:
        return str(service.get("/api/global-status").json["trading"]["executor"])

    try:
        service.wait_until(lambda: service.get("/api/risk/budget").status == 200)
        yield process
    finally:
        process.stop()
        del deployment.processes["trade"]
    service.wait_until(lambda: state() == "absent")


def test_the_paper_account_is_told_by_the_executor(
    service: ServiceProcess, executor: Supervised
) -> None:
    budget = service.get("/api/risk/budget").json
    assert budget["balance"] == budget["nav"] == 100_000.0 and budget["currency"] == "USD"
    assert budget["budget"] == pytest.approx(budget["base"] * 0.3)
    account = service.get("/api/oanda/account").json
    assert account["source"] == "executor" and account["account"]["mode"] == "paper"
    assert service.get("/api/oanda/positions").json["positions"] == []
    trading = service.get("/api/global-status").json["trading"]
    assert (trading["executor"], trading["mode"]) == ("running", "paper")
    assert trading["account"]["balance"] == 100_000.0
    mode = service.get("/api/trading/mode").json
    assert mode["mode"] == "paper" and mode["auto_trading_enabled"] is False
    same = service.post("/api/trading/mode", {"mode": "paper", "reason": "look"})
    assert same.status == 200 and same.json["mode"] == "paper"


def test_a_reconcile_can_be_asked_for(
    deployment: Deployment, service: ServiceProcess, executor: Supervised
) -> None:
    before = service.get("/api/global-status").json["trading"]["last_cycle_ms"]
    found = service.post("/api/trade/reconcile", {"reason": "look", "actor": "ann"})
    assert found.status == 200 and found.json["accepted"] is True
    service.wait_until(
        lambda: service.get("/api/global-status").json["trading"]["last_cycle_ms"] > before, 10.0
    )
    assert "POST /api/trade/reconcile by ann: look" in service.words
    word = [e for e in deployment.events(CONTROL) if e.kind == "reconcile"][-1]
    assert (word.actor, word.reason, word.value) == ("ann", "look", '{"account_id":"paper"}')


# -- schemathesis --------------------------------------------------------------------------------


def test_schemathesis_finds_nothing(
    service: ServiceProcess, executor: Supervised, tmp_path: Path
) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run"),
            f"http://127.0.0.1:{service.ports['API_PORT']}/openapi.json",
            *("--header", f"Authorization: Bearer {TOKEN}", "--checks", "all"),
            *("--phases", "examples,coverage,fuzzing", "--max-time", "20", "--seed", "1"),
            *("--max-failures", "5", "--warnings", "off", "--request-timeout", "20"),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=2 * PATIENCE_S,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-2_000:]
    assert service.healthy
    log = service.process.child.log.read_text()  # type: ignore[union-attr]
    assert "Traceback" not in log and TOKEN not in log


# -- starting and ending -------------------------------------------------------------------------


def test_what_it_cannot_start_with_is_one_sentence(deployment: Deployment) -> None:
    cases: tuple[tuple[dict[str, str], str], ...] = (
        ({"API_HOST": "0.0.0.0"}, "API_TOKEN"),
        ({"API_HOST": "203.0.113.7", "API_TOKEN": TOKEN}, "API_HOST"),
        ({"KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}"}, "127.0.0.1"),
        ({"TOPIC_PREFIX": "nothing-here."}, "manifold topics create"),
        ({"VALKEY_URL": "http://nowhere"}, "VALKEY_URL"),
    )

    def tried(settings: dict[str, str]) -> subprocess.CompletedProcess[str]:
        ports = {name: str(free_port()) for name in PORTS}
        return deployment.run("serve", **ports, **settings)

    with ThreadPoolExecutor(len(cases)) as pool:
        done_of = list(pool.map(tried, [settings for settings, _ in cases]))
    for (settings, said), done in zip(cases, done_of, strict=True):
        assert done.returncode in (2, 75), (settings, done)
        (line,) = [one for one in done.stderr.splitlines() if one.startswith("manifold: ")]
        assert said in line and TOKEN not in line
        assert "Traceback" not in done.stderr


def test_a_port_in_use_is_named(deployment: Deployment, service: ServiceProcess) -> None:
    taken = str(service.ports["WS_PORT"])
    done = deployment.run("serve", API_PORT=str(free_port()), WS_PORT=taken)
    assert (
        done.returncode == 2 and f"WS_PORT: cannot listen on 127.0.0.1 port {taken}" in done.stderr
    )
