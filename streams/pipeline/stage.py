"""What a stage is, seen from outside: a pure fold over one source partition, rows in, events out.

A stage owns its rows the way a table does: they are handed in when the partition is opened, and
after every batch the stage says which of them changed. Nothing here does I/O; the shell that feeds
a stage from Kafka is ``streams.pipeline.worker``, the one that feeds it from files or from the log
for a replay is ``streams.replay``. Both run the same code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from streams.records.log_record import Batch, RowChanges, Rows, SourceRecord


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
        """The topic it reads, by its name in ``streams.records.topics``."""
        ...

    @property
    def outputs(self) -> tuple[str, ...]:
        """The topics it derives, ``dead.letters`` aside (names of ``streams.records.topics``)."""
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
