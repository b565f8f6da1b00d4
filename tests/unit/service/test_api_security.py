"""Who is let in: hosts, origins, tokens, rates, bodies."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from streams.config.service import Service
from streams.service.limits import MOST_CLIENTS, TokenBuckets
from streams.service.security import (
    MOST_REQUESTS,
    RESERVED_REQUESTS,
    CallRefused,
    Doorkeeper,
    Guard,
)

TOKEN = "0123456789abcdef0123"


def keeper(**env: str) -> Doorkeeper:
    return Doorkeeper(Service.from_env({"API_TOKEN": TOKEN, **env}))


def scope(method: str = "GET", path: str = "/api/pairs", **headers: str) -> dict[str, Any]:
    told = {"host": "127.0.0.1:8000"} | {k.replace("_", "-"): v for k, v in headers.items()}
    return {
        "type": "http",
        "method": method,
        "path": path,
        "client": ("127.0.0.1", 5000),
        "headers": [(k.encode(), v.encode()) for k, v in told.items()],
    }


def refusal(door: Doorkeeper, asked: dict[str, Any]) -> tuple[int, str]:
    with pytest.raises(CallRefused) as caught:
        door.check(asked)
    return caught.value.status, caught.value.error


BEARER = f"Bearer {TOKEN}"


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "localhost", "[::1]:8000"])
def test_own_names_are_let_in(host: str) -> None:
    keeper().check(scope(host=host))


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example:8000",
        "localhost.evil.example",
        "",
        "[",
        "127.0.0.1@evil.example",
        "169.254.169.254",
    ],
)
def test_a_foreign_name_is_a_rebound_one(host: str) -> None:
    assert refusal(keeper(), scope(host=host)) == (400, "invalid_host")


def test_a_further_name_can_be_allowed() -> None:
    keeper(API_ALLOWED_HOSTS="desk.example").check(scope(host="desk.example:8000"))


def test_all_addresses_take_any_address_but_no_foreign_name() -> None:
    door = keeper(API_HOST="0.0.0.0")
    door.check(scope(host="192.168.7.3:8000", authorization=BEARER))
    assert refusal(door, scope(host="evil.example", authorization=BEARER))[0] == 400


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ({}, (401, "token_required")),
        ({"authorization": "Basic abc"}, (401, "token_required")),
        ({"authorization": "Bearer"}, (401, "token_required")),
        ({"authorization": "Bearer wrong-wrong-wrong-wrong"}, (401, "wrong_token")),
        ({"authorization": f"Bearer {TOKEN}x"}, (401, "wrong_token")),
        ({"authorization": f"Bearer {TOKEN[:-1]}"}, (401, "wrong_token")),
        ({"authorization": "Bearer \u00e4"}, (401, "wrong_token")),
    ],
)
def test_a_change_needs_the_token(headers: dict[str, str], wanted: tuple[int, str]) -> None:
    assert refusal(keeper(), scope("POST", "/api/kill-switch", **headers)) == wanted


def test_the_right_token_may_change() -> None:
    keeper().check(scope("POST", "/api/kill-switch", authorization=BEARER))
    keeper().check(scope("POST", "/api/kill-switch", authorization=f"bearer {TOKEN}"))


def test_without_a_token_nothing_can_be_changed() -> None:
    door = Doorkeeper(Service.from_env({}))
    asked = scope("POST", "/api/kill-switch", authorization="Bearer ")
    assert refusal(door, asked) == (403, "no_token_set")
    assert not door.knows("")


def test_beyond_loopback_reading_needs_the_token_too() -> None:
    door = keeper(API_HOST="192.168.1.5")
    assert refusal(door, scope(host="192.168.1.5")) == (401, "token_required")
    door.check(scope(host="192.168.1.5", authorization=BEARER))
    for path in ("/", "/page/main.js", "/health"):
        door.check(scope(path=path, host="192.168.1.5"))


def test_a_guesser_is_refused_soon_and_never_locks_the_operator_out() -> None:
    door = keeper()
    wrong = scope("POST", "/api/kill-switch", authorization="Bearer wrong-wrong-wrong-wrong")
    answers = [refusal(door, wrong)[0] for _ in range(30)]
    assert answers[0] == 401 and answers[-1] == 429
    door.check(scope("POST", "/api/kill-switch", authorization=BEARER))


def test_requests_without_the_token_never_spend_the_budget_of_those_with_it() -> None:
    door = keeper(API_RATE_PER_SEC="5")
    wrong = scope(authorization="Bearer wrong-wrong-wrong-wrong")
    for asked in (scope(), wrong, scope("POST", "/api/kill-switch")):
        for _ in range(20):
            with contextlib.suppress(CallRefused):
                door.check(asked)
    assert refusal(door, scope()) == (429, "too_many_requests")
    assert door.check(scope(authorization=BEARER))
    door.check(scope(sec_fetch_site="same-origin"))
    assert refusal(door, scope(sec_fetch_site="cross-site"))[0] == 429
    assert door.socket_problem(scope()) == (429, "API_RATE_PER_SEC is exceeded")
    assert door.socket_problem(scope(), known=True) is None


def test_the_kill_switch_has_a_budget_of_its_own() -> None:
    door = keeper(API_WRITE_RATE_PER_MIN="6")
    pause = scope("POST", "/api/trade/pause", authorization=BEARER)
    door.check(pause)
    assert refusal(door, pause)[0] == 429
    door.check(scope("POST", "/api/kill-switch", authorization=BEARER))


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("10.0.0.7", "203.0.113.5", "203.0.113.5"),
        ("10.0.0.7", "1.2.3.4, 203.0.113.5, 10.0.0.9", "203.0.113.5"),
        ("10.0.0.7", "", "10.0.0.7"),
        ("10.0.0.7", "not an address", "10.0.0.7"),
        ("192.0.2.1", "203.0.113.5", "192.0.2.1"),
        ("2001:db8::1:2:3:4", "", "2001:db8::/64"),
        ("::1", "", "::1"),
        ("?", "203.0.113.5", "?"),
    ],
)
def test_only_a_named_proxy_names_the_client(peer: str, forwarded: str, expected: str) -> None:
    door = keeper(API_TRUSTED_PROXIES="10.0.0.0/8")
    asked = scope(x_forwarded_for=forwarded) | {"client": (peer, 1)}
    assert door.client_of(asked) == expected
    if peer == "10.0.0.7":
        assert keeper().client_of(asked) == peer, "no proxy is trusted unless a setting names it"


async def test_room_is_reserved_for_requests_with_the_token_and_for_the_kill_switch() -> None:
    release = asyncio.Event()

    async def slow(_: Any, __: Any, send: Any) -> None:
        await release.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    guard = Guard(slow, keeper(API_RATE_PER_SEC="0"), 10)
    unknown, known = scope(), scope(authorization=BEARER)
    running = []

    async def start(asked: dict[str, Any], count: int) -> None:
        running.extend(asyncio.create_task(_run(guard, asked)) for _ in range(count))
        await asyncio.sleep(0)

    await start(unknown, MOST_REQUESTS - RESERVED_REQUESTS)
    assert (await _run(guard, unknown))[0]["status"] == 503
    await start(known, RESERVED_REQUESTS)
    assert (await _run(guard, known))[0]["status"] == 503
    kill = scope("POST", "/api/kill-switch", authorization=BEARER)
    switch = asyncio.create_task(_run(guard, kill, _part(b"{}")))
    await asyncio.sleep(0)
    release.set()
    assert (await switch)[0]["status"] == 200
    assert {sent[0]["status"] for sent in await asyncio.gather(*running)} == {200}
    assert (await _run(guard, unknown))[0]["status"] == 200


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "https://127.0.0.1.evil.example",
        "http://127.0.0.1:9999",
        "null",
        "http://[",
        "file://",
        "http://127.0.0.1:notaport",
    ],
)
def test_another_page_may_change_nothing_and_open_no_socket(origin: str) -> None:
    door = keeper()
    asked = scope("POST", "/api/kill-switch", authorization=BEARER, origin=origin)
    assert refusal(door, asked) == (403, "invalid_origin")
    found = door.socket_problem(scope(origin=origin))
    assert found is not None and found[0] == 403


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("localhost:8000", "http://localhost:8000"),
        ("127.0.0.1:8001", "http://127.0.0.1:8000"),
        ("127.0.0.1:8001", "http://localhost:8000"),
    ],
)
def test_the_own_page_may(host: str, origin: str) -> None:
    door = keeper()
    door.check(scope("POST", "/x", authorization=BEARER, host=host, origin=origin))
    assert door.socket_problem(scope(host=host, origin=origin)) is None


def test_who_asks_too_often_waits() -> None:
    door = keeper(API_RATE_PER_SEC="5")
    answers = []
    for _ in range(20):
        try:
            door.check(scope())
            answers.append(200)
        except CallRefused as refused:
            answers.append(refused.status)
            assert refused.wait_s == 1
    assert answers.count(200) in (10, 11) and answers[-1] == 429


def test_buckets_fill_with_time_and_forget_the_oldest_client() -> None:
    now = [0.0]
    buckets = TokenBuckets(2.0, 1.0, burst=1.0, clock=lambda: now[0])
    assert [buckets.take("a") for _ in range(3)] == [True, True, False]
    assert buckets.take("b")
    now[0] = 0.5
    assert [buckets.take("a"), buckets.take("a")] == [True, False]
    for number in range(MOST_CLIENTS + 1):
        buckets.take(f"c{number}")
    assert buckets.take("a"), "forgotten, so full again"


async def _run(
    guard: Guard, asked: dict[str, Any], *bodies: dict[str, Any]
) -> list[dict[str, Any]]:
    parts, sent = list(bodies), []

    async def receive() -> Any:
        return parts.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    await guard(asked, receive, send)
    return sent


async def _echo(_: Any, receive: Any, send: Any) -> None:
    message = await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": message["body"]})


def _part(body: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


async def test_a_body_is_bounded_whatever_its_length_is_said_to_be() -> None:
    guard = Guard(_echo, keeper(), 10)
    post = scope("POST", "/x", authorization=BEARER)
    sent = await _run(guard, post, _part(b"12345", True), _part(b"67890"))
    assert sent[0]["status"] == 200 and sent[1]["body"] == b"1234567890"
    sent = await _run(guard, post, _part(b"12345", True), _part(b"678901", True))
    assert sent[0]["status"] == 413
    said = scope("POST", "/x", authorization=BEARER, content_length="11")
    assert (await _run(guard, said))[0]["status"] == 413
    odd = scope("POST", "/x", authorization=BEARER, content_length="-1")
    assert (await _run(guard, odd))[0]["status"] == 413


async def test_every_answer_has_the_headers_and_nothing_is_cached() -> None:
    guard = Guard(_echo, keeper(), 10)
    for asked in (scope(), scope("POST", "/x"), scope(host="evil.example")):
        start = (await _run(guard, asked, _part(b"")))[0]
        headers = dict(start["headers"])
        assert headers[b"content-security-policy"].startswith(b"default-src 'self'")
        assert headers[b"x-content-type-options"] == b"nosniff"
        assert headers[b"cache-control"] == b"no-store"
        assert b"access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"enabled":true,"enabled":false}', 400),
        (b'{"a":[{"b":1,"\\u0062":2}]}', 400),
        (b'{"a":{"b":1},"b":[{"b":2},{"b":3}]}', 200),
        (b"[" * 5_000, 200),
        (b'{"enabled":true,', 200),
        (b"\xff\xfe", 200),
        (b"1" * 5_000, 200),
        (b"", 200),
    ],
)
async def test_a_body_with_a_repeated_key_is_refused(body: bytes, status: int) -> None:
    guard = Guard(_echo, keeper(), 10_000)
    sent = await _run(guard, scope("POST", "/x", authorization=BEARER), _part(body))
    assert sent[0]["status"] == status
    if status == 400:
        assert b"more than once" in sent[1]["body"]
