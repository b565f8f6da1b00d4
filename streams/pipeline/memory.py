"""The whole chain over records in memory: the worker's stages, without a broker.

The output has the keys, values, time stamps and headers that the worker would write for the same
records, and the offsets of a log without transaction markers.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Sequence

from streams.pipeline.gates import HISTORY_MS, LoadHistory
from streams.pipeline.processor import decoded_source
from streams.pipeline.stage import Processor, Stage
from streams.records.codec import Codec, DecodeError
from streams.records.events import Manifold
from streams.records.log_record import DerivedRecord, Output, SourceRecord
from streams.records.topics import MANIFOLDS


class Derivation:
    """Feeds source records through stages in chain order.

    Parameters
    ----------
    stages
        The stages; each reads a topic that is fed or that an earlier stage derives.
    keeps_history
        Whether the manifolds of the last 60 days are kept for runs that restart.
    """

    def __init__(self, stages: Sequence[Stage] = (), *, keeps_history: bool = False) -> None:
        self._stages = tuple(stages)
        self._processors: dict[tuple[str, int], Processor] = {}
        self._ends: dict[tuple[str, int], int] = defaultdict(int)
        self._manifolds: dict[int, deque[SourceRecord]] | None = None
        if keeps_history:
            self._manifolds = defaultdict(deque)

    def use(self, stages: Sequence[Stage]) -> None:
        """Set the stages, when they need the history of this derivation."""
        self._stages = tuple(stages)

    def history(self, codec: Codec) -> LoadHistory:
        """Return a function that reads the derived manifolds."""

        async def load(
            at: SourceRecord, names: frozenset[str], since_ms: int
        ) -> dict[str, list[Manifold]]:
            found: dict[str, list[Manifold]] = {name: [] for name in names}
            keys = {name.encode() for name in names}
            for record in self._manifolds[at.partition] if self._manifolds is not None else ():
                before = record.offset < at.offset and record.timestamp_ms > since_ms
                if before and record.key in keys:
                    try:
                        event = decoded_source(codec, MANIFOLDS, record)
                    except DecodeError:
                        continue  # the stages wrote a dead letter for it
                    if isinstance(event, Manifold):
                        found[event.instrument].append(event)
            return found

        return load

    def _keep(self, record: SourceRecord) -> None:
        if self._manifolds is None or record.topic != MANIFOLDS:
            return
        kept = self._manifolds[record.partition]
        kept.append(record)
        while kept[0].timestamp_ms < record.timestamp_ms - HISTORY_MS:
            kept.popleft()

    def next_record(
        self, topic: str, partition: int, timestamp_ms: int, key: bytes, value: bytes
    ) -> SourceRecord:
        """Return the record at the next offset of a partition."""
        at = (topic, partition)
        offset = self._ends[at]
        self._ends[at] = offset + 1
        return SourceRecord(topic, partition, offset, timestamp_ms, key, value)

    async def feed(self, records: Sequence[SourceRecord]) -> list[DerivedRecord]:
        """Fold ``records`` and return everything derived, in chain order.

        Within one call a stage reads its source partitions one after the other. Only the ``source``
        header of ``risk.weights`` depends on that order.
        """
        # Ctrl-C cancels a task only where it waits, and nothing else here waits
        await asyncio.sleep(0)
        waiting: dict[str, list[SourceRecord]] = defaultdict(list)
        for record in records:
            waiting[record.topic].append(record)
        derived: list[DerivedRecord] = []
        for stage in self._stages:
            inputs = waiting.pop(stage.source, [])
            if not inputs:
                continue
            for output in await self._fold(stage, inputs):
                record = self.next_record(
                    output.topic, output.partition, output.timestamp_ms, output.key, output.value
                )
                waiting[output.topic].append(record)
                self._keep(record)
                derived.append(DerivedRecord(record, output))
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
