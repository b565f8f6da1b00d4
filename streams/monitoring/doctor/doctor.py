"""``manifold doctor``: runs all checks of the environment in parallel."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Final

from streams.checks import Examination, Finding, run_checks
from streams.config.feeds import FeedSettings
from streams.config.host import RunSettings
from streams.config.oanda import Oanda
from streams.config.runtime import Runtime
from streams.config.service import METRICS_PORT as SERVICE_METRICS
from streams.config.service import Service
from streams.config.settings import Config
from streams.config.trading import Trading
from streams.errors import Fatal, Recoverable
from streams.kafka.cluster_check import check_cluster, check_registry
from streams.kafka.registry import open_codec
from streams.mirror.server_check import check_valkey
from streams.monitoring.doctor import local_checks
from streams.monitoring.doctor.local_checks import Port
from streams.monitoring.doctor.oanda_check import check_oanda
from streams.monitoring.doctor.setting_checks import CORRECT, active, examine_settings

NO_BROKER: Final = "start it (manifold up does), or set KAFKA_BOOTSTRAP_SERVERS"
NO_VALKEY: Final = "start it (manifold up does), or set VALKEY_URL"
CREATE: Final = "manifold topics create"
WHAT_BROKERS_CAN: Final = ("apis", "transactions", "fencing", "read_committed", "timestamps")
OTHER_BROKER: Final = (
    "use a broker with transactions: Apache Kafka 4.2.2 (manifold up --broker kafka); this one is "
    "for evaluation only"
)


def doctor(env: Mapping[str, str]) -> list[Finding]:
    """Return the findings of all checks, whichever fail.

    Parameters
    ----------
    env
        The settings.
    """
    try:
        runtime = Runtime.from_env(env)
    except Fatal as error:
        # without the connections no other check can run
        findings = [Finding("settings", "fail", str(error), CORRECT)]
        return findings + run_checks(_local([]))
    examinations: dict[str, Examination] = {
        "settings": partial(examine_settings, env),
        "broker": partial(_cluster, runtime),
        "registry": partial(_registry, runtime),
        "active config": partial(_active, runtime, env),
        "valkey": partial(_valkey, runtime, env),
        "oanda": partial(_oanda, runtime, env),
        **_local(own_ports(runtime, env)),
    }
    return _without_echoes(run_checks(examinations))


def _local(wanted: list[Port]) -> dict[str, Examination]:
    return {
        "versions": local_checks.versions,
        "engine": local_checks.engine,
        "disk": local_checks.disk,
        "ports": partial(local_checks.ports, wanted),
    }


def own_ports(runtime: Runtime, env: Mapping[str, str]) -> list[Port]:
    """Return the ports that the programs of this deployment listen on.

    Ports of a group of settings that cannot be read are left out: the check ``settings`` reports
    it.
    """
    found = [Port("METRICS_PORT", runtime.metrics_host, runtime.metrics_port, "/healthz")]
    with suppress(Fatal):
        port = FeedSettings.from_env(env).feed_metrics_port
        if Oanda.from_env(env).oanda_api_key:
            found.append(Port("FEED_METRICS_PORT", runtime.metrics_host, port, "/healthz"))
    with suppress(Fatal):
        trading = Trading.from_env(env)
        host, port = trading.trade_status_host, trading.trade_status_port
        found.append(Port("TRADE_STATUS_PORT", host, port, "/status"))
    with suppress(Fatal):
        service = Service.from_env(env)
        # every HTTP server of the product answers an unknown path with a JSON object
        for name, port in service.ports.items():
            host = runtime.metrics_host if name == SERVICE_METRICS else service.api_host
            found.append(Port(name, host, port, "/health"))
    with suppress(Fatal):
        port = RunSettings.from_env(env).run_status_port
        found.append(Port("RUN_STATUS_PORT", runtime.metrics_host, port, "/status"))
    return found


def _cluster(runtime: Runtime) -> list[Finding]:
    # the registry has its own check: if it is unavailable, the others still run
    alone = replace(runtime, schema_registry_url="")
    try:
        return [_with_action(one) for one in asyncio.run(check_cluster(alone))]
    except Recoverable as error:
        return [Finding("broker", "fail", str(error), NO_BROKER)]


def _with_action(found: Finding) -> Finding:
    action = CREATE if found.name == "topics" and "is missing" in found.detail else ""
    if found.name in WHAT_BROKERS_CAN and not found.ok:
        action = OTHER_BROKER
    return found._replace(action=action)


def _registry(runtime: Runtime) -> list[Finding]:
    if not runtime.schema_registry_url:
        detail = "SCHEMA_REGISTRY_URL is not set: ids of schemas/registry.lock.json"
        return [Finding("registry", "skip", detail)]
    try:
        return [_with_action(asyncio.run(check_registry(runtime)))]
    except Recoverable as error:
        action = "start it, or set SCHEMA_REGISTRY_URL"
        return [Finding("registry", "fail", str(error), action)]


def _active(runtime: Runtime, env: Mapping[str, str]) -> list[Finding]:
    try:
        codec = asyncio.run(open_codec(runtime))
        return active(runtime, codec, env)
    except Recoverable:
        return [Finding("active config", "skip", "the log cannot be read: see broker, registry")]
    except Fatal as error:
        action = CREATE if "does not exist" in str(error) else ""
        return [Finding("active config", "fail", str(error), action)]


def _valkey(runtime: Runtime, env: Mapping[str, str]) -> list[Finding]:
    try:
        config = Config.from_env(env)
    except Fatal:  # reported by the check settings
        config = Config()
    try:
        return asyncio.run(check_valkey(runtime, config))
    except Recoverable as error:
        return [Finding("valkey", "fail", str(error), NO_VALKEY)]


def _oanda(runtime: Runtime, env: Mapping[str, str]) -> list[Finding]:
    try:
        access = Oanda.from_env(env)
    except Fatal:
        return [Finding("oanda", "skip", "its settings cannot be read: see settings")]
    try:
        return asyncio.run(check_oanda(access, runtime.hotband_pairs))
    except Recoverable as error:
        action = "check the network, OANDA_BASE_URL and OANDA's status page"
        return [Finding("oanda", "fail", str(error), action)]
    except Fatal as error:
        action = (
            "set OANDA_API_KEY, OANDA_ACCOUNT_ID and OANDA_ENVIRONMENT to values that belong "
            "together"
        )
        return [Finding("oanda", "fail", str(error), action)]


def _without_echoes(found: list[Finding]) -> list[Finding]:
    """Drop repeated findings: the same sentence of several checks is shown once."""
    said: dict[str, str] = {}
    kept = []
    for one in found:
        if one.state == "fail" and one.detail in said:
            kept.append(Finding(one.name, "skip", f"see {said[one.detail]}"))
            continue
        said.setdefault(one.detail, one.name)
        kept.append(one)
    return kept
