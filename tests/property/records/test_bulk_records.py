"""Frames written in bulk are the codec's; frames read in bulk are what the codec reads, or left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.records import events, schemas
from streams.records.avro.schema import kind_of, named_records, python_name
from streams.records.bulk import BulkRecords, Column, Words
from streams.records.codec import locked_codec
from streams.records.events import Floors, GateDecision, GateEvaluation, GateMetrics, ReasonDetail
from streams.records.topics import GATES, MANIFOLDS, SIGNALS, SUMMARIES, TRADES
from tests.property.records.test_codec_frames import values

CODEC = locked_codec()
RECORDS = {
    "Signal": SIGNALS,
    "Manifold": MANIFOLDS,
    "GateDecision": GATES,
    "SimulatedTrade": TRADES,
    "Summary": SUMMARIES,
    "Watermark": GATES,
}
DTYPES = {"boolean": np.bool_, "double": np.float64}
DECISIONS = BulkRecords("GateDecision", CODEC.schema_id(GATES, "GateDecision"))


def columns_of(record: str, rows: Sequence[Any]) -> dict[str, Column]:
    """Return events as columns, by their schema alone; what is the same in all is one value."""
    schema = schemas.newest(record)
    records = named_records(schema)
    columns: dict[str, Column] = {}

    def take(kind: Any, path: str, found: list[Any]) -> None:
        name = kind_of(kind)
        if name == "optional":
            there = [one is not None for one in found]
            if any(there) or not found:
                columns[path + "?"] = np.array(there, np.bool_)
                take(kind[1], path, [_some(kind[1]) if one is None else one for one in found])
            else:
                columns[path] = None
        elif name == "array":
            columns[path + "#"] = np.array([len(one) for one in found], np.int64)
            take(kind["items"], path, [item for one in found for item in one])
        elif name == "string":
            texts = sorted(set(found))
            places = np.array([texts.index(one) for one in found], np.int64)
            columns[path] = texts[0] if len(texts) == 1 else Words(texts, places)
        elif name in ("long", "timestamp-millis", *DTYPES):
            alone = found and len(set(map(repr, found))) == 1
            columns[path] = found[0] if alone else np.array(found, DTYPES.get(name, np.int64))
        else:
            named = kind if isinstance(kind, dict) else records[f"manifold.{kind.split('.')[-1]}"]
            for field in named["fields"]:
                inner = f"{path}.{field['name']}" if path else field["name"]
                own = python_name(field["name"])
                of_field = [None if one == () else getattr(one, own) for one in found]
                take(field["type"], inner, [_filled(field["type"], one) for one in of_field])

    def _some(kind: Any) -> Any:
        return {"double": 0.0, "string": "", "boolean": False}.get(
            kind_of(kind), () if kind_of(kind) not in ("long", "timestamp-millis") else 0
        )

    def _filled(kind: Any, one: Any) -> Any:
        if one is None and kind_of(kind) not in ("optional",):
            return _some(kind)
        return one

    take(schema, "", list(rows))
    return columns


@pytest.mark.parametrize("record", RECORDS)
def test_what_is_written_is_what_the_codec_writes(record: str) -> None:
    topic = RECORDS[record]
    writer = BulkRecords(record, CODEC.schema_id(topic, record))

    @settings(max_examples=150, deadline=None)
    @given(st.lists(values(getattr(events, record)), min_size=1, max_size=6))
    def holds(found: list[Any]) -> None:
        wanted = [CODEC.encode(topic, event) for event in found]
        assert writer.write(columns_of(record, found), len(found)) == wanted

    holds()


def read(frames: Sequence[bytes | None]) -> list[tuple[Any, ...] | None]:
    """Return of each frame what a reader wants of it, None where it was left to the codec."""
    n = len(frames)
    numbers = {"as_of_ms": 0, "cooldown_until_ms": 0, "metrics.count_1h": 0, "instrument": 0}
    wanted: dict[str, np.ndarray[Any, Any]] = {name: np.zeros(n, np.int64) for name in numbers}
    wanted |= {"buffer": np.zeros(n), "score": np.zeros(n), "evaluation.calmar": np.zeros(n)}
    for name in ("eligible", "cooldown_until_ms?", "score?", "metrics?", "evaluation?"):
        wanted[name] = np.zeros(n, np.bool_)
    wanted["evaluation.calmar?"] = np.zeros(n, np.bool_)
    plain, words = DECISIONS.read(frames, wanted)
    columns = {name: column.tolist() for name, column in wanted.items()}
    found: list[tuple[Any, ...] | None] = []
    for i in range(n):
        if not plain[i]:
            found.append(None)
            continue
        row = {name: column[i] for name, column in columns.items()}
        evaluated = row["evaluation?"]
        found.append(
            (
                words[row["instrument"]].decode(),
                row["as_of_ms"],
                row["eligible"],
                row["cooldown_until_ms"] if row["cooldown_until_ms?"] else None,
                row["buffer"],
                row["score"] if row["score?"] else None,
                row["metrics.count_1h"] if row["metrics?"] else None,
                row["evaluation.calmar"] if evaluated and row["evaluation.calmar?"] else None,
            )
        )
    return found


def part(event: GateDecision) -> tuple[Any, ...]:
    metrics, evaluation = event.metrics, event.evaluation
    return (
        event.instrument,
        event.as_of_ms,
        event.eligible,
        event.cooldown_until_ms,
        event.buffer,
        event.score,
        None if metrics is None else metrics.count_1h,
        None if evaluation is None else evaluation.calmar,
    )


@settings(max_examples=200, deadline=None)
@given(st.lists(values(GateDecision), max_size=6))
def test_what_is_read_is_what_the_codec_reads(rows: list[GateDecision]) -> None:
    frames = [CODEC.encode(GATES, event) for event in rows]
    for event, found in zip(rows, read(frames), strict=True):
        assert found is None or found == part(event)


@settings(max_examples=300, deadline=None)
@given(values(GateDecision), st.data())
def test_a_damaged_frame_is_read_as_the_codec_does_or_left(
    event: GateDecision, data: st.DataObject
) -> None:
    frame = bytearray(CODEC.encode(GATES, event))
    at = data.draw(st.integers(0, len(frame) - 1))
    damage = data.draw(st.sampled_from(["cut", "byte", "more"]))
    if damage == "cut":
        frame = frame[:at]
    elif damage == "byte":
        frame[at] = data.draw(st.integers(0, 255))
    else:
        frame += b"\0"
    (found,) = read([bytes(frame)])
    if found is not None:
        decoded: Any = CODEC.decode(GATES, bytes(frame))
        assert found == part(decoded)


def test_ordinary_frames_are_all_read() -> None:
    frames = [None, b"", b"\1234", *(CODEC.encode(GATES, one) for one in (ORDINARY, FULL))]
    assert read(frames) == [None, None, None, part(ORDINARY), part(FULL)]


ORDINARY = GateDecision(
    *("EUR_USD", "M1", 1_709_510_400_000, 1_709_510_460_000, "c" * 16, 3, False),
    *(("cooldown", "session_closed"), None, False, None, 0.1, 0, 1, 0, 1_709_510_500_000),
    *(True, False, 0, 0, None, None, None, "adaptive", "p", None, ()),
)
FULL = ORDINARY._replace(
    metrics=GateMetrics(0.5, 0.25, 0.125, 0.0, 1.0, 7, -0.5, 1e-9),
    floors=Floors(3.0, 0.1, 0.2),
    signal_bar_ms=1_709_510_400_000,
    score=0.75,
    evaluation=GateEvaluation(1_709_510_400_000, 4, -2.5, 0.01, True),
    details=(
        ReasonDetail("cooldown", None, None, 1_709_510_500_000),
        ReasonDetail("coherence_below_min", 0.5, 0.6, None),
    ),
)
