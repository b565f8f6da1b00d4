"""Who may read the status ports: by own name on loopback, with a token elsewhere."""

from __future__ import annotations

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from streams.config.status_ports import status_access, status_headers
from streams.errors import Fatal
from streams.process.child import free_port
from streams.process.status_access import metrics_web, open_status_port

TOKEN = "a-token-of-prometheus-0123"
OTHER = "the-token-of-changes-0123"


@pytest.mark.parametrize(
    ("listens", "path", "host", "token", "status"),
    [
        ("127.0.0.1", "/status", "127.0.0.1:8120", "", None),
        ("127.0.0.1", "/status", "localhost", "", None),
        ("localhost", "/metrics", "[::1]:9", "", None),
        ("127.0.0.1", "/status", "evil.example", "", 400),
        ("127.0.0.1", "/healthz", "evil.example:8120", "", 400),
        ("127.0.0.1", "/status", "", "", 400),
        ("127.0.0.1", "/status", "192.168.1.5", "", 400),
        ("127.0.0.1", "/status", "desk.example", "", None),
        ("0.0.0.0", "/status", "192.168.1.5", "", 401),
        ("0.0.0.0", "/metrics", "127.0.0.1", "wrong", 401),
        ("0.0.0.0", "/healthz", "192.168.1.5:9108", "", None),
        ("0.0.0.0", "/healthz", "evil.example", "", 400),
        ("0.0.0.0", "/metrics", "worker:9108", TOKEN, None),
        ("192.168.1.5", "/metrics", "192.168.1.5:9108", OTHER, None),
        ("192.168.1.5", "/metrics", "192.168.1.5:9108", "", 401),
    ],
)
def test_access(listens: str, path: str, host: str, token: str, status: int | None) -> None:
    env = {"METRICS_TOKEN": TOKEN, "API_TOKEN": OTHER, "API_ALLOWED_HOSTS": "desk.example"}
    found = status_access(listens, env).refusal(path, host, f"Bearer {token}" if token else "")
    assert (None if found is None else found.status) == status


def test_without_a_token_only_health_answers_on_another_address() -> None:
    access = status_access("0.0.0.0", {})
    assert access.refusal("/healthz", "10.0.0.5", "") is None
    for authorization in ("", "Bearer ", "Bearer x"):
        found = access.refusal("/metrics", "10.0.0.5", authorization)
        assert found is not None and found.status == 401 and "METRICS_TOKEN" in found.detail


@pytest.mark.parametrize(
    ("env", "url", "sent"),
    [
        ({}, "http://trade:8120/status", None),
        ({"METRICS_TOKEN": TOKEN, "API_TOKEN": OTHER}, "http://127.0.0.1:8120/status", TOKEN),
        ({"API_TOKEN": OTHER}, "http://127.0.0.1:8120/status", None),
        ({"API_TOKEN": OTHER}, "http://trade:8120/status", OTHER),
    ],
)
def test_the_token_that_is_sent(env: dict[str, str], url: str, sent: str | None) -> None:
    assert status_headers(url, env).get("Authorization") == (sent and f"Bearer {sent}")


async def test_a_port_is_served_by_the_rule_and_says_when_it_is_in_use() -> None:
    port = free_port()
    runner = await open_status_port(
        metrics_web(CollectorRegistry()), status_access("127.0.0.1", {}), port, "METRICS_PORT"
    )
    try:
        async with aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{port}/metrics"
            async with session.get(url) as answer:
                assert answer.status == 200
            async with session.get(url, headers={"Host": "evil.example"}) as answer:
                assert answer.status == 400
                assert (await answer.json())["error"] == "invalid_host"
        with pytest.raises(Fatal, match=rf"METRICS_PORT={port} cannot be used on 127\.0\.0\.1"):
            await open_status_port(
                metrics_web(CollectorRegistry()), status_access("127.0.0.1", {}), port,
                "METRICS_PORT",
            )  # fmt: skip
    finally:
        await runner.cleanup()
