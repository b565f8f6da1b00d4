"""The configuration of a running deployment: shown, changed by name or by file, and followed."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from streams.config.settings import Config
from streams.process.child import free_port
from streams.records.events import Candle, Control
from streams.records.topics import CANDLES, CONTROL
from streams.stack.kafka import KafkaBroker
from tests.support.candle_files import market, write_csv
from tests.support.deployment import LIVELY, Deployment
from tests.support.service import ServiceProcess
from tests.support.trading import ExecutorProcess
from tests.support.waiting import PATIENCE_S

pytestmark = pytest.mark.kafka

PAIRS = ("EUR_USD", "USD_JPY")
HELD = "ALLOC_MAX_HOLD_SEC"


class Place(NamedTuple):
    """A deployment whose processes were started with another environment than the log has."""

    deployment: Deployment
    service: ServiceProcess
    executor: ExecutorProcess

    def active(self) -> dict[str, Any]:
        """Return the settings of the last configuration in the log."""
        found: dict[str, Any] = json.loads(self.configs()[-1].value)
        return found

    def configs(self) -> list[Control]:
        return [e for e in self.deployment.events(CONTROL) if e.kind == "config"]

    def set(self, *changes: str, reason: str = "a test") -> dict[str, Any]:
        done = self.deployment.run("config", "set", *changes, "--reason", reason, "--json")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def signal(self) -> dict[str, Any]:
        answer = self.service.get("/api/preflight")
        signals = answer.json["signals"] if answer.status == 200 else ()
        found = (one for one in signals if one["name"] == "config_differs")
        return next(found, {"state": "", "detail": ""})


@pytest.fixture(scope="module")
def place(
    kafka: KafkaBroker, new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("config")
    executor_port = free_port()
    deployment = Deployment(
        directory,
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
        TOPIC_PREFIX="config.",
        TOPIC_PARTITIONS="2",
        VALKEY_URL=new_database(),
        HOTBAND_PAIRS=",".join(PAIRS),
        METRICS_PORT=str(free_port()),
        **LIVELY,
    )
    executor = ExecutorProcess(deployment, **{HELD: "700"})
    executor.port = executor_port
    service = ServiceProcess(
        deployment,
        TRADE_STATUS_URL=f"http://127.0.0.1:{executor_port}/status",
        API_RATE_PER_SEC="0",
        API_WRITE_RATE_PER_MIN="100000",
        **{HELD: "700"},
    )
    try:
        done = deployment.run("load", write_csv(directory / "a.csv", market(PAIRS, 140)))
        assert done.returncode == 0, done.stderr
        deployment.start("worker", "worker", "--worker-id", "worker-1", **{HELD: "700"})
        executor.start()
        service.start()
        yield Place(deployment, service, executor)
    finally:
        deployment.stop()


def test_only_what_is_named_is_changed_and_the_difference_is_shown_first(place: Place) -> None:
    before = place.active()
    foreign = {"GATE_MODE": "echo", "AUTO_MIN_COHERENCE": "0.9", "EVAL_MIN_TRADES": "99"}
    count = len(place.configs())
    trial = place.deployment.run("config", "set", "ECHO_HAZARD_MAX=0.6", "--dry-run", **foreign)
    assert trial.returncode == 0, trial.stderr
    assert "ECHO_HAZARD_MAX: 0.7 -> 0.6" in trial.stdout
    assert "gates: decisions and evaluations follow it" in trial.stdout
    assert "nothing was changed" in trial.stdout and len(place.configs()) == count
    done = place.deployment.run(
        "config", "set", "ECHO_HAZARD_MAX=0.6", "--reason", "as tried", "--actor", "ann", **foreign
    )
    assert done.returncode == 0, done.stderr
    assert "ECHO_HAZARD_MAX: 0.7 -> 0.6" in done.stdout and "config_differs" in done.stdout
    assert place.active() == before | {"ECHO_HAZARD_MAX": 0.6}
    last = place.configs()[-1]
    assert (last.actor, last.reason) == ("ann", "as tried")
    again = place.set("ECHO_HAZARD_MAX=0.6")
    assert (again["changes"], again["offset"]) == ([], None)
    assert place.set("ECHO_HAZARD_MAX=")["changes"][0]["after"] == "0.7"
    assert place.active() == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("set", "ALLOC_TOP_K=4"), "--reason is missing"),
        (("set", "ALLOC_TOP_K=4", "--reason", "  "), "--reason is missing or empty"),
        (("set", "--reason", "x"), "no setting is named"),
        (("set", "ALLOC_TOP_K", "--reason", "x"), "'ALLOC_TOP_K' is not NAME=VALUE"),
        (("set", "ALLOC_TOP_K=many", "--reason", "x"), "ALLOC_TOP_K='many' is not a whole number"),
        (("set", "ALLOC_TOPK=4", "--reason", "x"), "it looks like ALLOC_TOP_K"),
        (("set", "MAX_SPREAD_BPS=4", "--reason", "x"), "is a setting of each process"),
        (("apply", "--reason", "x"), "manifold config set NAME=VALUE"),
        (("apply", "--file", "/nowhere.env", "--reason", "x", "--yes"), "cannot read"),
    ],
)
def test_what_is_wrong_is_one_sentence(place: Place, arguments: tuple[str, ...], said: str) -> None:
    count = len(place.configs())
    done = place.deployment.run("config", *arguments)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("manifold: ") and said in line
    assert len(place.configs()) == count


def test_a_file_is_applied_whole_with_yes_or_with_the_word_of_a_person(
    place: Place, tmp_path: Path
) -> None:
    shown = place.deployment.run("config", "show", "--env")
    assert shown.returncode == 0, shown.stderr
    file = tmp_path / "fleet.env"
    file.write_text(f"{shown.stdout}KAFKA_BOOTSTRAP_SERVERS=elsewhere:9092\n")
    apply = ("config", "apply", "--file", str(file), "--reason", "reviewed")
    same = place.deployment.run(*apply, "--yes")
    assert same.returncode == 0, same.stderr
    assert "is active already" in same.stdout
    assert "ignored in" in same.stderr and "KAFKA_BOOTSTRAP_SERVERS" in same.stderr

    before, count = place.active(), len(place.configs())
    lines = file.read_text().splitlines()
    changed = [line for line in lines if not line.startswith("ALLOC_INTERVAL_SEC=")]
    file.write_text("\n".join([*changed, "ALLOC_INTERVAL_SEC=120"]) + "\n")
    mute = place.deployment.run(*apply)
    assert mute.returncode == 2 and "--yes" in mute.stderr
    no, told = on_a_terminal(place.deployment, apply, "n\n")
    assert no == 1 and "ALLOC_INTERVAL_SEC: 60 -> 120" in told and "nothing was changed" in told
    assert len(place.configs()) == count
    yes, told = on_a_terminal(place.deployment, apply, "y\n")
    assert yes == 0, told
    assert place.active() == before | {"ALLOC_INTERVAL_SEC": 120}
    place.set("ALLOC_INTERVAL_SEC=60")


def on_a_terminal(
    deployment: Deployment, arguments: tuple[str, ...], answer: str
) -> tuple[int, str]:
    """Run a command that sees a terminal as its input; return exit code and output."""
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "streams", *arguments],
            env=deployment.environment,
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        os.write(ours, answer.encode())
        told, _ = process.communicate(timeout=PATIENCE_S)
    finally:
        os.close(ours)
        os.close(theirs)
    return process.returncode, told


def test_the_service_shows_the_configuration_and_changes_it(place: Place) -> None:
    service, before = place.service, place.active()

    def shown() -> dict[str, Any]:
        found: dict[str, Any] = service.get("/api/config").json
        return found

    first = shown()
    values = {one["name"]: one for one in first["settings"]}
    assert values["ALLOC_TOP_K"]["value"] == "3" and values["ALLOC_TOP_K"]["effect"] == "weights"
    assert len(values) == len(before)
    asked = {"settings": {"ALLOC_TOP_K": 5}, "reason": "by hand", "actor": "ben"}
    trial = service.post("/api/config/set", asked | {"dry_run": True})
    assert trial.status == 200 and trial.json["offset"] is None
    assert trial.json["config_id_before"] == first["config_id"]
    assert trial.json["changes"] == [
        {"name": "ALLOC_TOP_K", "before": "3", "after": "5", "effect": "weights"}
    ]
    assert place.active() == before
    done = service.post("/api/config/set", asked | {"config_id": first["config_id"]})
    assert done.status == 200 and done.json["config_id"] == trial.json["config_id"]
    assert place.active() == before | {"ALLOC_TOP_K": 5}
    service.wait_until(lambda: shown()["offset"] == done.json["offset"])
    assert (shown()["actor"], shown()["reason"]) == ("ben", "by hand")
    # what was planned on the configuration of before is refused
    late = service.post("/api/config/set", asked | {"config_id": first["config_id"]})
    assert (late.status, late.json["error"]) == (409, "config_changed")
    wrong = service.post("/api/config/set", asked | {"settings": {"ALLOC_TOP_K": "many"}})
    assert (wrong.status, wrong.json["error"]) == (400, "invalid_setting")
    assert "ALLOC_TOP_K" in wrong.json["detail"]
    # a whole configuration: all of it as text, one of them another
    whole = {one["name"]: one["value"] for one in shown()["settings"]} | {"ALLOC_TOP_K": "3"}
    applied = service.post("/api/config/apply", asked | {"settings": whole})
    assert applied.status == 200, applied.json
    assert [one["name"] for one in applied.json["changes"]] == ["ALLOC_TOP_K"]
    assert place.active() == before


def test_calls_at_the_same_time_are_all_made(place: Place) -> None:
    before = place.active()
    changes: list[dict[str, Any]] = [{"ATR_BARS": 20}, {"COOLDOWN_SEC": 60}, {"CANDLE_COUNT": 900}]
    with ThreadPoolExecutor(3) as pool:
        answers = list(
            pool.map(lambda one: place.service.post("/api/config/set", {"settings": one}), changes)
        )
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert place.active() == before | {"ATR_BARS": 20, "COOLDOWN_SEC": 60, "CANDLE_COUNT": 900}
    texts = {name: str(before[name]) for one in changes for name in one}
    assert place.service.post("/api/config/set", {"settings": texts}).status == 200
    assert place.active() == before


def test_a_signal_says_who_was_started_with_other_settings_until_they_agree(place: Place) -> None:
    service = place.service

    def everybody() -> bool:
        detail = place.signal()["detail"]
        whom = ("the service", "the executor", "worker 127.0.0.1:")
        return all(who in detail for who in whom)

    service.wait_until(everybody)
    found = place.signal()
    assert found["state"] == "warn" and found["action"]
    assert f"{HELD} is 700 for" in found["detail"] and "900 is active" in found["detail"]
    ours = [{"name": HELD, "here": "700", "active": "900"}]
    assert not service.get("/api/preflight").json["ok"]
    metrics = service.get("/metrics").body.decode()
    assert 'sep_failure_signal{name="config_differs"} 1.0' in metrics
    place.executor.until(lambda status: status["config_differs"] == ours)
    # what it knows of others is a few seconds old
    service.wait_until(
        lambda: service.get("/api/config").json["differs"].get("the executor") == ours
    )

    place.set(f"{HELD}=700", reason="as the fleet's file has it")
    try:
        # a worker meets the change at a watermark
        more = write_csv(place.deployment.directory / "b.csv", market(PAIRS, 150))
        assert place.deployment.run("load", more, **{HELD: "700"}).returncode == 0
        service.wait_until(lambda: place.signal()["state"] == "ok")
        assert "started with the active settings" in place.signal()["detail"]
        service.wait_until(lambda: service.get("/api/config").json["differs"] == {})
    finally:
        place.set(f"{HELD}=900")


def test_an_executor_and_a_feed_go_on_with_bars_of_another_length(place: Place) -> None:
    deployment, executor = place.deployment, place.executor
    executor.until_reconciled()
    assert executor.process is not None
    pid = executor.process.child.pid
    feed = deployment.start(
        "feed", "feed", "synthetic", "--pairs", "GBP_USD", "--start", "2024-03-05T10:00",
        "--bars", "2000", "--speed", "60", once=True,
    )  # fmt: skip
    try:
        assert deployment.keep_running(PATIENCE_S, lambda: "GBP_USD" in written(deployment, "M1"))
        place.set("CANDLE_GRAN=M5")
        assert deployment.keep_running(PATIENCE_S, lambda: feed.restarts == 1)
        told = feed.child.log.read_text()
        assert "CANDLE_GRAN is M5 and was M1" in told
        assert "CANDLE_GRAN is M1 here, M5 is active" in told
        assert deployment.keep_running(PATIENCE_S, lambda: "GBP_USD" in written(deployment, "M5"))
        log = executor.process.child.log
        assert deployment.keep_running(
            PATIENCE_S, lambda: "CANDLE_GRAN is M5 and was M1; the executor" in log.read_text()
        )
        executor.until_reconciled()
        assert executor.process.child.pid == pid and executor.process.restarts == 0
    finally:
        feed.stop()
        place.set("CANDLE_GRAN=M1")
    executor.until(
        lambda said: {"CANDLE_GRAN"}.isdisjoint(d["name"] for d in said["config_differs"])
    )


def written(deployment: Deployment, granularity: str) -> set[str]:
    """Return the instruments that have candles of a bar length."""
    candles = [e for e in deployment.events(CANDLES) if isinstance(e, Candle)]
    return {one.instrument for one in candles if one.granularity == granularity}


def test_the_first_configuration_of_a_log_is_that_of_the_environment(
    kafka: KafkaBroker, topic_prefix: str, tmp_path: Path
) -> None:
    deployment = Deployment(
        tmp_path,
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
        TOPIC_PREFIX=topic_prefix,
        TOPIC_PARTITIONS="2",
        GATE_MODE="static",
    )
    refused = deployment.run("config", "set", "ALLOC_TOP_K=4", "--reason", "x")
    assert refused.returncode == 2 and "holds no configuration yet" in refused.stderr
    assert deployment.events(CONTROL) == []
    market_of = ("feed", "synthetic", "--start", "2024-03-04T10:00", "--bars", "5")
    assert deployment.run(*market_of).returncode == 0
    (first, *_) = deployment.events(CONTROL)
    assert Config.from_json(first.value) == Config.from_env(deployment.environment)
    assert (first.actor, first.reason) == ("environment", "first start")
