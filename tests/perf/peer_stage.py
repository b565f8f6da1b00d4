"""The stage ``signals`` as a peer's handler uses it: our codec, engine and step, nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from streams.config.runtime import Runtime
from streams.core.loader import warm_up
from streams.pipeline.chain import open_chain
from streams.pipeline.stage import Processor
from streams.process.gc_tuning import tune_gc
from streams.records.log_record import Output, RowChanges, SourceRecord
from streams.records.topics import CANDLES, MANIFOLDS, SIGNALS

OUTPUTS = (SIGNALS, MANIFOLDS)


class PeerStage:
    """The stage on the partitions of ``md.candles`` of the deployment that the environment names.

    Set up as ``manifold worker`` is: the engine compiled and warm, the collector told what stays.
    """

    def __init__(self) -> None:
        self.runtime = Runtime.from_env()
        self._stage = asyncio.run(open_chain(self.runtime)).stages[0]
        self._opened: dict[int, Processor] = {}
        self.source = self.runtime.topic(CANDLES)
        self.changelog = self.runtime.changelog(self._stage.name)
        warm_up()
        tune_gc()

    def _of(self, partition: int) -> Processor:
        if partition not in self._opened:
            self._opened[partition] = self._stage.open(partition, {})
        return self._opened[partition]

    def process(self, partition: int, records: Sequence[SourceRecord]) -> list[Output]:
        """Return what records of a partition derive, in order, topics named as in ``OUTPUTS``.

        Raises
        ------
        RuntimeError
            A record was refused: then it is not the same work any more.
        """
        outputs = self._of(partition).process(records).outputs
        refused = [output.event for output in outputs if output.topic not in OUTPUTS]
        if refused:
            raise RuntimeError(f"a record of the benchmark was refused: {refused[0]}")
        return outputs

    def changes(self, partition: int) -> RowChanges:
        """Return the rows of state that changed since the last call."""
        return self._of(partition).changes()


def source_record(
    partition: int, offset: int, timestamp_ms: int, key: bytes | None, value: bytes | None
) -> SourceRecord:
    """Return a record of ``md.candles``."""
    return SourceRecord(CANDLES, partition, offset, timestamp_ms, key, value)
