"""What a stage is, seen from outside: a pure fold over one source partition, rows in, events out.

A stage owns its rows the way a table does: they are handed in when the partition is opened, and
after every batch the stage says which of them changed. Nothing here does I/O; the shell that feeds
a stage from Kafka is ``streams.safety``, the one that feeds it from files or from the log for a
replay is ``streams.replay``. Both run the same code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from streams.events import Event

Rows = Mapping[bytes, bytes]
RowChanges = dict[bytes, bytes | None]


class SourceRecord(NamedTuple):
    """One record as it lies in the log.

    ``topic`` is its name in ``streams.topics``: the prefix of a deployment is no part of any
    derived record, so that the same log under another prefix gives the same bytes.
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

    ``topic`` is the name in ``streams.topics`` (without the prefix of a deployment); ``partition``
    the explicit partition; ``event`` what ``value`` encodes, for observers such as metrics.
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


class Processor(Protocol):
    """A stage opened on one source partition.

    ``process`` mutates the processor: whoever calls it either makes the returned batch and the
    changed rows durable or drops the processor (in a worker: the process ends).
    """

    def process(self, records: Sequence[SourceRecord]) -> Batch:
        """Fold ``records`` in order; data errors become dead letters, never exceptions."""
        ...

    def changes(self) -> RowChanges:
        """Return the rows that changed since the last call; a replay never asks."""
        ...


class Stage(Protocol):
    """The static description of a stage, and how it is opened on a partition."""

    @property
    def name(self) -> str:
        """``signals``, ``gates`` or ``weights``: table, transactional id and metrics use it."""
        ...

    @property
    def source(self) -> str:
        """The topic it reads, by its name in ``streams.topics``."""
        ...

    @property
    def outputs(self) -> tuple[str, ...]:
        """The topics it derives, ``dead.letters`` aside, by their names in ``streams.topics``."""
        ...

    def open(self, partition: int, rows: Rows) -> Processor:
        """Return the processor of ``partition`` whose state is ``rows``.

        Raises
        ------
        Fatal
            When the rows were written by another state version or engine.
        """
        ...

    async def prepare(self, records: Sequence[SourceRecord], processor: Any) -> None:
        """Fetch what the step of ``processor`` will need for ``records`` and may not fetch itself.

        Loads ``ops.control`` up to the highest ``control_offset`` stamped on the watermarks in
        ``records``, resolves schema ids not seen before, and reads the history that a step says it
        needs. Runs before the transaction begins.
        """
        ...
