"""Probes the log repeatedly; reads only the records added since the last probe."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.kafka.control_topic import read_control
from streams.kafka.decoding import event_of
from streams.kafka.lag import LagProbe
from streams.kafka.partitioner import partition_of
from streams.kafka.reader import LogReader
from streams.monitoring.facts import EpochFacts, LogFacts
from streams.monitoring.orders import order_facts
from streams.monitoring.view import LiveView
from streams.records.codec import Codec
from streams.records.events import Event, Weights
from streams.records.log_record import RecordCoordinates
from streams.records.topics import CANDLES, DEAD_LETTERS, FILLS, MIRRORED, ORDERS, WEIGHTS
from streams.records.trading_events import BrokerReport, OrderIntent

ORDERS_KEPT_MS: Final = 7 * 86_400_000
WINDOW_MS: Final = 3_600_000
FIRST_LOOK: Final = 2_000
FURTHEST_LOOK: Final = 200_000
LETTERS_READ: Final = 5_000
OF_THE_ORDER: Final = "order"
"""Kinds of reports about the order itself, not about the end of the trade it opened."""
LOOKED_AT: Final = (*MIRRORED, DEAD_LETTERS)

Bounds = Mapping[int, tuple[int, int]]


class LogProbe:
    """Reads the log of one deployment as ``LogFacts``. Not for concurrent use.

    Parameters
    ----------
    runtime, codec
        The deployment.
    pairs
        The instruments whose last candles are read.
    clock
        Monotonic seconds, to measure how long a lag has not decreased.

    Raises
    ------
    Fatal, Recoverable
        A topic is missing; no broker answers.
    """

    def __init__(
        self,
        runtime: Runtime,
        codec: Codec,
        pairs: Iterable[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runtime, self._codec, self._clock = runtime, codec, clock
        self._view = LiveView()
        self._reader = LogReader(runtime)
        self._partitions = {topic: self._reader.partitions(topic) for topic in LOOKED_AT}
        self._lag = LagProbe(runtime, clock)
        self._names = tuple(pairs)
        self._pairs: dict[int, set[str]] = {}
        for pair in self._names:
            place = partition_of(pair.encode(), len(self._partitions[CANDLES]))
            self._pairs.setdefault(place, set()).add(pair)
        self._read_to: dict[tuple[str, int], int] = {}
        self._orders: dict[str, OrderIntent] = {}
        self._reports: dict[str, BrokerReport] = {}
        self._letters: deque[tuple[float, int]] = deque()

    def close(self) -> None:
        """Close the Kafka client."""
        self._reader.close()

    @property
    def config(self) -> Config | None:
        """The active configuration as of the last probe; None before the first."""
        return self._view.config

    def look(self, now_ms: int) -> LogFacts:
        """Return the current facts of the log.

        Parameters
        ----------
        now_ms
            Wall clock; end of the windows of orders and dead letters.

        Raises
        ------
        Fatal, Recoverable
            As in the constructor.
        """
        read_control(self._runtime, self._codec, self._view.control)
        bounds = {t: self._reader.all_bounds(t, self._partitions[t]) for t in LOOKED_AT}
        for partition in sorted(self._pairs):
            self._take_latest(CANDLES, partition, bounds[CANDLES][partition])
        self._take_latest(WEIGHTS, 0, bounds[WEIGHTS][0])
        for topic in (ORDERS, FILLS):
            for partition, (_, high) in bounds[topic].items():
                self._take_since(topic, partition, high, now_ms - ORDERS_KEPT_MS)
        self._forget_orders(now_ms - ORDERS_KEPT_MS)
        lag, stalled_ms = self._lag.look(self._reader, bounds)
        low, high = bounds[DEAD_LETTERS][0]
        candles = self._view.candles
        return LogFacts(
            {pair: candles[pair].as_of_ms if pair in candles else None for pair in self._names},
            tuple(map(epoch_facts, self._view.epochs)),
            lag,
            stalled_ms,
            high - low,
            self._recent_letters(high, now_ms),
            WINDOW_MS,
            order_facts(self._orders.values(), self._reports, now_ms, WINDOW_MS),
        )

    def _take_latest(self, topic: str, partition: int, bounds: tuple[int, int]) -> None:
        """Read the new records; if there are many, only their end, and further back as needed."""
        (low, high), place = bounds, (topic, partition)
        start = max(low, self._read_to.get(place, low))
        begin, reach = high, FIRST_LOOK
        while begin > start and high - begin < FURTHEST_LOOK:
            end, begin = begin, max(start, high - reach)
            self._take(topic, partition, begin, end)
            if not self._lacks(topic, partition):
                break
            reach *= 4
        self._read_to[place] = high

    def _lacks(self, topic: str, partition: int) -> bool:
        if topic == WEIGHTS:
            return self._view.weights is None
        return any(pair not in self._view.candles for pair in self._pairs[partition])

    def _take_since(self, topic: str, partition: int, high: int, since_ms: int) -> None:
        start = self._read_to.get((topic, partition))
        if start is None:
            start = self._reader.offset_at(topic, partition, since_ms)
        if start < high:
            self._take(topic, partition, start, high)
        self._read_to[topic, partition] = high

    def _take(self, topic: str, partition: int, start: int, end: int) -> None:
        for batch in self._reader.read(topic, partition, start, end):
            for found in batch:
                event = event_of(self._codec, found.record)
                if event is not None:
                    self._note(RecordCoordinates(topic, partition, found.record.offset), event)

    def _note(self, place: RecordCoordinates, event: Event) -> None:
        if isinstance(event, OrderIntent):
            self._orders[event.order_id] = event
        elif isinstance(event, BrokerReport):
            if event.cause == OF_THE_ORDER:
                self._reports[event.order_id] = event
        else:
            self._view.apply(place, event)

    def _forget_orders(self, since_ms: int) -> None:
        old = [i for i, intent in self._orders.items() if intent.as_of_ms < since_ms]
        for order_id in old:
            del self._orders[order_id]
            self._reports.pop(order_id, None)

    def _recent_letters(self, end: int, now_ms: int) -> int:
        """Return the number in the window, by event time or since the first probe."""
        now = self._clock()
        self._letters.append((now, end))
        while len(self._letters) > 1 and now - self._letters[1][0] > WINDOW_MS / 1000:
            self._letters.popleft()
        arrived = self._count_letters(self._letters[0][1], end, 0)
        since_ms = now_ms - WINDOW_MS
        start = self._reader.offset_at(DEAD_LETTERS, 0, since_ms)
        return max(arrived, self._count_letters(start, end, since_ms))

    def _count_letters(self, start: int, end: int, since_ms: int) -> int:
        if not 0 < end - start <= LETTERS_READ:
            return max(0, end - start)
        found = (r for batch in self._reader.read(DEAD_LETTERS, 0, start, end) for r in batch)
        return sum(one.record.timestamp_ms >= since_ms for one in found)


def epoch_facts(weights: Weights) -> EpochFacts:
    """Return the counts of an epoch; eligible are instruments that may get weight."""
    return EpochFacts(
        weights.epoch_ms,
        len(weights.universe),
        sum(gate.eligible and not gate.cooldown for gate in weights.gates),
        sum(gate.cooldown for gate in weights.gates),
        len(weights.entries),
        weights.top_k,
        weights.action,
        weights.reason,
    )
