"""A watermark that names an offset of ops.control that does not exist: a dead letter, on record."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streams.config.runtime import Runtime
from streams.errors import Fatal
from streams.kafka import control_topic
from streams.pipeline.processor import LogStage
from streams.pipeline.signals import signals_stage
from streams.records.control import ControlLog
from streams.records.events import Control, DeadLetter, Watermark
from streams.records.log_record import Output
from streams.records.reasons import Refusal
from streams.records.topics import CANDLES, MANIFOLDS, SIGNALS
from streams.replay.verify.rows import FastPathDeclined, PartitionColumns
from tests.support.stage_bench import (
    CODEC,
    MINUTE,
    T0,
    A,
    Bench,
    candle,
    config_record,
    control_log,
    decision,
    essence,
    manifold,
    mark,
    universe_record,
)

STAGES = ("signals", "gates", "weights")
EVENTS: dict[str, Any] = {"signals": candle, "gates": manifold, "weights": decision}


def control() -> ControlLog:
    return control_log(config_record(), universe_record([A]))


def longer() -> ControlLog:
    """The same log later: the offset exists by then."""
    log = control()
    other = config_record(ALLOC_TOP_K="1")
    for offset in range(log.end, 20):
        log.append(offset, other if offset == 5 else Control("audit", None, "{}", "a", "r", T0))
    return log


def fact(stage: str, number: int) -> Any:
    at_ms = T0 + number * MINUTE
    return decision(A, at_ms) if stage == "weights" else EVENTS[stage](at_ms)


def run(stage: str, log: ControlLog, refused: bool) -> tuple[list[Output], Bench]:
    bench = Bench(stage, log)
    if refused:
        log.refused_watermarks.add((bench.stage.source, 0, 2))
    events = [mark(T0, 2, A), fact(stage, 1), mark(T0 + MINUTE, 9, A), fact(stage, 2)]
    return bench.feed(*events, mark(T0 + 2 * MINUTE, 2, A)), bench


@pytest.mark.parametrize("stage", STAGES)
def test_it_becomes_a_dead_letter_and_the_stage_goes_on(stage: str) -> None:
    outputs, bench = run(stage, control(), refused=False)
    (letter,) = (o.event for o in outputs if isinstance(o.event, DeadLetter))
    assert (letter.reason, letter.offset) == (Refusal.CONTROL_MISSING, 2)
    assert outputs[-1].event.as_of_ms == T0 + 2 * MINUTE
    step: Any = bench.processor.step
    assert step.state.offset <= 2


@pytest.mark.parametrize("stage", STAGES)
def test_a_worker_that_takes_over_reads_the_control_topic_as_far_as_the_state(stage: str) -> None:
    first = Bench(stage, longer())
    first.feed(mark(T0, 9, A), fact(stage, 1), mark(T0 + MINUTE, 9, A))
    behind = control()

    async def load(upto: int) -> None:
        for offset, record in longer().records:
            if behind.end <= offset < upto:
                behind.append(offset, record)
        behind.advance(upto)

    other = LogStage(
        stage,
        first.stage.source,
        first.stage.outputs,
        CODEC,
        behind,
        first.stage._make,
        load,
    )
    with pytest.raises(Fatal, match=r"ops.control ends at offset 2, and .* up to 9"):
        other.open(0, first.rows)
    asyncio.run(other.prepare_rows(first.rows))
    assert other.open(0, first.rows).step.config_id == first.processor.step.config_id
    asyncio.run(other.prepare_rows({}))


@pytest.mark.parametrize("stage", STAGES)
def test_it_is_derived_again_alike_when_the_log_has_grown(stage: str) -> None:
    before, first = run(stage, control(), refused=False)
    again, second = run(stage, longer(), refused=True)
    assert [essence(o) for o in again] == [essence(o) for o in before]
    assert second.rows == first.rows
    other, _ = run(stage, longer(), refused=False)
    assert not any(isinstance(o.event, DeadLetter) for o in other)


@pytest.mark.parametrize("shows_at", [0, 1, 3, None])
def test_the_worker_waits_a_little_for_it(
    monkeypatch: pytest.MonkeyPatch, shows_at: int | None
) -> None:
    log, grown, asked = control(), longer(), []

    def read(runtime: Any, codec: Any, known: ControlLog) -> ControlLog:
        asked.append(known.end)
        if shows_at is not None and len(asked) > shows_at:
            for offset, record in grown.records[known.end :]:
                known.append(offset, record)
        return known

    monkeypatch.setattr(control_topic, "PAUSE_S", 0.001)
    monkeypatch.setattr(control_topic, "read_control", read)
    stage = signals_stage(CODEC, log, control_topic.loader(Runtime(), CODEC, log))
    opened = stage.open(0, {})
    bench = Bench("signals", log)
    records = [bench.record(mark(T0, 9, A))]
    asyncio.run(stage.prepare(records, opened))
    outputs = opened.process(records).outputs
    kinds = {type(o.event) for o in outputs}
    assert kinds == ({DeadLetter} if shows_at is None else {Watermark})
    assert {o.topic for o in outputs} <= {SIGNALS, MANIFOLDS, "dead.letters"}
    assert len(asked) == (control_topic.TRIES if shows_at is None else shows_at + 1)


def test_offsets_that_do_not_exist_are_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One batch after the other names another missing offset, lower ones too: one wait for all."""
    log, grown, asked = control(), longer(), []

    def read(runtime: Any, codec: Any, known: ControlLog) -> ControlLog:
        asked.append(known.end)
        return known

    monkeypatch.setattr(control_topic, "PAUSE_S", 0.001)
    monkeypatch.setattr(control_topic, "read_control", read)
    stage = signals_stage(CODEC, log, control_topic.loader(Runtime(), CODEC, log))
    opened, bench = stage.open(0, {}), Bench("signals", log)

    def refused(*offsets: int) -> int:
        records = [bench.record(mark(T0, offset, A)) for offset in offsets]
        asyncio.run(stage.prepare(records, opened))
        events = [output.event for output in opened.process(records).outputs]
        return sum(isinstance(event, DeadLetter) for event in events)

    assert refused(10**9, 10**9 + 1, 2, 10**9 + 2) == 3
    assert len(asked) == control_topic.TRIES
    for count, offset in enumerate((10**9, 10**6, 5, 10**12), 1):
        assert refused(offset) == 1
        assert len(asked) == control_topic.TRIES + count, "read once, not waited for"
    # the log has grown: what it does not hold yet may come a little later again
    for offset, record in grown.records[log.end : 6]:
        log.append(offset, record)
    assert refused(10**9) == 1
    assert len(asked) == 2 * control_topic.TRIES + 4


def test_a_missing_offset_takes_no_earlier_one_along(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two offsets in a batch the one that comes a little later is waited for."""
    log, grown, asked = control(), longer(), []

    def read(runtime: Any, codec: Any, known: ControlLog) -> ControlLog:
        asked.append(known.end)
        if len(asked) == 2:
            for offset, record in grown.records[known.end : 9]:
                known.append(offset, record)
        return known

    monkeypatch.setattr(control_topic, "PAUSE_S", 0.001)
    monkeypatch.setattr(control_topic, "read_control", read)
    stage = signals_stage(CODEC, log, control_topic.loader(Runtime(), CODEC, log))
    opened, bench = stage.open(0, {}), Bench("signals", log)
    records = [bench.record(mark(T0, offset, A)) for offset in (10**9, 9)]
    asyncio.run(stage.prepare(records, opened))
    letters = [o.event for o in opened.process(records).outputs if isinstance(o.event, DeadLetter)]
    assert [letter.offset for letter in letters] == [records[0].offset]


def test_the_columns_of_a_verification_take_it_from_the_record() -> None:
    def records(bench: Bench) -> list[Any]:
        bars = [candle(T0 + n * MINUTE) for n in range(140)]
        return [
            bench.record(event)
            for event in (mark(T0, 2, A), *bars[:70], mark(T0 + MINUTE, 9, A), *bars[70:])
        ]

    bench = Bench("signals", control())
    outputs = bench.fold(records(bench))
    grown = longer()
    bench = Bench("signals", grown)
    with pytest.raises(FastPathDeclined):  # not on record, and not there
        PartitionColumns(0, CODEC, control()).rows(records(bench))
    grown.refused_watermarks.add((CANDLES, 0, 71))
    rows, configs = PartitionColumns(0, CODEC, grown).rows(records(Bench("signals", grown)))
    for topic in (SIGNALS, MANIFOLDS):
        assert rows[topic].values == [o.value for o in outputs if o.topic == topic]
    assert len(set(configs[1:])) == 1
