"""Where a stage goes on in its source: the committed offset, held against the restored state.

A transaction writes outputs, state and offset together, and all that is written here rests on a
broker that keeps them together. One that lost the end of a transaction (a single node, killed
while it wrote the markers) may have kept the offset and forgotten the rest. The state says itself
up to where in the source it goes, so that this is found out before anything is derived upon it.
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
    """Where a stage goes on in a partition of its source.

    Attributes
    ----------
    committed
        What the group has committed; None when nothing.
    offset
        The first offset to process; another one where the broker lost what it had committed.
    """

    committed: int | None
    offset: int


def resume_points(
    runtime: Runtime, group: GroupState, stage: Stage, restored: Mapping[int, Restored]
) -> dict[int, ResumePoint]:
    """Return where ``stage`` goes on in each of its partitions.

    To be asked after the former owners are fenced: nobody else moves offsets or state any more.

    Raises
    ------
    Fatal
        Offset and state do not belong together, and it cannot be proven what is missing.
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
            if rows:  # written before the state said how far it goes: nothing to compare with
                found[partition] = ResumePoint(offset, first if offset is None else offset)
                continue
            position = first  # every transaction writes a row: there was none
        _require_together(runtime, stage, partition, offset, position)
        found[partition] = ResumePoint(offset, position)
    return found


def _require_together(
    runtime: Runtime, stage: Stage, partition: int, committed: int | None, position: int
) -> None:
    """Raise Fatal unless the stage may go on at ``position``."""
    if committed is None or committed == position:
        return  # a group that was idle for long is forgotten by the broker; its state is not
    where = f"{stage.name}: {runtime.topic(stage.source)}-{partition} is committed at {committed}"
    state = f"the state in {runtime.changelog(stage.name)} goes up to {position}"
    if committed < position:
        raise Fatal(
            f"{where}, but {state}: going on would derive the records between them twice; set the "
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
