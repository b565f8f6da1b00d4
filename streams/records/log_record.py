"""Input and output records of the stages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from streams.records.events import Event
from streams.records.topics import TOPICS

Rows = Mapping[bytes, bytes]


RowChanges = dict[bytes, bytes | None]


class SourceRecord(NamedTuple):
    """One record of the log.

    ``topic`` is its name in ``streams.records.topics``, without prefix: derived records do not
    contain the prefix, so that the same log under another prefix gives the same bytes.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None

    @property
    def place(self) -> tuple[str, int, int]:
        """Topic, partition and offset."""
        return self.topic, self.partition, self.offset

    @property
    def coordinates(self) -> str:
        """``topic-partition-offset``, the value of the ``source`` header of derived records."""
        return f"{self.topic}-{self.partition}-{self.offset}"


class Output(NamedTuple):
    """One derived record to be written, in the order of its derivation.

    ``topic`` is the name in ``streams.records.topics`` (without prefix), ``partition`` the explicit
    partition, ``event`` the decoded ``value``, for example for metrics.
    """

    topic: str
    partition: int
    key: bytes
    value: bytes
    timestamp_ms: int
    headers: tuple[tuple[str, bytes], ...]
    event: Event


class Batch(NamedTuple):
    """Output of a batch of source records.

    ``complete``: no more records of the last record's bar are expected, so the output can be
    written at once. It affects only when output is written, not its content.
    """

    outputs: list[Output]
    complete: bool = True


class DerivedRecord(NamedTuple):
    """A derived record with its position in the in-memory log."""

    record: SourceRecord
    output: Output


_ID = re.compile(r"([a-z.]+)-(\d{1,9})-(\d{1,18})")


class RecordCoordinates(NamedTuple):
    """Position of a record in the log."""

    topic: str
    partition: int
    offset: int

    @property
    def id(self) -> str:
        """The event's id."""
        return f"{self.topic}-{self.partition}-{self.offset}"

    @classmethod
    def of_id(cls, text: str) -> RecordCoordinates | None:
        """Parse an event id; None when it is not one."""
        found = _ID.fullmatch(text)
        if found is None or found[1] not in TOPICS:
            return None
        return cls(found[1], int(found[2]), int(found[3]))


class InvalidRecord(NamedTuple):
    """Coordinates of an invalid record, and its problem."""

    topic: str
    partition: int
    offset: int
    problem: str

    @property
    def place(self) -> str:
        """Topic and partition."""
        return f"{self.topic}-{self.partition}"
