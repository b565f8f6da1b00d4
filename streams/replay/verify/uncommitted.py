"""Derived records whose source offset the stage has not committed.

A running worker may have written them after its position was read. Those whose offset is not
committed within ``WAIT_S`` were written by no stage.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

from streams.config.runtime import Runtime
from streams.kafka.committed import committed_offsets
from streams.kafka.reader import LogReader
from streams.records.topics import STAGE_SOURCES, TOPICS
from streams.replay.verify.report import LaterRecords, Report

WAIT_S: Final = 5.0
"""Seconds to wait for an offset commit: it may become visible after the output."""
POLL_S: Final = 0.2

Committed = Callable[[str], Mapping[int, int]]
"""Returns the committed offsets of all partitions of a source topic."""


def uncommitted_differences(
    later: LaterRecords, committed: Committed, wait_s: float = WAIT_S
) -> dict[str, str]:
    """Return the difference of each topic that has a record from an offset never committed.

    A source topic without any committed offset is left out: a group that no worker has used for
    long has none (``offsets.retention.minutes``).

    Parameters
    ----------
    later
        The records found.
    committed
        Asked again until every source offset is committed, for at most ``wait_s`` seconds.
    """
    end = time.monotonic() + wait_s
    left = {(t, p): r for (t, p), r in later.highest.items() if t in TOPICS}
    while True:
        asked_last = time.monotonic() >= end
        sources = {topic: STAGE_SOURCES[TOPICS[topic].derived_by] for topic, _ in left}
        offsets = {source: committed(source) for source in sorted(set(sources.values()))}
        left = {
            (topic, partition): record
            for (topic, partition), record in left.items()
            if offsets[sources[topic]]
            and record.source_offset >= offsets[sources[topic]].get(partition, 0)
        }
        if not left or asked_last:
            break
        time.sleep(POLL_S)
    found: dict[str, str] = {}
    for (topic, partition), record in sorted(left.items()):
        source = f"{sources[topic]}-{partition}"
        reached = offsets[sources[topic]].get(partition, 0)
        found.setdefault(
            topic,
            f"{record.place}: derived from {source}-{record.source_offset}, but the stage has "
            f"committed {source} only up to offset {reached}: no stage has written it",
        )
    return found


def name_uncommitted(runtime: Runtime, report: Report, later: LaterRecords) -> Report:
    """Add the records that no stage has written to a report, and return it.

    Raises
    ------
    Fatal, Recoverable
        The broker refuses, or does not answer.
    """
    if not later.highest:
        return report
    with LogReader(runtime) as reader:
        numbers = {source: reader.partitions(source) for source in STAGE_SOURCES.values()}

    def committed(source: str) -> Mapping[int, int]:
        return committed_offsets(runtime, source, numbers[source])

    for topic, difference in uncommitted_differences(later, committed).items():
        report.topics[topic].difference = report.topics[topic].difference or difference
    return report
