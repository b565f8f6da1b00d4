"""Access control: host names, origins, the token, rate and size limits.

Only its own page may use this service: cross-origin reading is not allowed (no CORS), a request for
a foreign host name is refused (DNS rebinding), and a mutating call needs the token, which no
foreign page can make a browser send.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from streams.config.service import Service
from streams.process.status_access import host_name, is_address
from streams.service.channels import compact_json
from streams.service.clients import Network, client_of
from streams.service.limits import Room, TokenBuckets
from streams.service.repeated_keys import repeated_key

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

SAFE = frozenset(("GET", "HEAD", "OPTIONS"))
OPEN_PATHS = frozenset(("/", "/health", "/api/health", "/openapi.json", "/asyncapi.json"))
"""Paths that never need a token: they contain no account data."""
OPEN_PREFIXES = ("/page/",)
KILL_SWITCH = ("POST", "/api/kill-switch")
WRONG_TOKENS_PER_MIN = 20.0
BURST_S = 2.0
BODY_WITHIN_S = 5.0
MOST_REQUESTS = 500
"""Requests in progress per port; more are answered with 503."""
RESERVED_REQUESTS = 100
"""The part of MOST_REQUESTS that only requests with the token use."""
BY_TOKEN = "the token"
"""The client name of all requests with the token; other requests never use its budget."""

SECURITY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (
        b"content-security-policy",
        b"default-src 'self'; base-uri 'none'; object-src 'none'; frame-ancestors 'none'; "
        b"form-action 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)

NO_TOKEN_SET = (
    "no API_TOKEN is set, so nothing can be changed here: set API_TOKEN or API_TOKEN_FILE (such "
    "as: openssl rand -hex 32) and start manifold serve again; manifold kill on|off works without"
)
TOO_MANY = "too many requests are in progress"
TOKEN_WANTED = "this call needs the header Authorization: Bearer API_TOKEN"


class CallRefused(Exception):
    """A refused request."""

    def __init__(self, status: int, error: str, detail: str, wait_s: int | None = None) -> None:
        super().__init__(detail)
        self.status, self.error, self.detail, self.wait_s = status, error, detail, wait_s


class Doorkeeper:
    """The rules.

    A request with the token has a budget of its own, whatever other clients of its address do; the
    kill switch has one of its own again. Without the token the budget is that of the address, with
    the service's own page apart from everything else (a foreign page's requests come from the
    address of the operator).

    Parameters
    ----------
    settings
        Token, hosts, ports, proxies and limits.
    """

    def __init__(self, settings: Service) -> None:
        self._settings = settings
        self._hosts = settings.hosts
        self._token = settings.api_token.encode()
        self._any_host = settings.api_host in ("0.0.0.0", "::") and not settings.api_allowed_hosts
        self._proxies: Sequence[Network] = settings.proxies
        self._asked = TokenBuckets(settings.api_rate_per_sec, 1.0, BURST_S)
        self._changed = TokenBuckets(settings.api_write_rate_per_min, 60.0, 10.0)
        self._wrong = TokenBuckets(WRONG_TOKENS_PER_MIN, 60.0, 30.0)
        self._ports = {settings.api_port, settings.ws_port}
        self.refused = 0

    @property
    def guards_reading(self) -> bool:
        """Whether read calls need the token too: the service is reachable from other machines."""
        return not self._settings.loopback

    def knows(self, token: str) -> bool:
        """Return whether this is the token."""
        given = token.encode("utf-8", "replace")
        return bool(self._token) and hmac.compare_digest(self._token, given)

    def client_of(self, scope: Scope) -> str:
        """Return the client's address; behind a proxy of API_TRUSTED_PROXIES, the one it names."""
        client = scope.get("client")
        forwarded = headers_of(scope).get("x-forwarded-for", "")
        return client_of(str(client[0]) if client else "?", forwarded, self._proxies)

    def check(self, scope: Scope) -> bool:
        """Check an HTTP request; return whether it has the token.

        Raises
        ------
        Refused
            With the status and the reason.
        """
        headers, peer = headers_of(scope), self.client_of(scope)
        problem = self._host_problem(headers)
        if problem is not None:
            raise CallRefused(400, "invalid_host", problem)
        known = self.knows(_bearer(headers))
        client = _budget(headers, peer, known, is_kill_switch(scope))
        if not self._asked.take(client):
            wait_s = self._asked.wait_s(client)
            raise CallRefused(429, "too_many_requests", "API_RATE_PER_SEC is exceeded", wait_s)
        changes = scope["method"] not in SAFE
        if changes:
            problem = self._origin_problem(headers)
            if problem is not None:
                raise CallRefused(403, "invalid_origin", problem)
        path = str(scope["path"])
        opened = path in OPEN_PATHS or path.startswith(OPEN_PREFIXES)
        if not known and (changes or (self.guards_reading and not opened)):
            raise self._no_token(headers, peer)
        if changes and not self._changed.take(client):
            wait_s = self._changed.wait_s(client)
            raise CallRefused(
                429, "too_many_requests", "API_WRITE_RATE_PER_MIN is exceeded", wait_s
            )
        return known

    def socket_problem(self, scope: Scope, known: bool = False) -> tuple[int, str] | None:
        """Return why a WebSocket is refused (status and sentence), None when it is accepted.

        ``known``: it is opened with the token.
        """
        headers = headers_of(scope)
        problem = self._host_problem(headers)
        if problem is not None:
            return 400, problem
        problem = self._origin_problem(headers)
        if problem is not None:
            return 403, problem
        if not self._asked.take(_budget(headers, self.client_of(scope), known)):
            return 429, "API_RATE_PER_SEC is exceeded"
        return None

    def _no_token(self, headers: dict[str, str], peer: str) -> CallRefused:
        if not self._token:
            return CallRefused(403, "no_token_set", NO_TOKEN_SET)
        if not _bearer(headers):
            return CallRefused(401, "token_required", TOKEN_WANTED)
        if not self._wrong.take(peer):
            wait_s = self._wrong.wait_s(peer)
            return CallRefused(429, "too_many_requests", "too many wrong tokens", wait_s)
        return CallRefused(401, "wrong_token", "this is not the API_TOKEN of the service")

    def _host_problem(self, headers: dict[str, str]) -> str | None:
        name = host_name(headers.get("host", ""))
        if name in self._hosts or (self._any_host and is_address(name)):
            return None
        return (
            "the Host header names none of this service's hosts; add further names to "
            "API_ALLOWED_HOSTS"
        )

    def _origin_problem(self, headers: dict[str, str]) -> str | None:
        origin = headers.get("origin")
        if origin is None:
            return None  # not a browser, or not another page
        try:
            found = urlsplit(origin)
            name, port = (found.hostname or "").lower(), found.port
        except ValueError:
            return "the Origin header is not an origin"
        if port is None:
            port = 443 if found.scheme == "https" else 80
        own_host = host_name(headers.get("host", ""))
        same = name == own_host or name in self._hosts
        behind = headers.get("host", "").lower() == found.netloc.lower()  # a proxy of another port
        if found.scheme in ("http", "https") and same and (port in self._ports or behind):
            return None
        return "other web pages may not use this service (Origin)"


def headers_of(scope: Scope) -> dict[str, str]:
    """Return the headers of a request; the last of repeated ones."""
    return {
        name.decode("latin-1").lower(): text.decode("latin-1") for name, text in scope["headers"]
    }


def is_kill_switch(scope: Scope) -> bool:
    """Return whether a request changes the kill switch."""
    return (scope["method"], scope["path"]) == KILL_SWITCH


def _bearer(headers: dict[str, str]) -> str:
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def _budget(headers: dict[str, str], peer: str, known: bool, kill_switch: bool = False) -> str:
    """Return the client name whose rate limit applies to a request."""
    if known:
        return f"{BY_TOKEN} at the kill switch" if kill_switch else BY_TOKEN
    # the browser sets this header; a page cannot
    own_page = headers.get("sec-fetch-site") == "same-origin"
    return f"{peer} with the own page" if own_page else peer


class Guard:
    """ASGI middleware: access control, a body size limit, and headers on every answer.

    Parameters
    ----------
    app
        The application that answers.
    doorkeeper
        The rules.
    max_body
        Maximum size of a body in bytes.
    answered
        Called with method and status of every answer.
    """

    def __init__(
        self,
        app: App,
        doorkeeper: Doorkeeper,
        max_body: int,
        answered: Callable[[str, int], None] = lambda method, status: None,
    ) -> None:
        self._app, self._doorkeeper, self._max_body = app, doorkeeper, max_body
        self._answered = answered
        self._room = Room(MOST_REQUESTS, RESERVED_REQUESTS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                there = {name for name, _ in message["headers"]}
                added = [pair for pair in SECURITY_HEADERS if pair[0] not in there]
                if b"cache-control" not in there:
                    added.append((b"cache-control", b"no-store"))
                message["headers"] = [*message["headers"], *added]
                self._answered(scope["method"], message["status"])
            await send(message)

        try:
            known = self._doorkeeper.check(scope)
            # the kill switch is never refused for lack of capacity
            first = known and is_kill_switch(scope)
            if not self._room.free(known) and not first:
                raise CallRefused(503, "too_many_requests", TOO_MANY, 1)
        except CallRefused as refused:
            await self._refuse(guarded_send, refused)
            return
        with self._room.taken():
            try:
                body = await self._bounded(scope, receive)
            except CallRefused as refused:
                await self._refuse(guarded_send, refused)
                return
            await self._app(scope, body, guarded_send)

    async def _refuse(self, send: Send, refused: CallRefused) -> None:
        self._doorkeeper.refused += 1
        await _answer(send, refused)

    async def _bounded(self, scope: Scope, receive: Receive) -> Receive:
        """Read the whole body, up to the limit, before the request is handled."""
        if scope["method"] in SAFE:
            return receive
        told = headers_of(scope).get("content-length", "0")
        if not told.isdigit() or int(told) > self._max_body:
            raise self._too_large()
        parts: list[bytes] = []
        try:
            async with asyncio.timeout(BODY_WITHIN_S):
                more = True
                while more:
                    message = await receive()
                    parts.append(message.get("body", b""))
                    more = message.get("more_body", False)
                    if sum(map(len, parts)) > self._max_body:
                        raise self._too_large()
        except TimeoutError:
            raise CallRefused(408, "timeout", f"no body within {BODY_WITHIN_S:.0f} s") from None
        whole = b"".join(parts)
        repeated = repeated_key(whole)
        if repeated is not None:
            detail = f"the body has the key {repeated[:64]!r} more than once"
            raise CallRefused(400, "invalid_request", detail)
        given = False

        async def replay() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": whole, "more_body": False}

        return replay

    def _too_large(self) -> CallRefused:
        return CallRefused(413, "too_large", f"a body has at most {self._max_body} bytes")


async def _answer(send: Send, refused: CallRefused) -> None:
    body = compact_json({"error": refused.error, "detail": refused.detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if refused.wait_s is not None:
        headers.append((b"retry-after", b"%d" % refused.wait_s))
    if refused.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
