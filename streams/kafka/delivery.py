"""A producer of facts without transactions, and what it is told of the records it has sent."""

from __future__ import annotations

from typing import Any

from confluent_kafka import KafkaError, Message, Producer

from streams.config.runtime import Runtime
from streams.kafka.client import producer_config


def plain_producer(runtime: Runtime, **more: Any) -> Producer:
    """Return an idempotent producer; ``more`` are settings of the client, with ``_`` for ``.``."""
    return Producer(
        producer_config(runtime) | {name.replace("_", "."): value for name, value in more.items()}
    )


class Delivery:
    """The reports on one or many records; ``report`` is their ``on_delivery``.

    A report is taken without a step of Python: an interrupt is raised at the next of them, and
    raised in a callback of the client it comes out as a SystemError.
    """

    def __init__(self) -> None:
        # the first record that was delivered (None), and the first of each error
        self._first: dict[KafkaError | None, Message] = {}
        self.report: Any = self._first.setdefault

    @property
    def delivered(self) -> Message | None:
        """The first record that is in the log."""
        return self._first.get(None)

    @property
    def refused(self) -> tuple[KafkaError, Message] | None:
        """Why a record is not in the log, and which."""
        for error, message in list(self._first.items()):
            if error is not None:
                return error, message
        return None
