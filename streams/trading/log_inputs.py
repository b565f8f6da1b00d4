"""Reads the progress of the inputs from the brokers, for the checks of decisions."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from streams.config.runtime import Runtime
from streams.kafka.committed import StageCommits
from streams.kafka.follower import DecodedRecord
from streams.kafka.reader import LogReader
from streams.kafka.spans import read_spans
from streams.records.codec import Codec
from streams.records.events import Event
from streams.records.log_record import RecordCoordinates
from streams.records.topics import CANDLES, GATES, MANIFOLDS

TAIL: Final = 1_000
"""Records read at the end of a partition of ``md.candles``: enough for the last bars."""


class LogInputs:
    """The committed offsets of the stages, and the end of ``md.candles``.

    Parameters
    ----------
    runtime, codec
        The deployment.
    partitions
        The partitions of ``md.candles``, which ``sep.manifolds`` has too.
    """

    def __init__(self, runtime: Runtime, codec: Codec, partitions: Iterable[int]) -> None:
        self._runtime, self._codec = runtime, codec
        self._partitions = frozenset(partitions)
        sources = [(MANIFOLDS, p) for p in sorted(self._partitions)]
        self._commits = StageCommits(runtime, [*sources, (GATES, 0)])

    def committed(self, timeout_s: float) -> dict[tuple[str, int], int]:
        """Return the committed offsets of the stages, by source topic and partition.

        Raises
        ------
        Fatal, Recoverable
            The broker refuses, or does not answer in time.
        """
        return self._commits.read(timeout_s)

    def source_of(self, record: DecodedRecord) -> Event | None:
        """Return the record of ``sep.manifolds`` that a decision names as its source.

        None when there is no valid record at that offset.

        Raises
        ------
        Recoverable
            No broker answers.
        """
        at = RecordCoordinates.of_id(record.source)
        if at is None or at.partition not in self._partitions:
            return None
        with LogReader(self._runtime) as reader:
            low, end = reader.bounds(MANIFOLDS, at.partition)
            if not low <= at.offset < end:
                return None
            span = {(MANIFOLDS, at.partition): (at.offset, at.offset + 1)}
            found = read_spans(reader, self._codec, span)
        return found[0].event if found else None

    def newest(self, partitions: Collection[int] | None) -> list[DecodedRecord]:
        """Return the last records of partitions of ``md.candles``; of all for None.

        Raises
        ------
        Recoverable
            No broker answers.
        """
        spans = {}
        with LogReader(self._runtime) as reader:
            asked = self._partitions if partitions is None else self._partitions & {*partitions}
            for partition in sorted(asked):
                low, end = reader.bounds(CANDLES, partition)
                spans[CANDLES, partition] = (max(low, end - TAIL), end)
            return read_spans(reader, self._codec, spans)
