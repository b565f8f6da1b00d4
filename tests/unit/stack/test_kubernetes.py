"""The Kubernetes manifests keep to the ports, probes, commands and settings of the code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from streams.cli import COMMANDS
from streams.config.environment import setting_fields
from streams.config.feeds import FeedSettings
from streams.config.groups import GROUPS
from streams.config.names import known_names
from streams.config.runtime import Runtime
from streams.config.service import Service
from streams.config.trading import Trading

FILE = Path(__file__).resolve().parents[3] / "deploy" / "kubernetes" / "manifold.yaml"
PARTS: list[dict[str, Any]] = list(yaml.safe_load_all(FILE.read_text()))
WORKLOADS = [part for part in PARTS if part["kind"] in ("Deployment", "StatefulSet")]
SETTINGS: dict[str, str] = next(p["data"] for p in PARTS if p["kind"] == "ConfigMap")
PROBED = {
    ("worker", 9108): {"/healthz"},
    ("feed", 9110): {"/healthz"},
    ("mirror", 9111): {"/healthz"},
    ("trade", 8120): {"/healthz"},
    ("serve", 8000): {"/health"},
}
SERVICE_METRICS, MIRROR_METRICS = 9112, 9111
PORTS = {
    ("worker", Runtime().metrics_port),
    ("feed", FeedSettings().feed_metrics_port),
    ("trade", Trading().trade_status_port),
    ("serve", Service().api_port),
    ("serve", Service().ws_port),
    ("serve", SERVICE_METRICS),
    ("mirror", MIRROR_METRICS),
}


def container(workload: dict[str, Any]) -> dict[str, Any]:
    only: list[dict[str, Any]] = workload["spec"]["template"]["spec"]["containers"]
    assert len(only) == 1
    return only[0]


def test_every_setting_is_one_of_the_products() -> None:
    named = set(SETTINGS)
    for workload in WORKLOADS:
        named |= {one["name"] for one in container(workload).get("env", ())}
    assert not named - known_names(GROUPS)


def test_the_settings_are_read_as_they_stand(tmp_path: Path) -> None:
    plain = {k: v for k, v in SETTINGS.items() if not k.endswith("_FILE")}
    (tmp_path / "token").write_text("t" * 32)
    for group in GROUPS:
        group.from_env(plain | {"API_HOST": "0.0.0.0", "API_TOKEN_FILE": str(tmp_path / "token")})
    assert plain["OANDA_ENVIRONMENT"] == "practice"


def test_no_secret_stands_in_the_file() -> None:
    secrets = {
        item.name.upper()
        for group in GROUPS
        for item in setting_fields(group)
        if item.metadata["secret"]
    }
    assert not secrets & set(SETTINGS)
    for workload in WORKLOADS:
        assert not secrets & {one["name"] for one in container(workload).get("env", ())}


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda w: w["metadata"]["name"])
def test_a_workload_runs_a_command_and_is_probed_where_that_answers(
    workload: dict[str, Any],
) -> None:
    made = container(workload)
    name = made["name"]
    assert made["args"][0] in COMMANDS
    assert workload["spec"]["selector"]["matchLabels"] == {"app": f"manifold-{name}"}
    numbers = {port["name"]: port["containerPort"] for port in made.get("ports", ())}
    assert {(name, number) for number in numbers.values()} <= PORTS
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        probe = made.get(kind, {})
        if "httpGet" in probe:
            port = numbers[probe["httpGet"]["port"]]
            assert probe["httpGet"]["path"] in PROBED[name, port]
        elif probe:
            assert probe["tcpSocket"]["port"] in numbers
    scraped = workload["spec"]["template"]["metadata"].get("annotations", {})
    if scraped:
        assert int(scraped["prometheus.io/port"]) in numbers.values()
    if name == "mirror":
        given = {one["name"]: one["value"] for one in made["env"]}
        assert scraped["prometheus.io/port"] == given["MIRROR_METRICS_PORT"]
    if name == "serve":  # the others take METRICS_TOKEN
        given = {one["name"]: one["value"] for one in made["env"]}
        assert scraped["prometheus.io/port"] == given["API_METRICS_PORT"] == str(SERVICE_METRICS)


def test_what_there_may_be_one_of_is_never_two() -> None:
    for workload in WORKLOADS:
        if container(workload)["name"] in ("feed", "trade"):
            assert workload["spec"]["replicas"] == 1
            assert workload["spec"]["strategy"] == {"type": "Recreate"}


def test_services_point_at_workloads_and_settings_at_services() -> None:
    services = {p["metadata"]["name"]: p for p in PARTS if p["kind"] == "Service"}
    labels = {f"manifold-{container(w)['name']}" for w in WORKLOADS}
    assert {service["spec"]["selector"]["app"] for service in services.values()} <= labels
    assert SETTINGS["TRADE_STATUS_URL"] == "http://manifold-trade:8120/status"
    assert SETTINGS["FEED_METRICS_URL"] == "http://manifold-feed:9110/metrics"
    assert {"manifold-trade", "manifold-feed"} <= set(services)
    workers = next(w for w in WORKLOADS if container(w)["name"] == "worker")
    pods = [f"manifold-worker-{n}.manifold-worker" for n in range(workers["spec"]["replicas"])]
    assert SETTINGS["WORKER_METRICS_URLS"].split(",") == [
        f"http://{pod}:9108/metrics" for pod in pods
    ]
    assert services[workers["spec"]["serviceName"]]["spec"]["clusterIP"] == "None"
