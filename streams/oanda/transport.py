"""Requests to OANDA: one connection pool, rate limits, and classification of refusals.

aiohttp's exceptions contain the request and therefore the token: none of them leaves this module,
not even as the cause or the context of another exception.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NamedTuple, Self

import aiohttp
from yarl import URL

from streams import __version__
from streams.config.oanda import Oanda
from streams.errors import Fatal
from streams.oanda.access import Access
from streams.oanda.answers import Answer, json_object, oanda_refusal, read_body
from streams.oanda.clock import BrokerClock
from streams.oanda.errors import (
    AccessSuspended,
    AnswerLost,
    NotAsDescribed,
    NotSent,
    OrderRefused,
    RateLimited,
    RequestRefused,
    Unavailable,
)
from streams.oanda.limits import (
    CONNECTION_PAUSE_S,
    LONGEST_PAUSE_S,
    Breaker,
    Pace,
    pause_s,
    retry_after_s,
)
from streams.process.steady_clock import steady_ms

Query = Sequence[tuple[str, str]]
Sleep = Callable[[float], Awaitable[None]]

CONNECT_S = 10.0
READING_IDLE_S = 300.0
CHANGING_IDLE_S = 10.0
"""A changing request must not use a connection that the server is about to close."""
LEAVE_WITHIN_S = 1.0
"""A changing request that is not sent within this time is not sent at all, seconds: its
preconditions may no longer hold."""
UNKNOWN = (408, 425)
"""Status codes that do not show whether the request was carried out."""


class _Refused(NamedTuple):
    """A response 401 or 403."""

    status: int


@dataclass
class Counts:
    """Counters of a client, for its metrics.

    Attributes
    ----------
    requests
        (endpoint, outcome): a status, ``error`` or ``timeout``.
    retries
        Endpoint -> retries.
    """

    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    retries: Counter[str] = field(default_factory=Counter)
    rate_limited: int = 0
    connections: int = 0


class HttpTransport:
    """Sends requests and classifies responses. Use it as an async context manager.

    Parameters
    ----------
    settings
        Address, token and limits.
    sleep
        Waits a number of seconds.

    Raises
    ------
    Fatal
        The token or the account is missing.
    """

    def __init__(self, settings: Oanda, sleep: Sleep = asyncio.sleep) -> None:
        settings.require_access()
        self.settings, self.sleep = settings, sleep
        self.clock, self.counts = BrokerClock(), Counts()
        self.access = Access(settings)
        self.breaker = Breaker(settings.oanda_cb_failures, settings.oanda_cb_reset_sec)
        self._pace = Pace(1.0 / settings.oanda_http_rate, max(1, int(settings.oanda_http_rate / 5)))
        self._connection_pace = Pace(CONNECTION_PAUSE_S, 2)
        self._reading: aiohttp.ClientSession | None = None
        self._changing: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._reading = self.session(self.settings.oanda_http_connections, READING_IDLE_S)
        self._changing = self.session(2, CHANGING_IDLE_S)
        # aiohttp retries PUT on a closed connection, although it may have been carried out
        self._changing._retry_connection = False
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        for session in (self._reading, self._changing):
            if session is not None:
                await session.close()
        self._reading = self._changing = None

    def session(self, connections: int, idle_s: float | None) -> aiohttp.ClientSession:
        """Return a session with a separate pool that opens connections at the rate OANDA allows."""
        trace = aiohttp.TraceConfig()
        trace.on_connection_create_start.append(self._before_connecting)
        trace.on_request_headers_sent.append(_note_sending)
        connector = (
            aiohttp.TCPConnector(limit=connections, force_close=True)
            if idle_s is None
            else aiohttp.TCPConnector(limit=connections, keepalive_timeout=idle_s)
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=self._timeout(),
            headers={
                "User-Agent": f"manifold-streams/{__version__}",
                "Accept-Datetime-Format": "RFC3339",
            },
            trace_configs=[trace],
        )

    def _timeout(self, connect_s: float | None = None) -> aiohttp.ClientTimeout:
        # ``connect`` starts with the request and includes the wait for a connection slot
        return aiohttp.ClientTimeout(
            total=self.settings.oanda_http_timeout_sec, connect=connect_s, sock_connect=CONNECT_S
        )

    def authorization(self) -> dict[str, str]:
        """Return the header with the token for one request."""
        return {"Authorization": f"Bearer {self.access.token}"}

    def now_ms(self) -> int:
        """Return the current estimate of OANDA's time, epoch ms."""
        return self.clock.server_ms(steady_ms())

    async def ask(self, endpoint: str, path: str, query: Query = ()) -> Answer:
        """Send a read request, which may be retried; return a response with status 200.

        Parameters
        ----------
        endpoint
            Its name, for messages and metrics.
        path, query
            Appended to the base URL.

        Raises
        ------
        Unavailable
            No usable response in OANDA_HTTP_RETRIES retries, or the breaker is open.
        NotAsDescribed
            The response is not JSON.
        RequestRefused
            OANDA refuses the request.
        AccessSuspended
            OANDA does not accept the token now.
        AccessRefused
            OANDA refuses the login.
        """
        self._require_closed(endpoint)
        attempt = 0
        while True:
            found = await self._attempt(self._reading, endpoint, "GET", path, query)
            if isinstance(found, Answer):
                self.breaker.succeeded()
                return found
            if isinstance(found, AccessSuspended) or not isinstance(found, Unavailable):
                self.breaker.succeeded()  # OANDA responds
                raise found
            attempt += 1
            if attempt > self.settings.oanda_http_retries:
                if not isinstance(found, RateLimited):
                    self.breaker.failed(time.monotonic())
                raise found
            self.counts.retries[endpoint] += 1
            asked_s = found.retry_after_s if isinstance(found, RateLimited) else None
            await self.sleep(pause_s(self.settings.oanda_http_backoff, attempt, asked_s))

    async def change(
        self,
        endpoint: str,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        closing: bool = False,
    ) -> Answer:
        """Send a changing request once; return a response with status 200 or 201.

        Parameters
        ----------
        closing
            Whether it only closes or reduces: then it is sent although the breaker is open, because
            failing read requests are no reason to keep a position.

        Raises
        ------
        NotSent, RateLimited
            It was certainly not carried out; also if it could not be sent within LEAVE_WITHIN_S.
        OrderRefused
            OANDA refused it.
        AnswerLost
            It may have been carried out.
        AccessSuspended
            OANDA does not accept the token now; it was not carried out.
        AccessRefused
            OANDA refuses the login.
        """
        now = time.monotonic()
        held_s = self._pace.left_s(now)
        if held_s > LEAVE_WITHIN_S:
            raise NotSent(f"{endpoint} is not sent: OANDA allows no request for {held_s:.1f} s")
        left_s = 0.0 if closing else self.breaker.left_s(now)
        if left_s:
            raise NotSent(self._open_words(endpoint, left_s))
        data = None if body is None else json.dumps(body, allow_nan=False).encode()
        sending = SimpleNamespace(begun=False, leave_by=now + LEAVE_WITHIN_S)
        found = await self._attempt(
            self._changing, endpoint, method, path, (), data=data, sending=sending
        )
        answered = isinstance(found, Answer | OrderRefused | RateLimited | AccessSuspended | Fatal)
        if answered and not closing:
            self.breaker.succeeded()
        elif not closing:
            self.breaker.failed(time.monotonic())
        if isinstance(found, Answer):
            return found
        if isinstance(found, OrderRefused | RateLimited | AccessSuspended | Fatal):
            raise found
        if not sending.begun:
            raise NotSent(f"{found}; the request was not sent")
        raise AnswerLost(f"{found}; whether it was carried out is not known")

    async def _attempt(
        self,
        session: aiohttp.ClientSession | None,
        endpoint: str,
        method: str,
        path: str,
        query: Query,
        *,
        data: bytes | None = None,
        sending: SimpleNamespace | None = None,
    ) -> Answer | Exception:
        """Send; retry once if the token was refused and there is a new one."""
        while True:
            used = self.access.token
            found = await self._attempt_once(
                session, endpoint, method, path, query, data=data, sending=sending
            )
            if not isinstance(found, _Refused):
                return found
            if not self.access.renew(used):
                return self.access.refused(endpoint, found.status)

    async def _attempt_once(
        self,
        session: aiohttp.ClientSession | None,
        endpoint: str,
        method: str,
        path: str,
        query: Query,
        *,
        data: bytes | None,
        sending: SimpleNamespace | None,
    ) -> Answer | _Refused | Exception:
        """Send once; return the response, or the error to raise outside of any ``except``."""
        if session is None:
            return Unavailable(f"{endpoint}: the client is closed")
        await self.sleep(self._pace.wait_s(time.monotonic()))
        headers = self.authorization()
        if data is not None:
            headers["Content-Type"] = "application/json"
        connect_s = None if sending is None else max(0.001, sending.leave_by - time.monotonic())
        sent_ms = steady_ms()
        try:
            async with session.request(
                method,
                URL(f"{self.settings.base_url}{path}", encoded=True),
                params=query or None,
                headers=headers,
                data=data,
                allow_redirects=False,
                timeout=self._timeout(connect_s),
                trace_request_ctx=sending,
            ) as response:
                received_ms = steady_ms()
                self.clock.note(response.headers.get("Date"), sent_ms, received_ms)
                body = await read_body(response)
        except TimeoutError:
            self.counts.requests[endpoint, "timeout"] += 1
            return Unavailable(
                f"OANDA did not answer {endpoint} within {self.settings.oanda_http_timeout_sec:g} s"
            )
        except (aiohttp.ClientError, OSError) as error:
            self.counts.requests[endpoint, "error"] += 1
            return self.translate_error(endpoint, error)
        self.counts.requests[endpoint, str(response.status)] += 1
        if response.status in (401, 403):
            return _Refused(response.status)
        if response.status < 500:
            self.access.accepted()
        return self._sorted(endpoint, method, response, body)

    def _sorted(
        self, endpoint: str, method: str, response: aiohttp.ClientResponse, body: bytes | None
    ) -> Answer | Exception:
        status = response.status
        if status == 429:
            return self.limited(endpoint, response)
        content = json_object(body)
        if status in (200, 201):
            if content is not None:
                return Answer(status, content)
            what = "is too large" if body is None else "is not a JSON object"
            return NotAsDescribed(f"OANDA's answer to {endpoint} {what}")
        code, words = self._refusal(content)
        said = f"OANDA answers {endpoint} with {status}{words}"
        if status >= 500 or status in UNKNOWN or (method != "GET" and status < 400):
            return Unavailable(said)
        if method == "GET":
            return RequestRefused(said, status, code)
        return OrderRefused(said, status, code, content or {})

    def limited(self, endpoint: str, response: aiohttp.ClientResponse) -> RateLimited:
        """Return the error of a response 429, and block requests for the time OANDA requests."""
        self.counts.rate_limited += 1
        asked_s = retry_after_s(response.headers.get("Retry-After"))
        if asked_s:
            self._pace.hold(time.monotonic() + min(asked_s, LONGEST_PAUSE_S))
        return RateLimited(f"OANDA answers {endpoint} with 429: too many requests", asked_s)

    def translate_error(self, endpoint: str, error: Exception) -> Unavailable | Fatal:
        """Return the error of a failed connection, without aiohttp's details of the request."""
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            return Fatal(
                f"the certificate of {self.settings.base_url} is not trusted: "
                f"{self.clean(str(error.certificate_error))}; check OANDA_BASE_URL and the "
                "system's CA certificates"
            )
        words = self.clean(str(error)) or type(error).__name__
        return Unavailable(f"no answer from OANDA to {endpoint}: {words}")

    def clean(self, text: str) -> str:
        """Return an external text without the token, truncated."""
        return self.access.clean(text)[:300]

    def _refusal(self, content: Any) -> tuple[str, str]:
        code, message = (self.clean(part) for part in oanda_refusal(content))
        return code, "".join(f": {part}" for part in (code, message) if part)

    def _require_closed(self, endpoint: str) -> None:
        left_s = self.breaker.left_s(time.monotonic())
        if left_s:
            raise Unavailable(self._open_words(endpoint, left_s))

    def _open_words(self, endpoint: str, left_s: float) -> str:
        return (
            f"{endpoint} is not sent: {self.settings.oanda_cb_failures} requests to OANDA failed "
            f"in a row; the next is tried in {left_s:.0f} s"
        )

    async def _before_connecting(self, *_: object) -> None:
        self.counts.connections += 1
        await self.sleep(self._connection_pace.wait_s(time.monotonic()))


async def _note_sending(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
    if context.trace_request_ctx is not None:
        context.trace_request_ctx.begun = True
