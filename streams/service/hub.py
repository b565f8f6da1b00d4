"""Distributes frames to subscribers, each at its own pace; keeps the last frames for resuming.

``publish`` never waits: it puts the shared text of a frame into the bounded queue of each
subscriber. A full queue is emptied, and the client is informed of the gap.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterable
from itertools import islice

from streams.records.log_record import RecordCoordinates
from streams.service.channels import CHANNELS, Frame, compact_json

RING = 10_000


class Client:
    """One subscriber: its subscription and its queue.

    Parameters
    ----------
    max_queue
        Maximum number of queued events.

    Attributes
    ----------
    channels, instruments
        Its subscription; None for every instrument.
    dropped
        Number of events it has missed.
    held
        Whether events are held until earlier ones have been fetched from the log.
    """

    def __init__(self, max_queue: int) -> None:
        self.channels: frozenset[str] = frozenset()
        self.instruments: frozenset[str] | None = None
        self.dropped = 0
        self.held = False
        self._max_queue = max_queue
        self._events: deque[Frame] = deque()
        self._notes: deque[str] = deque()
        self._missed: Counter[str] = Counter()
        self._missed_ids: tuple[str | None, str | None] = (None, None)
        self._ready = asyncio.Event()

    def wants(self, frame: Frame) -> bool:
        """Return whether the client has subscribed to this."""
        if frame.channel not in self.channels:
            return False
        return (
            self.instruments is None
            or frame.instrument is None
            or frame.instrument in self.instruments
        )

    def offer(self, frame: Frame) -> None:
        """Put an event into the queue; a full one is emptied first."""
        if len(self._events) >= self._max_queue:
            self._drop()
        self._events.append(frame)
        self._ready.set()

    def say(self, text: str) -> None:
        """Put an answer or a notice before the queued events; these are few, and never dropped."""
        self._notes.append(text)
        self._ready.set()

    def _drop(self) -> None:
        ids = [frame.id for frame in self._events if frame.id is not None]
        first, last = self._missed_ids
        if ids:
            self._missed_ids = (first or ids[0], ids[-1] or last)
        self._missed.update(frame.channel for frame in self._events)
        self.dropped += len(self._events)
        self._events.clear()

    def release(self) -> None:
        """Release the held events."""
        self.held = False
        self._ready.set()

    @property
    def waiting(self) -> int:
        """Number of texts that wait."""
        return len(self._events) + len(self._notes)

    async def next(self) -> str:
        """Return the next text to send; waits until there is one."""
        while True:
            if self._notes:
                return self._notes.popleft()
            if self._missed and not self.held:
                return self._lagging()
            if self._events and not self.held:
                return self._events.popleft().text
            self._ready.clear()
            await self._ready.wait()

    def _lagging(self) -> str:
        first, last = self._missed_ids
        text = compact_json(
            {
                "type": "lagging",
                "dropped": sum(self._missed.values()),
                "channels": dict(sorted(self._missed.items())),
                "first_id": first,
                "last_id": last,
                "detail": "this client reads too slowly; events were dropped",
            }
        )
        self._missed.clear()
        self._missed_ids = (None, None)
        return text


class Hub:
    """The subscribers and the last frames.

    Parameters
    ----------
    ring
        Number of last frames kept.

    Attributes
    ----------
    positions
        (topic, partition) -> offset after the last record that was published or skipped.
    published
        Channel -> number of frames.
    """

    def __init__(self, ring: int = RING) -> None:
        self._clients: dict[Client, None] = {}
        self._by_channel: dict[str, dict[Client, None]] = {name: {} for name in CHANNELS}
        self._ring: deque[Frame] = deque()
        self._size = ring
        self._numbers: dict[str, int] = {}
        self._first = 0
        self.positions: dict[tuple[str, int], int] = {}
        self.published: Counter[str] = Counter()
        self.dropped_before = 0

    @property
    def clients(self) -> tuple[Client, ...]:
        """The connected clients."""
        return tuple(self._clients)

    @property
    def dropped(self) -> int:
        """Number of frames that slow clients have missed."""
        return self.dropped_before + sum(client.dropped for client in self._clients)

    def join(self, client: Client) -> None:
        """Add a client; it gets no events until it subscribes."""
        self._clients[client] = None

    def leave(self, client: Client) -> None:
        """Remove a client."""
        self.subscribe(client, (), None)
        if self._clients.pop(client, False) is None:
            self.dropped_before += client.dropped

    def subscribe(
        self, client: Client, channels: Iterable[str], instruments: Iterable[str] | None
    ) -> None:
        """Set the subscription of a client."""
        client.channels = frozenset(channels)
        client.instruments = None if instruments is None else frozenset(instruments)
        for name, subscribed in self._by_channel.items():
            if name in client.channels:
                subscribed[client] = None
            else:
                subscribed.pop(client, None)

    def publish(self, frame: Frame) -> None:
        """Put a frame into the queue of every subscribed client, and into the ring."""
        self.published[frame.channel] += 1
        if frame.id is not None:
            if len(self._ring) == self._size:
                gone = self._ring.popleft().id
                self._numbers.pop(gone or "", None)
                self._first += 1
            self._numbers[frame.id] = self._first + len(self._ring)
            self._ring.append(frame)
        for client in self._by_channel[frame.channel]:
            if client.wants(frame):
                client.offer(frame)

    def passed(self, place: RecordCoordinates) -> None:
        """Record that a record has been published, or has no frame."""
        self.positions[place.topic, place.partition] = place.offset + 1

    def after(self, event_id: str) -> list[Frame] | None:
        """Return the frames published after an event; None when no longer kept."""
        number = self._numbers.get(event_id)
        if number is None:
            return None
        return list(islice(self._ring, number + 1 - self._first, None))

    def tell_all(self, text: str) -> None:
        """Send a notice to every client."""
        for client in self._clients:
            client.say(text)
