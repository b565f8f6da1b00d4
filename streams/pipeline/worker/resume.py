"""Resume points of a stage: the committed offset, checked against the restored state.

A transaction writes outputs, state and offset atomically, which requires that the broker keeps them
together. A broker that lost the end of a transaction (a single node, killed while it wrote the
markers) may have kept the offset and lost the rest. The state contains its source position, so that
this is detected before anything is derived from it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import NamedTuple

from streams.config.runtime import Runtime
from streams.errors import Fatal
from streams.pipeline.stage import Stage
from streams.pipeline.worker.changelog import Restored
from streams.pipeline.worker.last_output import SourcePartition, newest_output
from streams.pipeline.worker.transaction import GroupState

log = logging.getLogger("manifold.worker")


class ResumePoint(NamedTuple):
    """The resume point of a stage in a partition of its source.

    Attributes
    ----------
    committed
        The committed offset of the group; None without one.
    offset
        The first offset to process; differs from ``committed`` if the broker lost a committed
        transaction.
    """

    committed: int | None
    offset: int


def resume_points(
    runtime: Runtime, group: GroupState, stage: Stage, restored: Mapping[int, Restored]
) -> dict[int, ResumePoint]:
    """Return the resume point of ``stage`` in each of its partitions.

    Call it after the previous owners are fenced, so that no other process changes offsets or state.

    Raises
    ------
    Fatal
        Offset and state do not match, and the missing part cannot be determined.
    Recoverable
        The broker does not answer.
    """
    topic = runtime.topic(stage.source)
    committed = group.committed([(topic, partition) for partition in restored])
    found: dict[int, ResumePoint] = {}
    for partition, (rows, position) in restored.items():
        offset = committed[topic, partition]
        if position is None:
            first = group.first_offset(topic, partition)
            if (
                rows
            ):  # written by a version without a position in the state: nothing to compare with
                found[partition] = ResumePoint(offset, first if offset is None else offset)
                continue
            position = first  # every transaction writes a row, so there was no transaction
        _require_consistent(runtime, stage, partition, offset, position)
        found[partition] = ResumePoint(offset, position)
    return found


def _require_consistent(
    runtime: Runtime, stage: Stage, partition: int, committed: int | None, position: int
) -> None:
    """Raise Fatal unless the stage may continue at ``position``."""
    if committed is None or committed == position:
        return  # the broker deletes the offsets of a group that is idle for long, but not its state
    where = f"{stage.name}: {runtime.topic(stage.source)}-{partition} is committed at {committed}"
    state = f"the state in {runtime.changelog(stage.name)} goes up to {position}"
    if committed < position:
        raise Fatal(
            f"{where}, but {state}: continuing would derive the records between them twice; set "
            "the "
            f"offset of the group {runtime.application} to {position} again, or load the candles "
            "again under another APP_ID and TOPIC_PREFIX (manifold load)"
        )
    source = SourcePartition(stage.source, partition)
    visible = newest_output(runtime, source, position, stage.outputs)
    if visible is not None:
        raise Fatal(
            f"{where}, but {state}, and {visible} is derived from a record behind it: the broker "
            "has lost a part of a committed transaction; load the candles again under another "
            "APP_ID and TOPIC_PREFIX (manifold load)"
        )
    log.warning(
        "%s, but %s and nothing derived from there on is in the log: the broker has lost a "
        "committed transaction; its %d offsets are processed again",
        where,
        state,
        committed - position,
    )
