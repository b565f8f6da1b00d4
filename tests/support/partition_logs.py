"""Logs of several partitions: what a stage hands on, and the orders in which they may arrive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hypothesis import strategies as st

from streams.records.log_record import Output, SourceRecord


def onward(outputs: Sequence[Output], topic: str) -> tuple[SourceRecord, ...]:
    """What a stage derived for a topic, as the next one finds it."""
    found = [output for output in outputs if output.topic == topic]
    return tuple(
        SourceRecord(topic, o.partition, n, o.timestamp_ms, o.key, o.value)
        for n, o in enumerate(found)
    )


def numbered(records: Sequence[SourceRecord]) -> list[SourceRecord]:
    """One partition's records, with the offsets of their order."""
    return [record._replace(offset=n) for n, record in enumerate(records)]


def interleaved(
    data: st.DataObject, logs: Mapping[int, Sequence[SourceRecord]]
) -> list[SourceRecord]:
    """The partitions' records in some order that keeps each partition's own."""
    left = {p: list(log) for p, log in logs.items()}
    order: list[SourceRecord] = []
    while left:
        partition = data.draw(st.sampled_from(sorted(left)))
        run = data.draw(st.integers(1, 150))
        order += left[partition][:run]
        del left[partition][:run]
        if not left[partition]:
            del left[partition]
    return numbered(order)
