"""What a producer is told of the records it has sent."""

from __future__ import annotations

from typing import Any

from confluent_kafka import KafkaError, Message


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
