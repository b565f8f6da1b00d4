"""Signals and manifolds of candles; what is refused, late, missing; what a restart keeps."""

from __future__ import annotations

from typing import Any

import pytest

from streams.core import CandleStream
from streams.errors import Fatal
from streams.pipeline.signals import SignalsStep
from streams.records.events import Manifold, Ohlc, Signal
from streams.records.topics import DEAD_LETTERS, MANIFOLDS, SIGNALS
from tests.support import reference
from tests.support.stage_bench import (
    MINUTE,
    T0,
    A,
    B,
    Bench,
    candle,
    config_record,
    control_log,
    essence,
    events_of,
    mark,
    universe_record,
)

WINDOW = 129


def at(minutes: int) -> int:
    return T0 + minutes * MINUTE


def bench(**env: str) -> Bench:
    made = Bench("signals", control_log(config_record(**env), universe_record((A, B))))
    made.feed(mark(T0, 2, A, B))
    return made


def warm(**env: str) -> Bench:
    """The stage with 129 candles of one instrument in it."""
    made = bench(**env)
    made.feed(*(candle(at(n)) for n in range(WINDOW)))
    return made


def letters(outputs: Any) -> list[str]:
    return [letter.reason for letter in events_of(outputs, DEAD_LETTERS)]


def counted(made: Bench, name: str) -> int:
    step = made.processor.step
    assert isinstance(step, SignalsStep)
    return step.counts[name]


# -- what comes out ------------------------------------------------------------------------------


def test_the_first_signal_comes_with_the_129th_candle() -> None:
    made = bench()
    assert made.feed(*(candle(at(n)) for n in range(WINDOW - 1))) == []
    outputs = made.feed(candle(at(WINDOW - 1)))
    assert [output.topic for output in outputs] == [SIGNALS, MANIFOLDS]
    assert {output.timestamp_ms for output in outputs} == {at(WINDOW)}


def test_every_candle_after_that_has_one_signal_and_one_manifold() -> None:
    outputs = warm().feed(*(candle(at(n)) for n in range(WINDOW, 300)))
    for topic in (SIGNALS, MANIFOLDS):
        assert [e.bar_ms for e in events_of(outputs, topic)] == [at(n) for n in range(WINDOW, 300)]


def test_signal_and_manifold_are_what_the_batch_computes_of_the_last_candles() -> None:
    made = bench(CANDLE_COUNT="200")
    fed = [candle(at(n)) for n in range(400)]
    outputs = made.feed(*fed)
    signals = {event.bar_ms: event for event in events_of(outputs, SIGNALS)}
    manifolds = {event.bar_ms: event for event in events_of(outputs, MANIFOLDS)}
    plain = [
        reference.RefCandle(c.bar_ms, c.mid.high, c.mid.low, c.mid.close, c.volume or 0)
        for c in fed
    ]
    for n in (128, 129, 199, 200, 201, 399):
        expected = reference.stream_record(plain[: n + 1], 200, 60, 2)
        assert expected is not None
        signal, found = signals[at(n)], manifolds[at(n)]
        for name in ("coherence", "stability", "entropy", "rupture", "lambda_hazard"):
            assert getattr(signal, name) == pytest.approx(expected[name], abs=1e-9)
            assert getattr(found, name) == getattr(signal, name)
        for name in ("signature", "count_1h", "first_seen_ms", "window_start_ms"):
            assert getattr(signal, name) == getattr(found, name) == expected[name]
        assert (signal.ones, signal.collapsed) == (expected["ones"], expected["collapsed"])
        assert signal.flip_ratio == pytest.approx(expected["flip_ratio"], abs=1e-9)
        assert found.lambda_ == pytest.approx(expected["lambda_"], abs=1e-9)
        assert found.sigma_eff == pytest.approx(expected["sigma_eff"], abs=1e-9)
        assert (found.count, found.t0_ms, found.t1_ms) == (
            expected["count"],
            expected["t0_ms"],
            expected["t1_ms"],
        )


def test_the_candles_own_numbers_are_carried_on_bit_by_bit() -> None:
    bid, ask = Ohlc(1.05, 1.15, 0.95, 1.1), Ohlc(1.06, 1.16, 0.96, 1.11)
    outputs = warm().feed(candle(at(WINDOW), bid=bid, ask=ask, volume=0))
    for event in (*events_of(outputs, SIGNALS), *events_of(outputs, MANIFOLDS)):
        assert isinstance(event, (Signal, Manifold))
        assert (event.candle.bid, event.candle.ask, event.candle.volume) == (bid, ask, 0)
        assert event.price == event.candle.mid.close


def test_instruments_of_a_partition_do_not_touch_each_other() -> None:
    alone, together = bench(), bench()
    fed = [candle(at(n), name) for n in range(140) for name in (A, B)]
    mixed = [o for o in together.feed(*fed) if o.key == A.encode()]
    assert [essence(o) for o in mixed] == [
        essence(o) for o in alone.feed(*(c for c in fed if c.instrument == A))
    ]


def test_outputs_go_to_the_partition_they_came_from_and_name_their_source() -> None:
    made = Bench("signals", control_log(config_record()), partition=7)
    made.feed(mark(T0, 1, A))
    outputs = made.feed(*(candle(at(n)) for n in range(WINDOW)))
    assert {output.partition for output in outputs} == {7}
    assert {dict(o.headers)["source"] for o in outputs} == {b"md.candles-7-129"}


# -- gaps ----------------------------------------------------------------------------------------


def test_missing_bars_are_counted_and_not_filled() -> None:
    made = warm()
    (signal,) = events_of(made.feed(candle(at(WINDOW + 3))), SIGNALS)
    assert signal.gap_bars == 3
    assert signal.window_start_ms == at(2)
    (following,) = events_of(made.feed(candle(at(WINDOW + 4))), SIGNALS)
    assert following.gap_bars == 0
    assert counted(made, "gap_bars") == 3


def test_a_weekend_is_no_gap() -> None:
    made = warm()
    friday, sunday = T0 + 2 * 86_400_000 + 718 * MINUTE, T0 + 4 * 86_400_000 + 725 * MINUTE
    made.feed(candle(friday))
    (signal,) = events_of(made.feed(candle(sunday)), SIGNALS)
    assert signal.gap_bars == 0


# -- late, repeated, conflicting, out of order ---------------------------------------------------


def test_a_candle_behind_its_watermark_is_late_and_enters_the_metrics() -> None:
    made = warm()
    made.feed(mark(at(WINDOW + 2), 2, A))
    late = events_of(made.feed(candle(at(WINDOW)), candle(at(WINDOW + 1))), MANIFOLDS)
    assert [event.late for event in late] == [True, True]
    (on_time,) = events_of(made.feed(candle(at(WINDOW + 2))), MANIFOLDS)
    assert not on_time.late
    assert counted(made, "late") == 2


def test_a_watermark_for_others_makes_nobody_late() -> None:
    made = warm()
    made.feed(mark(at(WINDOW + 9), 2, B), mark(at(WINDOW + 9), 2, A, granularity="M5"))
    (event,) = events_of(made.feed(candle(at(WINDOW))), MANIFOLDS)
    assert not event.late


def test_the_same_candle_again_is_dropped() -> None:
    made = warm()
    rows = dict(made.rows)
    assert made.feed(candle(at(WINDOW - 1))) == []
    assert made.rows == rows
    assert counted(made, "duplicate") == 1


@pytest.mark.parametrize(
    "changes",
    [{"volume": 99}, {"bid": Ohlc(1, 1, 1, 1)}, {"mid": Ohlc(1.1, 1.2, 1.0, 1.1)}],
)
def test_the_same_bar_with_other_numbers_is_a_conflict(changes: dict[str, Any]) -> None:
    made = warm()
    rows = dict(made.rows)
    assert letters(made.feed(candle(at(WINDOW - 1), **changes))) == ["conflict"]
    assert made.rows == rows


def test_an_older_bar_is_out_of_order_even_when_it_is_a_repetition() -> None:
    made = warm()
    assert letters(made.feed(candle(at(WINDOW - 2)), candle(at(-5)))) == ["out_of_order"] * 2


def test_repeats_are_still_recognised_after_a_restart() -> None:
    made = warm()
    made.restart()
    assert made.feed(candle(at(WINDOW - 1))) == []
    assert letters(made.feed(candle(at(WINDOW - 1), volume=99))) == ["conflict"]


# -- refusals ------------------------------------------------------------------------------------


def test_a_candle_before_any_configuration_is_a_dead_letter() -> None:
    made = Bench("signals", control_log(config_record()))
    assert letters(made.feed(candle(T0))) == ["no_config"]


@pytest.mark.parametrize(
    "changes",
    [
        {"mid": Ohlc(1e300, 1e300, 1e300, 1e300)},
        {"mid": Ohlc(5e-324, 5e-324, 5e-324, 5e-324)},
        {"mid": Ohlc(1.0, 0.9, 1.1, 1.0)},
        {"volume": -1},
        {"complete": False},
        {"bar_ms": 2**60, "as_of_ms": 2**60 + MINUTE},
        {"bar_ms": -MINUTE, "as_of_ms": 0},
        {"instrument": "~"},
        {"instrument": ""},
    ],
)
def test_a_candle_that_cannot_be_is_a_dead_letter_and_the_stream_goes_on(
    changes: dict[str, Any],
) -> None:
    made, steady = warm(), warm()
    bad = candle(at(WINDOW))._replace(**changes)
    assert letters(made.feed(bad)) == ["invalid_candle"]
    assert made.rows == steady.rows
    good = candle(at(WINDOW))
    assert [essence(o) for o in made.feed(good)] == [essence(o) for o in steady.feed(good)]


def test_a_crossed_quote_is_a_dead_letter_of_its_own_and_the_stream_goes_on() -> None:
    made, steady = warm(), warm()
    good = candle(at(WINDOW))
    bid = good.mid._replace(high=good.mid.high + 2e-5, close=good.mid.high + 2e-5)
    crossed = good._replace(bid=bid, ask=good.mid)
    [letter] = events_of(made.feed(crossed), DEAD_LETTERS)
    assert letter.reason == "crossed_quote"
    assert letter.detail == f"high: the bid {bid.high!r} is over the ask {good.mid.high!r}"
    assert made.rows == steady.rows
    assert [essence(o) for o in made.feed(good)] == [essence(o) for o in steady.feed(good)]
    equal = candle(at(WINDOW + 1))
    assert letters(made.feed(equal._replace(bid=equal.mid, ask=equal.mid))) == []


def test_a_dead_letter_holds_the_bytes_and_where_they_lay() -> None:
    made = bench()
    bad = made.record(candle(at(0), volume=-1))
    (letter,) = events_of(made.fold([bad]), DEAD_LETTERS)
    assert (letter.topic, letter.partition, letter.offset) == ("md.candles", 0, bad.offset)
    assert (letter.key, letter.value, letter.stage) == (bad.key, bad.value, "signals")


def test_a_watermark_under_another_key_is_a_dead_letter() -> None:
    made = bench()
    record = made.record(mark(at(9), 999, A), key=b"EUR_USD")
    assert letters(made.fold([record])) == ["invalid_watermark"]


def test_a_watermark_ahead_of_ops_control_is_a_dead_letter() -> None:
    (output,) = bench().feed(mark(at(1), 999, A))
    assert output.event.reason == "control_missing"


def test_candles_of_another_granularity_stay_in_the_log() -> None:
    made = warm()
    start = T0 - T0 % 300_000 + 300_000 * 40
    assert made.feed(candle(start, granularity="M5")) == []
    assert counted(made, "other_granularity") == 1


# -- missing volume ------------------------------------------------------------------------------


def test_a_candle_without_volume_is_a_dead_letter_and_no_part_of_the_stream() -> None:
    made = warm()
    assert letters(made.feed(candle(at(WINDOW), volume=None))) == ["volume_missing"]
    (signal,) = events_of(made.feed(candle(at(WINDOW + 1))), SIGNALS)
    assert signal.gap_bars == 1


def test_allowed_missing_volume_counts_as_zero_and_flags_every_window_it_is_in() -> None:
    made, zero = warm(ALLOW_MISSING_VOLUME="1"), warm(ALLOW_MISSING_VOLUME="1")
    following = [candle(at(WINDOW + n)) for n in range(1, 140)]
    signals = events_of(made.feed(candle(at(WINDOW), volume=None), *following), SIGNALS)
    same = events_of(zero.feed(candle(at(WINDOW), volume=0), *following), SIGNALS)
    assert [s.volume_missing for s in signals] == [True] * WINDOW + [False] * (140 - WINDOW)
    assert not any(s.volume_missing for s in same)
    assert [s.signature for s in signals] == [s.signature for s in same]
    assert signals[0].candle.volume is None


def test_missing_and_zero_volume_of_one_bar_are_two_things() -> None:
    made = warm(ALLOW_MISSING_VOLUME="1")
    made.feed(candle(at(WINDOW), volume=None))
    assert letters(made.feed(candle(at(WINDOW), volume=0))) == ["conflict"]


# -- control -------------------------------------------------------------------------------------


def test_other_settings_hold_from_their_watermark_on_and_keep_the_candles_at_hand() -> None:
    control = control_log(
        config_record(CANDLE_COUNT="300"),
        config_record(CANDLE_COUNT="200", ECHO_LOOKBACK_MINUTES="30"),
    )
    made = Bench("signals", control)
    made.feed(mark(T0, 1, A), *(candle(at(n)) for n in range(300)))
    outputs = made.feed(mark(at(300), 2, A), *(candle(at(n)) for n in range(300, 303)))
    fresh = CandleStream(200, 30, 2)
    for found in events_of(outputs, MANIFOLDS):
        assert (found.count, found.control_offset) == (200, 2)
    for n in range(303):
        c = candle(at(n))
        metrics = fresh.step(c.bar_ms, c.mid.high, c.mid.low, c.mid.close, c.volume or 0)
    last = events_of(outputs, MANIFOLDS)[-1]
    assert metrics is not None
    assert (last.count_1h, last.first_seen_ms) == (metrics.count_1h, metrics.first_seen_ms)
    assert last.sigma_eff == pytest.approx(metrics.sigma_eff, rel=1e-12)


def test_another_granularity_starts_every_instrument_anew_and_leaves_no_row_behind() -> None:
    control = control_log(config_record(), config_record(CANDLE_GRAN="M5"))
    made = Bench("signals", control)
    made.feed(mark(T0, 1, A), *(candle(at(n)) for n in range(300)))
    made.feed(mark(at(300), 2, A, granularity="M5"))
    assert set(made.rows) == {b"~"}
    start = at(300)
    bars = [candle(start + n * 300_000, granularity="M5") for n in range(WINDOW)]
    outputs = made.feed(*bars)
    assert [event.bar_ms for event in events_of(outputs, SIGNALS)] == [bars[-1].bar_ms]
    made.restart()
    assert len(events_of(made.feed(candle(start + WINDOW * 300_000, granularity="M5")), SIGNALS))


def test_another_granularity_in_one_batch_with_its_candles_keeps_the_new_rows() -> None:
    control = control_log(config_record(), config_record(CANDLE_GRAN="M5"))
    bars = [candle(at(300) + n * 300_000, granularity="M5") for n in range(WINDOW)]
    split, whole = Bench("signals", control), Bench("signals", control)
    for made in (split, whole):
        made.feed(mark(T0, 1, A), *(candle(at(n)) for n in range(300)))
    split.feed(mark(at(300), 2, A, granularity="M5"))
    split.feed(*bars[:100])
    split.feed(*bars[100:])
    whole.feed(mark(at(300), 2, A, granularity="M5"), *bars)
    assert whole.rows == split.rows


# -- rows ----------------------------------------------------------------------------------------


def test_only_rows_that_changed_are_written() -> None:
    made = warm()
    before = dict(made.rows)
    made.feed(candle(at(WINDOW)))
    changed = {key for key in made.rows if made.rows[key] != before.get(key)}
    assert changed == {f"{A}/last".encode(), f"{A}/head".encode(), f"{A}/c02".encode()}


def test_a_batch_that_changes_nothing_writes_nothing() -> None:
    made = warm()
    batch = made.processor.process([made.record(candle(at(WINDOW - 1)))])
    assert (batch.outputs, made.processor.changes()) == ([], {})


@pytest.mark.parametrize("row", ["head", "c00", "last"])
def test_a_row_that_is_missing_or_of_another_engine_stops_the_worker(row: str) -> None:
    made = warm()
    name = f"{A}/{row}".encode()
    kept = made.rows.pop(name)
    with pytest.raises(Fatal):
        made.restart()
    damaged = kept.replace(b'"engine":"', b'"engine":"x') if row == "last" else kept[:-1]
    made.rows[name] = damaged
    with pytest.raises(Fatal):
        made.restart()


def test_restarts_after_every_candle_change_nothing() -> None:
    steady, restarted = bench(CANDLE_COUNT="150"), bench(CANDLE_COUNT="150")
    fed = [candle(at(n)) for n in range(330) if n % 41]
    expected = steady.feed(*fed)
    found = []
    for one in fed:
        found += restarted.feed(one)
        restarted.restart()
    assert found == expected
    assert restarted.rows == steady.rows


def test_a_restart_right_after_other_settings_keeps_them() -> None:
    control = control_log(config_record(CANDLE_COUNT="300"), config_record(CANDLE_COUNT="200"))
    steady, restarted = Bench("signals", control), Bench("signals", control)
    for made in (steady, restarted):
        made.feed(mark(T0, 1, A), *(candle(at(n)) for n in range(300)))
        made.feed(mark(at(300), 2, A))
    restarted.restart()
    assert restarted.feed(candle(at(300))) == steady.feed(candle(at(300)))
    assert restarted.rows == steady.rows


def test_a_candle_that_ends_after_its_records_time_stamp_is_refused() -> None:
    made = warm()
    early = made.record(candle(at(WINDOW + 60)))._replace(timestamp_ms=at(WINDOW + 61) - 1)
    assert letters(made.fold([early])) == ["invalid_candle"]
    # the instrument goes on as if it had not been there
    assert len(events_of(made.feed(candle(at(WINDOW))), SIGNALS)) == 1


def test_a_watermark_that_lies_after_its_records_time_stamp_is_refused() -> None:
    made = warm()
    early = made.record(mark(at(WINDOW + 60), 2, A, B))._replace(timestamp_ms=at(WINDOW))
    assert [output.event.reason for output in made.fold([early])] == ["invalid_watermark"]
