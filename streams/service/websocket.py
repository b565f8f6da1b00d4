"""``/ws``: one connection of a WebSocket client (docs/spec/trading-loop.md 5.6)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from streams import __version__
from streams.config.service import Service
from streams.errors import Fatal, Recoverable
from streams.records.log_record import RecordCoordinates
from streams.service.channels import CHANNELS, Frame, compact_json
from streams.service.history import CannotResume
from streams.service.hub import Client, Hub
from streams.service.limits import TokenBuckets
from streams.service.messages import (
    CLIENT_MESSAGE,
    Authenticated,
    Connection,
    Failure,
    Heartbeat,
    Ping,
    Pong,
    Reset,
    Subscribe,
    Subscription,
    Token,
    Unsubscribe,
)
from streams.service.repeated_keys import repeated_key
from streams.service.security import Doorkeeper

PROTOCOL = "manifold"
TOKEN_PROTOCOL = "token."
MAX_MESSAGE = 16_384
CLOSE_POLICY, CLOSE_TOO_BIG, CLOSE_FULL, CLOSE_RESTART, CLOSE_SLOW = 1008, 1009, 1013, 1012, 4008
SLOW_CLIENT_S = 30.0
TOKEN_WITHIN_S = 5.0
RESERVED_PART = 10
"""1/10 of WS_MAX_CLIENTS is reserved for clients that connect with the token."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
History = Callable[[Sequence[RecordCoordinates], Sequence[str]], Awaitable[list[Frame]]]

log = logging.getLogger("manifold.api")


class _Closed(Exception):
    """The connection has ended; ``code`` is None when the client has closed it."""

    def __init__(self, code: int | None, reason: str = "") -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class WebSocketDoor:
    """The ASGI application of the WebSocket.

    Parameters
    ----------
    settings, doorkeeper, hub
        Limits, access control, and the source of events.
    history
        Reads the events after some ids from the log, up to the hub's position.
    """

    def __init__(
        self, settings: Service, doorkeeper: Doorkeeper, hub: Hub, history: History
    ) -> None:
        self._settings, self._doorkeeper, self._hub = settings, doorkeeper, hub
        self._history = history
        self.refused = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one client until it or the service closes the connection."""
        if (await receive())["type"] != "websocket.connect":
            return
        offered = [str(name) for name in scope.get("subprotocols", [])]
        given = [n.removeprefix(TOKEN_PROTOCOL) for n in offered if n.startswith(TOKEN_PROTOCOL)]
        known = any(map(self._doorkeeper.knows, given))
        problem = self._doorkeeper.socket_problem(scope, known)
        if problem is not None:
            self.refused += 1
            await _deny(send, *problem)
            return
        most = self._settings.ws_max_clients
        if not known:
            most -= most // RESERVED_PART
        if len(self._hub.clients) >= most:
            self.refused += 1
            await _deny(send, 503, "too many WebSocket clients (WS_MAX_CLIENTS)")
            return
        chosen = PROTOCOL if PROTOCOL in offered else None
        await send({"type": "websocket.accept", "subprotocol": chosen})
        talk = _Talk(self._settings, self._doorkeeper, self._hub, self._history, receive, send)
        await talk.run(given)


class _Talk:
    def __init__(
        self,
        settings: Service,
        doorkeeper: Doorkeeper,
        hub: Hub,
        history: History,
        receive: Receive,
        send: Send,
    ) -> None:
        self._settings, self._doorkeeper, self._hub = settings, doorkeeper, hub
        self._history, self._receive, self._asgi_send = history, receive, send
        self._client = Client(settings.ws_max_queue)
        self._known = not doorkeeper.guards_reading
        self._messages = TokenBuckets(settings.ws_message_rate_per_sec, 1.0, burst=2.0)
        self._sent_at = time.monotonic()
        self._sending = False

    async def run(self, tokens: Sequence[str]) -> None:
        self._hub.join(self._client)
        sender = asyncio.create_task(self._send_all())
        reader = asyncio.create_task(self._read_all(tokens))
        watcher = asyncio.create_task(self._watch())
        tasks = (sender, reader, watcher)
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            end = next((e for e in (t.exception() for t in done) if e is not None), None)
            if not isinstance(end, _Closed):
                if end is not None and not isinstance(end, OSError):
                    log.error("a WebSocket conversation ended: %r", end)
                end = _Closed(1011 if end is not None else None)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._hub.leave(self._client)
        if end.code is not None:
            try:
                await self._asgi_send(
                    {"type": "websocket.close", "code": end.code, "reason": end.reason}
                )
            except OSError:
                return

    async def _send_all(self) -> None:
        while True:
            text = await self._client.next()
            self._sending, self._sent_at = True, time.monotonic()
            await self._asgi_send({"type": "websocket.send", "text": text})
            self._sending = False

    async def _watch(self) -> None:
        """Close connections that accept no data for long, or send no token in time."""
        begun = time.monotonic()
        while True:
            await asyncio.sleep(1.0)
            now = time.monotonic()
            if self._sending and now - self._sent_at > SLOW_CLIENT_S:
                raise _Closed(CLOSE_SLOW, "the client accepted no data for too long")
            if not self._known and now - begun > TOKEN_WITHIN_S:
                raise _Closed(CLOSE_POLICY, "no token was given")

    async def _read_all(self, tokens: Sequence[str]) -> None:
        self._say(
            Connection(
                available_channels=list(CHANNELS),  # type: ignore[arg-type]
                heartbeat_sec=self._settings.ws_heartbeat_sec,
                token_required=not self._known,
                version=__version__,
            )
        )
        for token in tokens:
            self._take_token(token)
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                raise _Closed(None)
            if not self._messages.take(""):
                raise _Closed(CLOSE_POLICY, "too many messages (WS_MESSAGE_RATE_PER_SEC)")
            await self._take(message)

    async def _take(self, message: Message) -> None:
        text = message.get("text")
        if text is None:
            self._fail("not_text", "messages are JSON text, not bytes")
            return
        if self._client.waiting > self._settings.ws_resume_max + self._settings.ws_max_queue:
            raise _Closed(CLOSE_SLOW, "the queue of this client is full")
        if len(text) > MAX_MESSAGE:
            raise _Closed(CLOSE_TOO_BIG, f"a message is longer than {MAX_MESSAGE}")
        repeated = repeated_key(text)
        if repeated is not None:
            self._fail("invalid_message", f"the key {repeated[:64]!r} is given more than once")
            return
        try:
            said = CLIENT_MESSAGE.validate_json(text)
        except ValidationError as error:
            self._fail("invalid_message", _in_words(error))
            return
        if isinstance(said, Token):
            self._take_token(said.token)
        elif isinstance(said, Ping):
            self._say(Pong(ts_ms=_now_ms()))
        elif not self._known:
            self._fail("token_required", 'send {"type":"token","token":...} first')
        elif isinstance(said, Subscribe):
            await self._subscribe(said)
        elif isinstance(said, Unsubscribe):
            gone = self._client.channels if said.channels is None else said.channels
            self._hub.subscribe(
                self._client, self._client.channels.difference(gone), self._client.instruments
            )
            self._say(self._subscription(None))

    def _take_token(self, token: str) -> None:
        if not self._doorkeeper.knows(token):
            raise _Closed(CLOSE_POLICY, "the token is wrong")
        self._known = True
        self._say(Authenticated())

    async def _subscribe(self, said: Subscribe) -> None:
        client = self._client
        self._hub.subscribe(client, said.channels, said.instruments)
        if said.last_event_id is None:
            self._say(self._subscription(None))
            return
        ids = [said.last_event_id] if isinstance(said.last_event_id, str) else said.last_event_id
        client.held = True
        try:
            missed = await self._missed(ids, said.channels)
        except CannotResume as error:
            self._say(self._subscription(None))
            self._say(Reset(detail=f"{error}: reload the state"))
        else:
            wanted = [frame for frame in missed if client.wants(frame)]
            self._say(self._subscription(len(wanted)))
            for frame in wanted:
                client.say(frame.text)
        finally:
            client.release()

    async def _missed(self, ids: Sequence[str], channels: Sequence[str]) -> list[Frame]:
        """Return the events after the ids, up to the first live event."""
        places = [RecordCoordinates.of_id(text) for text in ids]
        known = [place for place in places if place is not None]
        if len(known) < len(ids) or not known:
            raise CannotResume("last_event_id is not an event id")
        if len(ids) == 1:
            # no await since the subscription, so no event is repeated or lost
            found = self._hub.after(ids[0])
            if found is not None:
                return found
        try:
            return await self._history(known, channels)
        except (Fatal, Recoverable) as error:
            raise CannotResume(f"the log cannot be read: {error}") from error

    def _subscription(self, resumed: int | None) -> Subscription:
        client = self._client
        return Subscription(
            channels=[name for name in CHANNELS if name in client.channels],  # type: ignore[misc]
            instruments=None if client.instruments is None else sorted(client.instruments),
            resumed=resumed,
        )

    def _say(self, message: BaseModel) -> None:
        self._client.say(message.model_dump_json())

    def _fail(self, error: str, detail: str) -> None:
        self._say(Failure(error=error, detail=detail))


async def beat(hub: Hub, heartbeat_sec: float) -> None:
    """Send every client a heartbeat periodically, until cancelled."""
    while True:
        await asyncio.sleep(heartbeat_sec)
        hub.tell_all(Heartbeat(ts_ms=_now_ms()).model_dump_json())


def _in_words(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}" if place else str(first["msg"])


def _now_ms() -> int:
    return int(time.time() * 1000)


async def _deny(send: Send, status: int, detail: str) -> None:
    body = compact_json({"error": "refused", "detail": detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})
