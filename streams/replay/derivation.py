"""The whole chain over records in memory: the stages of the worker, without a broker.

What comes out has the keys, values, time stamps and headers that the worker would have written for
the same records, and offsets as a log without transaction markers would number them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from streams.stages.step import Output, Processor, SourceRecord, Stage


class Derived(NamedTuple):
    """A derived record with its place in the log in memory."""

    record: SourceRecord
    output: Output


class Derivation:
    """Feeds source records through stages that stand in the order of the chain.

    Parameters
    ----------
    stages
        The stages; each reads a topic that is fed or that an earlier one derives.
    """

    def __init__(self, stages: Sequence[Stage]) -> None:
        self._stages = tuple(stages)
        self._processors: dict[tuple[str, int], Processor] = {}
        self._ends: dict[tuple[str, int], int] = defaultdict(int)

    def place(
        self, topic: str, partition: int, timestamp_ms: int, key: bytes, value: bytes
    ) -> SourceRecord:
        """Return the record at the next offset of a partition."""
        at = (topic, partition)
        offset = self._ends[at]
        self._ends[at] = offset + 1
        return SourceRecord(topic, partition, offset, timestamp_ms, key, value)

    async def feed(self, records: Sequence[SourceRecord]) -> list[Derived]:
        """Fold ``records`` and return everything derived, in the order of the chain.

        Within one call a stage takes its source partitions one after the other. Derived records
        that depend on the order of arrival over partitions (none but the ``source`` header of
        ``risk.weights``) are those of that order.
        """
        waiting: dict[str, list[SourceRecord]] = defaultdict(list)
        for record in records:
            waiting[record.topic].append(record)
        derived: list[Derived] = []
        for stage in self._stages:
            inputs = waiting.pop(stage.source, [])
            if not inputs:
                continue
            for output in await self._fold(stage, inputs):
                record = self.place(
                    output.topic, output.partition, output.timestamp_ms, output.key, output.value
                )
                waiting[output.topic].append(record)
                derived.append(Derived(record, output))
        return derived

    async def _fold(self, stage: Stage, inputs: list[SourceRecord]) -> list[Output]:
        partitions: dict[int, list[SourceRecord]] = defaultdict(list)
        for record in inputs:
            partitions[record.partition].append(record)
        outputs: list[Output] = []
        for partition in sorted(partitions):
            at = (stage.name, partition)
            if at not in self._processors:
                self._processors[at] = stage.open(partition, {})
            await stage.prepare(partitions[partition], self._processors[at])
            outputs += self._processors[at].process(partitions[partition]).outputs
        return outputs
