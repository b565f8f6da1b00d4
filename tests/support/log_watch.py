"""Follows a deployment's log while it grows, and notes when it saw what."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from streams.kafka.client import confluent_config
from streams.records.codec import locked_codec
from streams.records.events import Candle, Watermark
from streams.records.topics import CANDLES, FILLS, ORDERS
from streams.records.trading_events import BrokerReport, OrderIntent
from streams.trading.ledger import FINAL
from tests.support.deployment import Deployment
from tests.support.waiting import PATIENCE_S

TOPICS = (CANDLES, ORDERS, FILLS)
LATE_S = 0.05
"""What is seen here was committed at most about so long ago."""


class LogWatch(threading.Thread):
    """How far the candles reach, and from when to when each order lived.

    Only what is committed is seen. Instants are monotonic seconds, of when it was seen: a little
    after it was so.
    """

    def __init__(self, deployment: Deployment) -> None:
        super().__init__(name="watch of the log", daemon=True)
        runtime = deployment.runtime
        self._codec = locked_codec(runtime.topic_prefix)
        self._topics = {runtime.topic(topic): topic for topic in TOPICS}
        self._consumer = Consumer(
            confluent_config(runtime)
            | {
                "group.id": f"{runtime.application}-watch",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                # the end of a transaction does not wake a poll that waits at the broker
                "fetch.wait.max.ms": 20,
            }
        )
        known = self._consumer.list_topics(timeout=PATIENCE_S).topics
        self._consumer.assign(
            [TopicPartition(t, p, 0) for t in self._topics for p in known[t].partitions]
        )
        self._stopping = threading.Event()
        self.settled_ms: dict[str, int] = {}
        self.begun: dict[str, float] = {}
        self.ended: dict[str, float] = {}
        self.doubts = 0

    def run(self) -> None:
        """Follow until ``stop``."""
        while not self._stopping.is_set():
            message = self._consumer.poll(0.2)
            if message is not None and message.error() is None:
                topic = self._topics[message.topic()]
                self._take(self._codec.decode(topic, message.value()), time.monotonic())
        self._consumer.close()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        self.join()

    def settled_to(self, instruments: Sequence[str]) -> int:
        """Return up to which bar's end the log holds everything of all of these; -1 at first."""
        return min(self.settled_ms.get(name, -1) for name in instruments)

    def lived_at(self, instant: float) -> bool:
        """Return whether an order had certainly been written by then, and had no end."""
        return any(
            begun <= instant and self.ended.get(order_id, float("inf")) > instant + LATE_S
            for order_id, begun in list(self.begun.items())
        )

    def _take(self, event: Any, seen: float) -> None:
        if isinstance(event, Candle):
            self._settle(event.instrument, event.as_of_ms)
        elif isinstance(event, Watermark):
            for name in event.instruments:
                self._settle(name, event.as_of_ms)
        elif isinstance(event, OrderIntent):
            if event.submitted:
                self.begun.setdefault(event.order_id, seen)
        elif isinstance(event, BrokerReport):
            if event.status in FINAL:
                self.ended.setdefault(event.order_id, seen)
            else:
                self.doubts += 1

    def _settle(self, name: str, as_of_ms: int) -> None:
        self.settled_ms[name] = max(self.settled_ms.get(name, -1), as_of_ms)
