"""A record of the log as the stages take it, and what they make of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from streams.records.events import Event
from streams.records.topics import TOPICS

Rows = Mapping[bytes, bytes]


RowChanges = dict[bytes, bytes | None]


class SourceRecord(NamedTuple):
    """One record as it lies in the log.

    ``topic`` is its name in ``streams.records.topics``: the prefix of a deployment is no part of
    any derived record, so that the same log under another prefix gives the same bytes.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None

    @property
    def coordinates(self) -> str:
        """``topic-partition-offset``, the value of the ``source`` header of what is derived."""
        return f"{self.topic}-{self.partition}-{self.offset}"


class Output(NamedTuple):
    """One record to be written, in the order in which the step made it.

    ``topic`` is the name in ``streams.records.topics`` (without the prefix of a deployment);
    ``partition`` the explicit partition; ``event`` what ``value`` encodes, for observers such as
    metrics.
    """

    topic: str
    partition: int
    key: bytes
    value: bytes
    timestamp_ms: int
    headers: tuple[tuple[str, bytes], ...]
    event: Event


class Batch(NamedTuple):
    """What a run of source records came to.

    ``complete`` says that nothing more of the last record's bar is to be expected: what is derived
    can be written at once. It decides when, never what.
    """

    outputs: list[Output]
    complete: bool = True


class Derived(NamedTuple):
    """A derived record with its place in the log in memory."""

    record: SourceRecord
    output: Output


_ID = re.compile(r"([a-z.]+)-(\d{1,9})-(\d{1,18})")


class Place(NamedTuple):
    """Where a record lies in the log."""

    topic: str
    partition: int
    offset: int

    @property
    def id(self) -> str:
        """The event's id."""
        return f"{self.topic}-{self.partition}-{self.offset}"

    @classmethod
    def of_id(cls, text: str) -> Place | None:
        """Read an event's id; None when it is none."""
        found = _ID.fullmatch(text)
        if found is None or found[1] not in TOPICS:
            return None
        return cls(found[1], int(found[2]), int(found[3]))
