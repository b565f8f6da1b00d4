"""When what is derived is written: at once when its bar is there as a whole, else later."""

from __future__ import annotations

from typing import Any

import pytest

from streams.pipeline.processor import BarCompleteness
from streams.pipeline.worker.runtime import IDLE_COMMIT_S, LINGER_S, MAX_BATCH, UnwrittenBatch
from streams.records.events import Candle, Watermark
from streams.records.log_record import SourceRecord
from tests.support.stage_bench import MINUTE, A, B, C, candle
from tests.support.stage_bench import mark as mark_at


def a_candle(name: str, bar: int) -> Candle:
    return candle(bar * MINUTE, name)


def mark(bar: int, *names: str) -> Watermark:
    return mark_at((bar + 1) * MINUTE, 0, *names)


def after(*events: Candle | Watermark) -> bool:
    arrivals = BarCompleteness()
    for event in events:
        arrivals.take(event)
    return arrivals.complete


@pytest.mark.parametrize(
    ("events", "complete"),
    [
        ((), True),
        ((a_candle(A, 1),), True),  # nobody has said yet what belongs to a bar
        ((mark(0, A, B),), True),
        ((mark(0, A, B), a_candle(A, 1)), False),
        ((mark(0, A, B), a_candle(A, 1), a_candle(B, 1)), True),
        ((mark(0, A, B), a_candle(A, 1), a_candle(A, 1)), False),
        ((mark(0, A, B), a_candle(A, 1), a_candle(B, 2)), False),
        ((mark(0, A, B), a_candle(A, 2), a_candle(B, 1)), False),  # a late one completes nothing
        ((mark(0, A, B), a_candle(A, 1), mark(1, A, B)), True),
        ((mark(0, A, B), a_candle(A, 1), mark(1, A), a_candle(A, 2)), True),
        ((mark(0, A), mark(0, A, B, C), a_candle(A, 1), a_candle(C, 1)), False),
    ],
)
def test_a_bar_is_complete_when_all_that_a_watermark_named_is_there(
    events: tuple[Candle | Watermark, ...], complete: bool
) -> None:
    assert after(*events) == complete


RECORD = SourceRecord("md.candles", 0, 0, 0, b"", b"")


def batch_of(records: int, outputs: list[Any], *, complete: bool) -> UnwrittenBatch:
    made = UnwrittenBatch()
    made.records, made.outputs, made.complete = [RECORD] * records, outputs, complete
    return made


@pytest.mark.parametrize(
    ("records", "outputs", "complete", "due"),
    [
        (1, ["one"], True, True),
        (1, ["one"], False, False),
        (1, [], True, False),  # only says how far the stage has come
        (MAX_BATCH, [], False, True),
        (MAX_BATCH, ["one"], False, True),
        (MAX_BATCH - 1, ["one"], False, False),
    ],
)
def test_a_complete_bar_and_a_full_batch_are_written_at_once(
    records: int, outputs: list[Any], complete: bool, due: bool
) -> None:
    assert batch_of(records, outputs, complete=complete).due == due


def test_outputs_wait_less_than_what_only_says_how_far_the_stage_has_come() -> None:
    assert batch_of(1, ["one"], complete=False).due_in_s <= LINGER_S < IDLE_COMMIT_S
    held = batch_of(1, [], complete=False)
    assert LINGER_S < held.due_in_s <= IDLE_COMMIT_S
    held.since -= IDLE_COMMIT_S
    assert held.due_in_s <= 0
