"""The history of instruments whose run restarts (docs/spec/strict-backtest.md 6)."""

from __future__ import annotations

import asyncio
import logging

from streams.config.runtime import Runtime
from streams.kafka.reader import LogReader
from streams.pipeline.gates import LoadHistory
from streams.pipeline.processor import decoded_source
from streams.records.codec import Codec, DecodeError
from streams.records.events import Manifold
from streams.records.log_record import SourceRecord
from streams.records.topics import MANIFOLDS

log = logging.getLogger("manifold.history")


def history_reader(runtime: Runtime, codec: Codec) -> LoadHistory:
    """Return a function that reads manifolds from the log of a deployment, in a separate thread.

    The function raises ``Recoverable`` when no broker answers.
    """

    async def load(
        at: SourceRecord, names: frozenset[str], since_ms: int
    ) -> dict[str, list[Manifold]]:
        log.info(
            "new parameters of %s at %s: folding their last days again",
            *(", ".join(sorted(names)), at.coordinates),
        )
        return await asyncio.to_thread(read_history, runtime, codec, at, names, since_ms)

    return load


def read_history(
    runtime: Runtime, codec: Codec, at: SourceRecord, names: frozenset[str], since_ms: int
) -> dict[str, list[Manifold]]:
    """Return the manifolds of ``names`` before the record ``at`` in its partition, in log order.

    Parameters
    ----------
    since_ms
        Only manifolds stamped later than this, epoch ms.

    Raises
    ------
    Recoverable
        No broker answers.
    """
    found: dict[str, list[Manifold]] = {name: [] for name in names}
    keys = {name.encode() for name in names}
    with LogReader(runtime) as reader:
        start = reader.offset_at(MANIFOLDS, at.partition, since_ms + 1)
        for batch in reader.read(MANIFOLDS, at.partition, start, at.offset):
            for each in batch:
                record = each.record
                if record.key not in keys or record.timestamp_ms <= since_ms:
                    continue
                try:
                    event = decoded_source(codec, MANIFOLDS, record)
                except DecodeError:
                    continue  # it was a dead letter, not a bar of the run
                if isinstance(event, Manifold):
                    found[event.instrument].append(event)
    return found
