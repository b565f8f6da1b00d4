"""`manifold doctor` on what is really there, and on what is really broken."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import redis
from aiohttp import web

from streams.checks import Finding
from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.kafka.control_topic import append_control, read_control, seed_config
from streams.kafka.topics_admin import Cluster, create_topics
from streams.mirror.server_check import check_valkey
from streams.monitoring.doctor.doctor import doctor
from streams.monitoring.doctor.local_checks import Port, ports
from streams.process.child import free_port
from streams.records.codec import locked_codec
from streams.records.events import Control
from streams.stack.kafka import KafkaBroker
from streams.stack.registry_server import RegistryServer
from streams.stack.valkey import ValkeyServer
from tests.support.environment import kept_environment
from tests.support.v20 import V20Server
from tests.support.waiting import PATIENCE_S

pytestmark = pytest.mark.kafka

SECRET = "nobody-may-read-this"
KEPT = kept_environment()


def settings(kafka: KafkaBroker, prefix: str, valkey_url: str, **more: str) -> dict[str, str]:
    names = ("METRICS_PORT", "API_PORT", "WS_PORT", "ALLOCATOR_STATUS_PORT", "HYDRATOR_STATUS_PORT")
    return {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
        "TOPIC_PREFIX": prefix,
        "TOPIC_PARTITIONS": "2",
        "VALKEY_URL": valkey_url,
        "TRADE_STATUS_PORT": str(free_port()),
        **{name: str(free_port()) for name in names},
        **more,
    }


def run(env: Mapping[str, str]) -> tuple[int, dict[str, list[dict[str, str]]], str]:
    """Run the command; return exit code, findings by name, and all that it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "streams", "doctor", "--json"],
        env=KEPT | dict(env),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    found: dict[str, list[dict[str, str]]] = {}
    for one in json.loads(done.stdout)["findings"]:
        found.setdefault(one["name"], []).append(one)
    return done.returncode, found, done.stdout + done.stderr


def states(found: Mapping[str, list[dict[str, str]]]) -> dict[str, set[str]]:
    return {name: {one["state"] for one in several} for name, several in found.items()}


def test_a_whole_stack_is_well(kafka: KafkaBroker, topic_prefix: str, valkey_url: str) -> None:
    registry = RegistryServer(free_port(), topic_prefix)
    registry.start()
    try:
        with V20Server(hours="always") as broker:
            env = settings(
                kafka,
                topic_prefix,
                valkey_url,
                SCHEMA_REGISTRY_URL=registry.url,
                **broker.environment(),
            )
            runtime = Runtime.from_env(env)
            create_topics(runtime)
            codec = locked_codec(topic_prefix)
            log = read_control(runtime, codec)
            seed_config(runtime, codec, Config.from_env(env), log, 1_700_000_000_000)
            code, found, printed = run(env)
            assert broker.token not in printed
    finally:
        registry.stop()
    wrong = [one for several in found.values() for one in several if one["state"] != "ok"]
    assert wrong == []
    assert code == 0
    assert "Kafka 4.2" in found["broker"][0]["detail"]
    assert "practice account" in found["oanda"][0]["detail"]
    assert set(found) == {
        "settings", "spelling", "unused variables", "broker", "apis", "sessions", "transactions",
        "fencing", "read_committed", "timestamps", "clock", "topics", "registry", "active config",
        "valkey", "valkey memory", "valkey disk", "oanda", "oanda pairs", "oanda clock",
        "look-back", "versions", "engine", "disk", "ports",
    }  # fmt: skip


def test_everything_broken_at_once_is_said_in_time_and_without_secrets(
    kafka: KafkaBroker, topic_prefix: str
) -> None:
    with V20Server(hours="always") as broker:
        env = settings(
            kafka,
            topic_prefix,
            f"redis://:{SECRET}@127.0.0.1:1/0",
            SCHEMA_REGISTRY_URL="http://127.0.0.1:1",
            SCHEMA_REGISTRY_PASSWORD=SECRET,
            HOTBAND_PAIR="EUR_USD",
            MANIFOLD_NONSENSE="1",
            AUTO_UNITS="8000",
        )
        env |= broker.environment()
        env |= {"OANDA_API_KEY": SECRET, "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
        code, found, printed = run(env)
    assert code == 1
    assert SECRET not in printed
    assert "Traceback" not in printed
    said = states(found)
    for name in ("broker", "valkey", "registry", "oanda"):
        assert said[name] == {"fail"}, found[name]
        assert all(one["action"] for one in found[name])
    assert "401" in found["oanda"][0]["detail"]
    assert said["active config"] == {"skip"}
    assert said["engine"] == said["versions"] == {"ok"}
    assert said["spelling"] == {"warn"}
    assert "HOTBAND_PAIR looks like HOTBAND_PAIRS" in found["spelling"][0]["detail"]
    assert "MANIFOLD_NONSENSE" in found["spelling"][0]["detail"]
    assert said["unused variables"] == {"warn"}
    assert "AUTO_UNITS is not read" in found["unused variables"][0]["detail"]


def test_topics_and_settings_that_do_not_fit_are_named(
    kafka: KafkaBroker, topic_prefix: str, valkey_url: str
) -> None:
    env = settings(kafka, topic_prefix, valkey_url)
    runtime, codec = Runtime.from_env(env), locked_codec(topic_prefix)
    create_topics(runtime)
    seed_config(runtime, codec, Config(), read_control(runtime, codec), 1_700_000_000_000)
    found = doctor(env | {"TOPIC_PARTITIONS": "3", "ALLOC_TOP_K": "5", "AUTO_MAX_ENTROPY": "7"})
    by_name: dict[str, list[Finding]] = {}
    for one in found:
        by_name.setdefault(one.name, []).append(one)
    topics = [one.detail for one in by_name["topics"] if one.state == "fail"]
    assert any("md.candles: partitions is 2, not 3" in detail for detail in topics)
    assert "AUTO_MAX_ENTROPY=7" in by_name["settings"][0].detail
    found = doctor(env | {"ALLOC_TOP_K": "5"})
    config = next(one for one in found if one.name == "active config")
    assert config.state == "warn"
    assert "ALLOC_TOP_K is 5 here, 3 is active" in config.detail
    assert "manifold config set" in config.action
    other = Config(tzdata_version="2020.1")
    append_control(
        runtime, codec, [Control("config", None, other.to_json(), "t", "t", 1_700_000_000_000)]
    )
    found = doctor(env)
    config = next(one for one in found if one.name == "active config")
    assert config.state == "fail"
    assert "the log requires TZDATA_VERSION=2020.1" in config.detail
    there = {t for t in Cluster(runtime).metadata.topics if t.startswith(topic_prefix)}
    assert not [name for name in there if "check" in name], "the trial topics are gone"


async def examined(url: str) -> dict[str, tuple[str, str]]:
    found = await check_valkey(Runtime(valkey_url=url), Config())
    return {one.name: (one.state, one.detail) for one in found}


async def test_a_valkey_that_would_lose_keys_is_a_failure(
    new_valkey: Callable[[], ValkeyServer],
) -> None:
    server = new_valkey()
    assert {state for state, _ in (await examined(server.url)).values()} == {"ok"}
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory", "64mb")
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("appendonly", "no")
        found = await examined(server.url)
        assert found["valkey memory"][0] == "fail"
        assert "allkeys-lru" in found["valkey memory"][1]
        assert found["valkey disk"][0] == "warn"
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        found = await examined(server.url)
        assert found["valkey"] == ("fail", found["valkey"][1])
        client.execute_command("REPLICAOF", "NO", "ONE")
        rights = ("on", f">{SECRET}", "~*", "+@read", "+info")
        client.execute_command("ACL", "SETUSER", "reader", *rights)
    found = await examined(server.url.replace("redis://", f"redis://reader:{SECRET}@"))
    assert found["valkey"][0] == "fail"
    assert "test write is refused" in found["valkey"][1]
    assert SECRET not in str(found)


async def test_a_port_of_another_program_is_a_warning() -> None:
    async def hello(_: web.Request) -> web.Response:
        return web.Response(text="hello")

    async def health(_: web.Request) -> web.Response:
        return web.json_response({"healthy": False}, status=503)

    application = web.Application()
    application.router.add_get("/hello", hello)
    application.router.add_get("/healthz", health)
    runner: Any = web.AppRunner(application)
    await runner.setup()
    number = free_port()
    await web.TCPSite(runner, "127.0.0.1", number).start()
    try:
        theirs = await asyncio.to_thread(ports, [Port("A", "127.0.0.1", number, "/hello")])
        ours = await asyncio.to_thread(ports, [Port("A", "127.0.0.1", number, "/healthz")])
    finally:
        await runner.cleanup()
    assert theirs[0].state == "warn"
    assert f"A={number}" in theirs[0].detail
    assert ours[0].state == "ok"
