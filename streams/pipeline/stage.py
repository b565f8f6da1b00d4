"""Interface of a stage: a pure fold over one source partition with rows as its state.

A stage owns its rows like a table: they are passed in when the partition is opened, and after every
batch the stage returns the changed ones. Nothing here does I/O: ``streams.pipeline.worker`` feeds a
stage from Kafka, ``streams.replay`` from files or from the log. Both run the same code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from streams.records.log_record import Batch, RowChanges, Rows, SourceRecord


class Processor(Protocol):
    """A stage opened on one source partition.

    ``process`` mutates the processor: the caller must either make the returned batch and the
    changed rows durable or discard the processor (a worker exits).
    """

    def process(self, records: Sequence[SourceRecord]) -> Batch:
        """Fold ``records`` in order; data errors become dead letters, never exceptions."""
        ...

    def changes(self) -> RowChanges:
        """Return the rows that changed since the last call; a replay does not call it."""
        ...


class Stage(Protocol):
    """The description of a stage, which can be opened on a partition."""

    @property
    def name(self) -> str:
        """``signals``, ``gates`` or ``weights``; used in table, transactional id and metrics."""
        ...

    @property
    def source(self) -> str:
        """The source topic, by its name in ``streams.records.topics``."""
        ...

    @property
    def outputs(self) -> tuple[str, ...]:
        """The derived topics without ``dead.letters``, by their names in
        ``streams.records.topics``."""
        ...

    def open(self, partition: int, rows: Rows) -> Processor:
        """Return the processor of ``partition`` whose state is ``rows``.

        Raises
        ------
        Fatal
            The rows were written by another state version or engine.
        """
        ...

    async def prepare_rows(self, rows: Rows) -> None:
        """Read what ``open`` needs for ``rows``: ``ops.control`` as far as they follow it."""
        ...

    async def prepare(self, records: Sequence[SourceRecord], processor: Any) -> None:
        """Read what the step of ``processor`` needs for ``records``, because a step does no I/O.

        Loads ``ops.control`` up to the highest ``control_offset`` stamped on the watermarks in
        ``records``, resolves schema ids not seen before, and reads the history that a step needs.
        Runs before the transaction begins.
        """
        ...
