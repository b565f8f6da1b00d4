"""OANDA's streams: newline-delimited JSON with a watchdog; reopened after every failure."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar
from urllib.parse import quote

import aiohttp
from yarl import URL

from streams.oanda.errors import NotAsDescribed, RateLimited, Unavailable
from streams.oanda.limits import pause_s
from streams.oanda.parsing import Fields
from streams.oanda.shapes import Price, StreamHeartbeat, heartbeat_of, price_of
from streams.oanda.transport import CONNECT_S, HttpTransport, Query
from streams.process.steady_clock import steady_ms

T = TypeVar("T")

logger = logging.getLogger(__name__)

LONGEST_LINE = 1 << 20
STEADY_S = 60.0
"""After this time without a failure the back-off is reset, seconds."""


class Connected(NamedTuple):
    """The stream is (re)opened: earlier events must be read in another way."""

    attempt: int


@dataclass
class StreamHealth:
    """State of a stream; times are monotonic seconds.

    Attributes
    ----------
    connected
        Whether lines arrive.
    reconnects
        Number of reconnects.
    last_line_at
        Arrival of the last complete line, heartbeats included; None before the first.
    trouble
        Reason of the last failure, None while lines arrive.
    """

    connected: bool = False
    reconnects: int = 0
    last_line_at: float | None = None
    trouble: str | None = None

    def age_s(self) -> float | None:
        """Return the seconds since the last line, None before the first."""
        return None if self.last_line_at is None else time.monotonic() - self.last_line_at


class OandaStream(Generic[T]):
    """One stream, open until the process ends.

    Truncated lines are ignored. An invalid line, silence (no complete line for
    OANDA_STREAM_SILENCE_SEC) or the end of the stream is a failure: the stream is reopened with
    back-off.

    Parameters
    ----------
    transport
        Token, limits, counters.
    endpoint
        Its name, for messages.
    path, query
        Appended to the address of the streams.
    read
        Converts a line other than a heartbeat to an event; None skips the line.
    """

    def __init__(
        self,
        transport: HttpTransport,
        endpoint: str,
        path: str,
        query: Query,
        read: Callable[[Fields], T | None],
    ) -> None:
        self._transport, self._endpoint, self._path = transport, endpoint, path
        self._query, self._read = query, read
        self.health = StreamHealth()

    async def events(self) -> AsyncGenerator[Connected | StreamHeartbeat | T, None]:
        """Yield ``Connected``, then events; again after every failure, without end.

        Raises
        ------
        AccessRefused
            OANDA refuses the login.
        """
        tries, attempt = 0, 0
        while True:
            begun = time.monotonic()
            problem: Unavailable | NotAsDescribed
            try:
                async with aclosing(self._once(attempt)) as events:
                    async for event in events:
                        yield event
            except (Unavailable, NotAsDescribed) as error:
                problem = error
            else:
                problem = Unavailable(f"the {self._endpoint} ended")
            self.health.connected, self.health.trouble = False, str(problem)
            logger.warning("%s; it is opened again", problem)
            if time.monotonic() - begun > STEADY_S:
                tries = 0
            tries, attempt = tries + 1, attempt + 1
            asked_s = problem.retry_after_s if isinstance(problem, RateLimited) else None
            backoff = self._transport.settings.oanda_http_backoff
            await self._transport.sleep(pause_s(backoff, tries, asked_s))
            self.health.reconnects += 1

    async def _once(self, attempt: int) -> AsyncGenerator[Connected | StreamHeartbeat | T, None]:
        # a new connection each time: remaining data of a failed one must not be read
        session = self._transport.session(1, None)
        try:
            response = await self._open(session)
            self.health.connected, self.health.trouble = True, None
            if attempt:
                logger.info("the %s is open again", self._endpoint)
            yield Connected(attempt)
            async with aclosing(self._lines(response)) as lines:
                async for line in lines:
                    event = self._event(line)
                    self.health.last_line_at = time.monotonic()
                    if event is not None:
                        yield event
        finally:
            await session.close()

    async def _open(self, session: aiohttp.ClientSession) -> aiohttp.ClientResponse:
        transport = self._transport
        problem: Exception | None = None
        used = transport.access.token
        url = URL(f"{transport.settings.stream_url}{self._path}", encoded=True)
        silence_s = transport.settings.oanda_stream_silence_sec
        try:
            response = await session.get(
                url,
                params=self._query or None,
                headers=transport.authorization(),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=CONNECT_S, sock_read=max(silence_s, CONNECT_S)
                ),
            )
        except TimeoutError:
            problem = Unavailable(f"OANDA did not open the {self._endpoint} in time")
        except (aiohttp.ClientError, OSError) as error:
            problem = transport.translate_error(self._endpoint, error)
        if problem is not None:
            raise problem
        transport.counts.requests[self._endpoint, str(response.status)] += 1
        if response.status == 200:
            transport.access.accepted()
            return response
        if response.status in (401, 403):
            if transport.access.renew(used):
                raise Unavailable(f"the token of the {self._endpoint} was replaced")
            raise transport.access.refused(self._endpoint, response.status)
        if response.status == 429:
            raise transport.limited(self._endpoint, response)
        raise Unavailable(f"OANDA answers the {self._endpoint} with {response.status}")

    async def _lines(self, response: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
        left = b""
        silence_s = self._transport.settings.oanda_stream_silence_sec
        last_at = time.monotonic()
        while True:
            # complete lines count, not bytes: a line that never ends is silence too
            piece = await self._piece(response, last_at + silence_s - time.monotonic())
            *lines, left = (left + piece).split(b"\n")
            for line in lines:
                last_at = time.monotonic()
                if line.strip():
                    yield line
            if len(left) > LONGEST_LINE:
                raise NotAsDescribed(f"a line of the {self._endpoint} does not end")

    async def _piece(self, response: aiohttp.ClientResponse, left_s: float) -> bytes:
        problem: Exception
        try:
            async with asyncio.timeout(max(left_s, 0.0)):
                piece = await response.content.readany()
            if piece:
                return piece
            problem = Unavailable(f"the {self._endpoint} ended")
        except TimeoutError:
            silence_s = self._transport.settings.oanda_stream_silence_sec
            problem = Unavailable(f"the {self._endpoint} was silent for {silence_s:g} s")
        except (aiohttp.ClientError, OSError) as error:
            problem = self._transport.translate_error(self._endpoint, error)
        raise problem

    def _event(self, line: bytes) -> StreamHeartbeat | T | None:
        content: Any = None
        try:
            content = json.loads(line)
        except (ValueError, RecursionError):
            content = None
        if content is None:
            raise NotAsDescribed(f"a line of the {self._endpoint} is not a JSON object")
        fields = Fields(content, self._endpoint)
        if fields.text("type") == "HEARTBEAT":
            beat = heartbeat_of(fields)
            self._transport.clock.note_beat(beat.time_ms, steady_ms())
            return beat
        return self._read(fields)


def price_stream(transport: HttpTransport, instruments: Sequence[str]) -> OandaStream[Price]:
    """Return the stream of prices; a price without a bid or an ask is skipped."""
    return OandaStream(
        transport,
        "price stream",
        f"{_account(transport)}/pricing/stream",
        [("instruments", ",".join(instruments))],
        lambda fields: price_of(fields) if fields.content["type"] == "PRICE" else None,
    )


def _account(transport: HttpTransport) -> str:
    return f"/v3/accounts/{quote(transport.settings.oanda_account_id, safe='')}"
