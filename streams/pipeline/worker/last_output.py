"""The last derived record in the output topics, by the ``source`` header of the records."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from streams.config.runtime import Runtime
from streams.errors import Fatal, Recoverable
from streams.kafka.ends import partition_ends
from streams.kafka.reader import LogReader
from streams.records.topics import DEAD_LETTERS, TOPICS

FIRST_LOOK = 1_000
SETTLE_S = 30.0
POLL_S = 0.1


class SourcePartition(NamedTuple):
    """(source topic as named in ``streams.records.topics``, partition)."""

    topic: str
    partition: int


def output_partitions(
    runtime: Runtime, partition: int, outputs: Sequence[str]
) -> list[tuple[str, int]]:
    """Return the output partitions of a stage for a source partition, dead letters included.

    Topics are named as in ``streams.records.topics``.
    """
    found = [(name, 0 if TOPICS[name].partitions == 1 else partition) for name in outputs]
    with LogReader(runtime) as reader:
        try:
            reader.partitions(DEAD_LETTERS)
        except Fatal:
            return found  # a deployment without the topic
    return [*found, (DEAD_LETTERS, 0)]


def newest_output(
    runtime: Runtime, source: SourcePartition, since: int, outputs: Sequence[str]
) -> str | None:
    """Return the coordinates of a committed record derived from offset ``since`` or later.

    None when there is none. A partition's records are derived in the order of their sources, so
    the last one of each output topic decides.

    Parameters
    ----------
    source
        The source partition; records derived from others are skipped.
    outputs
        The derived topics of the stage, by their names in ``streams.records.topics``.

    Raises
    ------
    Recoverable
        A transaction before the end of an output topic does not end, so later records are not
        visible.
    """
    where = output_partitions(runtime, source.partition, outputs)
    _wait_until_visible(runtime, where)
    with LogReader(runtime) as reader:
        for topic, partition in where:
            found = _last(reader, topic, partition, source)
            if found is not None and found[1] >= since:
                return f"{runtime.topic(topic)}-{partition}-{found[0]}"
    return None


def _wait_until_visible(runtime: Runtime, where: Sequence[tuple[str, int]]) -> None:
    names = [(runtime.topic(topic), partition) for topic, partition in where]
    written = {at: ends.written for at, ends in partition_ends(runtime, names).items()}
    give_up_at = time.monotonic() + SETTLE_S
    while hidden := [
        f"{topic}-{partition}"
        for (topic, partition), ends in partition_ends(runtime, names).items()
        if ends.stable < written[topic, partition]
    ]:
        if time.monotonic() > give_up_at:
            raise Recoverable(f"a transaction does not end in {', '.join(hidden)}")
        time.sleep(POLL_S)


def _last(
    reader: LogReader, topic: str, partition: int, source: SourcePartition
) -> tuple[int, int] | None:
    """Return (offset, source offset) of the last record derived from the source partition."""
    first, end = reader.bounds(topic, partition)
    wanted, step, found = f"{source.topic}-{source.partition}-", FIRST_LOOK, None
    while end > first and found is None:
        start = max(first, end - step)
        for batch in reader.read(topic, partition, start, end):
            for record, headers in batch:
                made_from = headers.get("source", "")
                if made_from.startswith(wanted):
                    found = record.offset, int(made_from.removeprefix(wanted))
        end, step = start, step * 2
    return found
