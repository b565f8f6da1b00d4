"""The truncation test passes on what is there, and finds steps that look ahead."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from streams.candles.calendar import FX
from streams.candles.load_report import LoadReport
from streams.candles.series import read_series
from streams.cli import cli, main
from streams.config.settings import Config
from streams.feeds.synthetic import MarketRates, synthetic_market
from streams.pipeline.gates import GatesStage, GatesStep
from streams.pipeline.processor import record_key
from streams.pipeline.signals import SignalsStep
from streams.pipeline.weights import WeightsStep
from streams.records.control import ControlLog
from streams.records.events import WATERMARK_KEY, Candle, Manifold
from streams.records.topics import GATES, SIGNALS, SUMMARIES, TRADES, WEIGHTS
from streams.replay.verify.lookahead import COMPARED, Lookahead, LookaheadReport, Subject
from streams.replay.verify.lookahead_cuts import Cut, pick_cuts
from streams.replay.verify.lookahead_inputs import (
    at_event_time,
    known_times,
    subject_of_bars,
    subject_of_series,
)
from tests.support.candle_files import START_MS, market, write_csv
from tests.support.stage_bench import CODEC, candle, mark

PAIRS = ("EUR_USD", "NZD_USD")
MINUTE_MS = 60_000
BARS = 3_000
CONFIG = Config.from_env(
    {
        "CANDLE_COUNT": "300",
        "AUTO_MIN_COHERENCE": "0.40",
        "AUTO_MAX_ENTROPY": "0.90",
        "SESSION_PATTERN_MIN_OCCURRENCES": "1",
        "EVAL_INTERVAL_SEC": "300",
        "EVAL_MIN_TRADES": "1",
        "EVAL_CALMAR_MIN": "-10",
        "EVAL_PNL_MIN": "-0.05",
    }
)


@cache
def recorded(place: Path | None) -> tuple[tuple[int, tuple[Candle, ...]], ...]:
    """The first bars of the recorded minutes, or of a synthetic market where those are not."""
    if place is None:
        bars: dict[int, list[Candle]] = {}
        for one in market(PAIRS, BARS):
            bars.setdefault(one.as_of_ms, []).append(one)
    else:
        paths = [str(place / f"oanda-{pair}-M1-2014-05.csv.gz") for pair in PAIRS]
        bars = {}
        for one in read_series(paths, None, None, LoadReport(), 1 << 50).values():
            for each in one.candles():
                bars.setdefault(each.as_of_ms, []).append(each)
    return tuple((end, tuple(bars[end])) for end in sorted(bars)[:BARS])


def subject_of(bars: Sequence[tuple[int, Sequence[Candle]]], partitions: int = 3) -> Subject:
    names = sorted({one.instrument for _, candles in bars for one in candles})
    return subject_of_bars(bars, CONFIG, names, bars[0][0] - MINUTE_MS, bars[-1][0], partitions)


def run_checks(subject: Subject, cuts: int = 20, *, apart: bool = False) -> LookaheadReport:
    chosen = pick_cuts(subject.ends_ms, subject.bar_ms, subject.instruments, FX, cuts, 1)
    return asyncio.run(Lookahead(subject, apart=apart).run(chosen))


def short(bars: int = 400, **rates: int) -> Subject:
    wanted = MarketRates(**({"quiet": 20, "late": 0, "duplicate": 0} | rates))
    made = synthetic_market(3, PAIRS, START_MS, bars, rates=wanted)
    return subject_of([(bar.as_of_ms, bar.candles) for bar in made])


def test_recorded_minutes_know_nothing_of_what_comes(shared_data: Path | None) -> None:
    found = run_checks(subject_of(recorded(shared_data)))
    assert found.difference is None
    assert found.stepwise
    assert all(found.records[topic] > 10 for topic in COMPARED), found.records
    assert set(found.later.values()) == {0}
    assert len(found.cuts) >= 28
    for before, after in zip(found.cuts, found.cuts[1:], strict=False):
        assert all(before.records[topic] <= after.records[topic] for topic in COMPARED)
    assert found.cuts[-1].records[TRADES] > 10


def test_a_run_that_stops_at_every_cut_says_what_runs_that_end_there_say() -> None:
    subject = short(late=15, duplicate=15)
    stepwise, apart = run_checks(subject, 6), run_checks(subject, 6, apart=True)
    assert stepwise.stepwise
    assert not apart.stepwise
    assert apart.passed
    assert stepwise._replace(stepwise=False) == apart


def test_the_same_seed_cuts_at_the_same_instants_and_every_kind_is_there() -> None:
    ends = [end for end, _ in recorded(None)]
    one, again = (pick_cuts(ends, MINUTE_MS, PAIRS, FX, 30, 5) for _ in range(2))
    assert one == again
    assert one != pick_cuts(ends, MINUTE_MS, PAIRS, FX, 30, 6)
    assert [cut.at_ms for cut in one] == sorted({cut.at_ms for cut in one})
    assert all(ends[0] <= cut.at_ms < ends[-1] for cut in one)
    stops = set(ends)
    assert any(cut.at_ms in stops for cut in one)
    assert any(cut.at_ms + 1 in stops for cut in one)
    assert any(cut.at_ms % MINUTE_MS == MINUTE_MS // 2 for cut in one)
    for what in ("opens", "closes", "first window", "drawn"):
        assert any(what in cut.why for cut in one), what


class HoldsBack(GatesStep):
    """Decides a bar when the next one has come, by that one's coherence."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._held: dict[str, tuple[Manifold, Any]] = {}

    def step(self, event: Any, at: Any) -> Any:
        if not isinstance(event, Manifold):
            return super().step(event, at)
        before = self._held.get(event.instrument)
        self._held[event.instrument] = event, at
        if before is None:
            return []
        return super().step(before[0]._replace(coherence=event.coherence), before[1])


def peeking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the gates see the next manifold where it lies in the same batch."""
    coming: dict[int, Manifold] = {}
    prepare, step = GatesStage.prepare, GatesStep.step

    async def prepared(self: Any, records: Any, processor: Any) -> None:
        coming.clear()
        last: dict[bytes, int] = {}
        for record in records:
            event = CODEC.decode(record.topic, record.value)
            if isinstance(event, Manifold):
                if record.key in last:
                    coming[last[record.key]] = event
                last[record.key] = record.offset
        await prepare(self, records, processor)

    def stepped(self: Any, event: Any, at: Any) -> Any:
        ahead = coming.get(at.offset)
        if isinstance(event, Manifold) and ahead is not None:
            event = event._replace(coherence=ahead.coherence)
        return step(self, event, at)

    monkeypatch.setattr(GatesStage, "prepare", prepared)
    monkeypatch.setattr(GatesStep, "step", stepped)


def test_gates_that_peek_at_the_next_bar_are_found_and_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    subject = short()
    peeking(monkeypatch)
    found = run_checks(subject)
    assert found.difference is not None
    assert not found.passed
    assert found.difference.topic in (TRADES, SUMMARIES, GATES)
    assert found.difference.instrument in PAIRS
    assert found.difference.as_of_ms <= found.difference.cut_ms
    # the decision at the cut is where a peek at the next bar shows
    at_cut = [Cut(subject.ends_ms[place], "test") for place in (200, 201, 202)]
    named = asyncio.run(Lookahead(subject).run(at_cut)).difference
    assert named is not None
    assert named.topic == GATES
    assert named.as_of_ms == named.cut_ms
    assert named.field in ("metrics", "reasons", "eligible", "next_change_ms")


@pytest.mark.parametrize("apart", [False, True])
def test_gates_that_wait_for_the_next_bar_are_found(
    monkeypatch: pytest.MonkeyPatch, apart: bool
) -> None:
    monkeypatch.setattr("streams.pipeline.gates.GatesStep", HoldsBack)
    found = run_checks(short(), apart=apart)
    assert found.difference is not None
    assert found.difference.topic in (SUMMARIES, GATES)
    assert found.difference.field == "(the record)"


def test_signals_that_wait_for_the_next_bar_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    step = SignalsStep._candle

    def held(self: Any, event: Any, at: Any, config: Any) -> Any:
        before = getattr(self, "held", {})
        self.held = before | {event.instrument: step(self, event, at, config)}
        return before.get(event.instrument, [])

    monkeypatch.setattr(SignalsStep, "_candle", held)
    difference = run_checks(short()).difference
    assert difference is not None
    assert difference.topic == SIGNALS


def test_weights_that_wait_for_the_next_bar_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    step = WeightsStep.step

    def held(self: Any, event: Any, at: Any) -> Any:
        before, self.held = getattr(self, "held", []), step(self, event, at)
        return before

    monkeypatch.setattr(WeightsStep, "step", held)
    difference = run_checks(short()).difference
    assert difference is not None
    assert (difference.topic, difference.field) == (WEIGHTS, "(the record)")


def test_an_epoch_that_waits_for_a_member_is_known_when_that_one_is_decided() -> None:
    """Candles without volume are refused: only the hourly watermarks decide such an instrument."""
    bars = [
        (end, [c._replace(volume=None) if c.instrument == PAIRS[1] else c for c in candles])
        for end, candles in recorded(None)[:500]
    ]
    found = run_checks(subject_of(bars))
    assert found.passed
    assert 0 < found.later[WEIGHTS] < found.records[WEIGHTS]
    assert sum(found.later.values()) == found.later[WEIGHTS]


def test_what_comes_late_is_known_when_it_comes() -> None:
    name, other = PAIRS
    events = [
        mark(START_MS, 2, name, other),
        candle(START_MS, name),
        candle(START_MS + MINUTE_MS, name),
        mark(START_MS + 2 * MINUTE_MS, 2, name),
        candle(START_MS + MINUTE_MS, name),
        candle(START_MS, other),
        candle(START_MS - MINUTE_MS, other),
    ]
    subject = short(300)
    records = [
        subject.records[0]._replace(
            partition=0,
            offset=at,
            timestamp_ms=e.as_of_ms,
            key=record_key(e),
            value=CODEC.encode("md.candles", e),
        )
        for at, e in enumerate(events)
    ]
    control = ControlLog()
    control.advance(2)
    known, ends, names = known_times(records, CODEC, "M1", control)
    assert [(at - START_MS) // MINUTE_MS for at in known] == [0, 1, 2, 2, 2, 1, 1]
    assert [(at - START_MS) // MINUTE_MS for at in ends] == [0, 1, 2]
    assert names == tuple(sorted(PAIRS))


REFUSED = {
    "a watermark later than its time stamp": lambda name: (
        mark(START_MS + 9 * MINUTE_MS, 2, name),
        START_MS,
        WATERMARK_KEY,
    ),
    "a candle later than its time stamp": lambda name: (
        candle(START_MS + 9 * MINUTE_MS, name),
        START_MS,
        name.encode(),
    ),
    "a watermark whose control record is missing": lambda name: (
        mark(START_MS + 9 * MINUTE_MS, 3, name),
        START_MS + 9 * MINUTE_MS,
        WATERMARK_KEY,
    ),
    "a watermark under another key": lambda name: (
        mark(START_MS + 9 * MINUTE_MS, 2, name),
        START_MS + 9 * MINUTE_MS,
        name.encode(),
    ),
    "a candle under another key": lambda name: (
        candle(START_MS + 9 * MINUTE_MS, name),
        START_MS + 9 * MINUTE_MS,
        b"AUD_USD",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_refused_record_makes_nothing_known_later(kind: str) -> None:
    name, _ = PAIRS
    event, stamp_ms, key = REFUSED[kind](name)
    first = short(300).records[0]._replace(partition=0)
    after = candle(START_MS, name)
    records = [
        first._replace(
            offset=0, timestamp_ms=stamp_ms, key=key, value=CODEC.encode("md.candles", event)
        ),
        first._replace(
            offset=1,
            timestamp_ms=after.as_of_ms,
            key=name.encode(),
            value=CODEC.encode("md.candles", after),
        ),
    ]
    control = ControlLog()
    control.advance(2)
    known, ends, names = known_times(records, CODEC, "M1", control)
    assert known == [stamp_ms, after.as_of_ms]
    assert ends == [after.as_of_ms] and names == (name,)
    control.refused_watermarks.add(records[0].place)
    assert known_times(records, CODEC, "M1", control)[0] == known


def test_a_producer_that_stamps_by_the_wall_clock_makes_no_look_ahead() -> None:
    whole = short(300)
    later = [r._replace(timestamp_ms=r.timestamp_ms + 30_000) for r in whole.records]
    records = at_event_time(later, CODEC)
    assert records == whole.records
    wrong = later[0]._replace(value=b"no record")
    assert at_event_time([wrong], CODEC) == [wrong]


def test_history_behind_newer_candles_has_a_run_for_every_cut() -> None:
    """One instrument's candles lie behind those of another that were loaded before them."""
    whole = short(300)
    first, second = ([r for r in whole.records if r.key == p.encode()] for p in PAIRS)
    marks = [r for r in whole.records if r.key not in (p.encode() for p in PAIRS)]
    moved, ends = [], {0: 0}
    for record in [*marks[:2], *first, *second]:
        moved.append(record._replace(partition=0, offset=ends[0]))
        ends[0] += 1
    control = ControlLog()
    control.advance(2)
    known, bars, names = known_times(moved, CODEC, "M1", control)
    subject = Subject(moved, known, whole.derivation, True, bars, MINUTE_MS, names, FX)
    found = run_checks(subject, 6)
    assert not found.stepwise
    assert found.difference is None, found.difference
    assert found.records[GATES] > 300


def test_the_command_says_yes_or_no_and_names_the_difference(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = write_csv(tmp_path / "market.csv", market(PAIRS, 240))
    arguments = ["lookahead", path, "--cuts", "4"]
    good = CliRunner().invoke(cli, arguments)
    assert good.exit_code == 0, good.output
    assert "no record depends on later input" in good.output
    again = CliRunner().invoke(cli, [*arguments, "--json", "--apart"])
    assert json.loads(again.output)["passed"]
    monkeypatch.setattr("streams.pipeline.gates.GatesStep", HoldsBack)
    bad = CliRunner().invoke(cli, arguments)
    assert bad.exit_code == 1
    (line,) = [line for line in bad.output.splitlines() if line.startswith("LOOK-AHEAD")]
    named = json.loads(CliRunner().invoke(cli, [*arguments, "--json"]).output)["difference"]
    assert named["topic"] in (SUMMARIES, GATES)
    assert named["instrument"] in PAIRS
    assert all(str(named[name]) in line for name in ("topic", "instrument", "as_of_ms", "field"))


def test_too_little_to_cut_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_csv(tmp_path / "market.csv", market(PAIRS[:1], 1))
    with pytest.raises(SystemExit) as ended:
        main(["lookahead", path])
    assert ended.value.code == 2
    assert "fewer than two bars" in capsys.readouterr().err


def test_a_file_gives_the_same_subject_as_its_bars(tmp_path: Path) -> None:
    candles = market(PAIRS, 200)
    path = write_csv(tmp_path / "market.csv", candles)
    series = read_series([path], None, None, LoadReport(), 1 << 50)
    found = subject_of_series(series, CONFIG, 3)
    bars: dict[int, list[Candle]] = {}
    for one in candles:
        bars.setdefault(one.as_of_ms, []).append(one)
    wanted = subject_of(sorted(bars.items()))
    assert (found.ends_ms, found.instruments) == (wanted.ends_ms, wanted.instruments)
    assert len(found.records) == len(wanted.records)
    assert found.known_ms == wanted.known_ms
