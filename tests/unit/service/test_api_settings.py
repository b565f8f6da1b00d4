"""What the service refuses to start with."""

from __future__ import annotations

import pytest

from streams.config.service import Service
from streams.errors import Fatal

TOKEN = "0123456789abcdef0123"


def made(**env: str) -> Service:
    return Service.from_env(env)


def test_the_defaults_listen_on_loopback_alone() -> None:
    found = made()
    assert found.loopback
    assert (found.api_host, found.api_port, found.ws_port) == ("127.0.0.1", 8000, 8001)
    assert (found.allocator_status_port, found.hydrator_status_port) == (8100, 8110)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "10.0.0.1", "fe80::1"])
def test_another_address_needs_a_token(host: str) -> None:
    with pytest.raises(Fatal, match="API_TOKEN"):
        made(API_HOST=host)
    assert not made(API_HOST=host, API_TOKEN=TOKEN).loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_loopback_needs_none(host: str) -> None:
    assert made(API_HOST=host).loopback


@pytest.mark.parametrize(
    "token", ["short", "with a blank in the middle", "äöüäöüäöüäöüäöüäöü", "x" * 513]
)
def test_a_token_that_cannot_be_one_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(Fatal) as caught:
        made(API_TOKEN=token)
    assert token not in str(caught.value)


def test_the_token_is_masked_where_settings_are_shown() -> None:
    found = made(API_TOKEN=TOKEN)
    row = next(row for row in found.table() if row["name"] == "API_TOKEN")
    assert row["value"] == "***"


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"API_PORT": "8001"}, "must differ"),
        ({"API_PORT": "0"}, "API_PORT"),
        ({"API_HOST": "example.org"}, "API_HOST"),
        ({"WS_MAX_QUEUE": "0"}, "WS_MAX_QUEUE"),
        ({"API_RATE_PER_SEC": "-1"}, "API_RATE_PER_SEC"),
        ({"TRADE_STATUS_URL": "file:///etc/passwd"}, "TRADE_STATUS_URL"),
        (
            {"API_TRUSTED_PROXIES": "10.0.0.0/8, proxy.example"},
            "(?i)API_TRUSTED_PROXIES.*proxy.example",
        ),
        ({"WS_HEARTBEAT_SEC": "nan"}, "WS_HEARTBEAT_SEC"),
    ],
)
def test_a_setting_out_of_bounds_is_named(env: dict[str, str], said: str) -> None:
    with pytest.raises(Fatal, match=said):
        made(**env)


def test_several_ports_may_be_off() -> None:
    found = made(WS_PORT="0", ALLOCATOR_STATUS_PORT="0", HYDRATOR_STATUS_PORT="0")
    assert [port for port in found.ports.values() if port] == [8000]
