"""Queries of the log: bounded, one at a time, never on the event loop.

One of them returns the events that a reconnecting WebSocket client has missed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.errors import Recoverable
from streams.kafka.reader import LogReader
from streams.monitoring.view import LiveView
from streams.monitoring.view_start import Record, Spans, decode_live_record
from streams.records.codec import Codec
from streams.records.control import ControlState
from streams.records.log_record import RecordCoordinates
from streams.service.channels import CHANNEL_TOPICS, Frame, frame_of
from streams.service.hub import Hub

MOST_WAITING = 8
T = TypeVar("T")


class Busy(Recoverable):
    """Too many queries of the log are waiting."""


class History:
    """One thread that reads the log.

    Parameters
    ----------
    runtime, config, codec
        The deployment; the codec is used by this thread alone.
    """

    def __init__(self, runtime: Runtime, config: Config, codec: Codec) -> None:
        self._runtime, self._config, self._codec = runtime, config, codec
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="history")
        self._waiting = 0

    def close(self) -> None:
        """Stop the thread."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def ask(self, question: Callable[[Runtime, Codec], T]) -> T:
        """Run a query.

        Raises
        ------
        Busy
            Too many wait.
        Fatal, Recoverable
            As the query.
        """
        if self._waiting >= MOST_WAITING:
            raise Busy("too many queries of the log are waiting; retry")
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, question, self._runtime, self._codec)
        finally:
            self._waiting -= 1

    async def since(
        self,
        hub: Hub,
        view: LiveView,
        places: Sequence[RecordCoordinates],
        channels: Sequence[str],
        limit: int,
    ) -> list[Frame]:
        """Return the frames after some events, up to the hub's position at the call.

        Raises
        ------
        CannotResume, Busy, Fatal, Recoverable
            As ``frames_since`` and ``ask``.
        """
        upto, control = dict(hub.positions), view.state
        interval_sec = self._config.alloc_interval_sec

        def question(runtime: Runtime, codec: Codec) -> list[Frame]:
            return frames_since(
                runtime, codec, places, channels, upto, limit, control, interval_sec
            )

        return await self.ask(question)


OVERLAP_MS = 300_000
"""Overlap in ms of event time for partitions other than the last event's: records are not strictly
ordered by time across partitions. A client may get some events twice and detects them by id."""


def _records(
    reader: LogReader, codec: Codec, topic: str, partition: int, start: int, end: int
) -> Iterator[Record]:
    for batch in reader.read(topic, partition, start, end):
        for each in batch:
            record = decode_live_record(codec, each)
            if record is not None:
                yield record


class CannotResume(Exception):
    """A client cannot resume; the message has the reason."""


def frames_since(
    runtime: Runtime,
    codec: Codec,
    places: Sequence[RecordCoordinates],
    channels: Iterable[str],
    upto: Mapping[tuple[str, int], int],
    limit: int,
    control: ControlState,
    alloc_interval_sec: int,
) -> list[Frame]:
    """Return the frames after some events, by time, in order per partition.

    Parameters
    ----------
    places
        The last events the client saw: from their partitions it gets exactly the later ones; from
        others those stamped at most ``OVERLAP_MS`` before the newest of them.
    channels
        What it subscribes to.
    upto
        (topic, partition) -> offset where the live frames begin.
    limit
        Maximum number of log positions to read.

    Raises
    ------
    CannotResume
        An event does not exist (any more), or the client is too far behind.
    Fatal, Recoverable
        A topic is missing; no broker answers.
    """
    wanted = {topic for channel in channels for topic in CHANNEL_TOPICS[channel]}
    with LogReader(runtime) as reader:
        times = [_time_of(reader, codec, place, upto) for place in places]
        since_ms = max(times) - OVERLAP_MS
        known = {(place.topic, place.partition): place.offset + 1 for place in places}
        spans: Spans = {}
        for (topic, partition), end in upto.items():
            if topic in wanted:
                start = known.get((topic, partition))
                if start is None:
                    start = reader.offset_at(topic, partition, since_ms)
                spans[topic, partition] = (start, end)
        behind = sum(max(0, end - start) for start, end in spans.values())
        if behind > limit:
            raise CannotResume(f"{behind} log positions behind, more than {limit}")
        records: list[tuple[int, Record]] = []
        reached_ms: dict[tuple[str, int], int] = {}
        for each in reader.read_many(spans):
            record = decode_live_record(codec, each)
            if record is None:
                continue
            place = record.place[:2]
            # a late record stays behind the earlier records of its partition
            reached_ms[place] = max(reached_ms.get(place, 0), record.ts_ms)
            if record.ts_ms >= since_ms or place in known:
                records.append((reached_ms[place], record))
    records.sort(key=lambda pair: pair[0])
    frames = (frame_of(r.place, r.ts_ms, r.event, control, alloc_interval_sec) for _, r in records)
    return [frame for frame in frames if frame is not None]


def _time_of(
    reader: LogReader, codec: Codec, place: RecordCoordinates, upto: Mapping[tuple[str, int], int]
) -> int:
    if place.offset >= upto.get((place.topic, place.partition), 0):
        raise CannotResume(f"the log holds no event {place.id} yet")
    found = next(
        _records(reader, codec, *place[:2], place.offset, place.offset + 1),
        None,
    )
    if found is None:
        raise CannotResume(f"the log holds no event {place.id}")
    return found.ts_ms
