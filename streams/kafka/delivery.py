"""An idempotent producer without transactions, and its delivery reports."""

from __future__ import annotations

from typing import Any

from confluent_kafka import KafkaError, Message, Producer

from streams.config.runtime import Runtime
from streams.kafka.client import producer_config


def plain_producer(runtime: Runtime, **more: Any) -> Producer:
    """Return an idempotent producer; ``more``: further client settings, with ``_`` for ``.``."""
    return Producer(
        producer_config(runtime) | {name.replace("_", "."): value for name, value in more.items()}
    )


class Delivery:
    """Collects delivery reports of one or more records; pass ``report`` as ``on_delivery``.

    ``report`` runs no Python bytecode: a pending KeyboardInterrupt would be raised inside the
    client's callback and appear as a SystemError.
    """

    def __init__(self) -> None:
        # the first record that was delivered (None), and the first of each error
        self._first: dict[KafkaError | None, Message] = {}
        self.report: Any = self._first.setdefault

    @property
    def delivered(self) -> Message | None:
        """The first record that was delivered."""
        return self._first.get(None)

    @property
    def refused(self) -> tuple[KafkaError, Message] | None:
        """The first error and its record, None without one."""
        for error, message in list(self._first.items()):
            if error is not None:
                return error, message
        return None
