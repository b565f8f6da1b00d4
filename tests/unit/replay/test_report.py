"""The report: its figures against plain counting, and what its page may never do."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.config.settings import Config
from streams.errors import Fatal
from streams.records.events import SimulatedTrade
from streams.records.reasons import Reason
from streams.replay.report.accumulate import ReportAccumulator
from streams.replay.report.cells import (
    DAY_MS,
    MINUTE_MS,
    MOST_BUCKETS,
    MOST_CELLS,
    TimeCells,
    buckets_for,
)
from streams.replay.report.data import ReportData, ReportMeta
from streams.replay.report.gates import SIGNAL_GUARDS
from streams.replay.report.page import report_html, report_json, write_report
from tests.support.report_year import START_MS, made_meta, made_year
from tests.support.sample_events import SAMPLES

NAMES = ("EUR_USD", "NZD_USD", "USD_JPY")
HOSTILE = '</script><script>alert(1)</script><img src=x onerror="alert(2)">&amp;\u2028'
REASONS = list(Reason)


def bucket(time: Any, at_ms: int) -> int:
    return (at_ms - 1 - time["start_ms"]) // time["bucket_ms"]


def trade(name: str, at_ms: int, pnl: float, cost: float = 1.0, **other: Any) -> SimulatedTrade:
    made: Any = SAMPLES["SimulatedTrade"]
    fields = {"instrument": name, "as_of_ms": at_ms, "pnl_bps": pnl, "cost_bps": cost}
    return made._replace(**(fields | {"entry_bar_ms": at_ms - 60_000} | other))


def no_trades() -> ReportData:
    return ReportAccumulator().finish(ReportMeta())


instants = st.integers(START_MS, START_MS + 90 * DAY_MS)
decisions = st.lists(
    st.tuples(
        st.sampled_from(NAMES),
        instants,
        st.frozensets(st.sampled_from(REASONS), max_size=4),
    ),
    min_size=1,
    max_size=60,
)


@given(decisions, st.integers(1, 7), st.booleans())
@settings(deadline=None, max_examples=60)
def test_gates_are_counted_as_one_would_by_hand(
    rows: list[tuple[str, int, frozenset[Reason]]], block: int, as_events: bool
) -> None:
    accumulator = ReportAccumulator()
    if as_events:
        for name, at, reasons in rows:
            event: Any = SAMPLES["GateDecision"]
            given_reasons = tuple(sorted(r.value for r in reasons))
            accumulator.add_event(
                event._replace(
                    instrument=name, as_of_ms=at, eligible=not reasons, reasons=given_reasons
                )
            )
    else:
        for name in NAMES:
            own = [row for row in rows if row[0] == name]
            for start in range(0, len(own), block):
                part = own[start : start + block]
                accumulator.add_gates(
                    name,
                    np.array([at for _, at, _ in part], np.int64),
                    np.array([not r for _, _, r in part]),
                    np.array([sum(1 << REASONS.index(x) for x in r) for _, _, r in part], "u4"),
                )
    data = accumulator.finish(ReportMeta())
    time: Any = data["time"]
    assert time["count"] <= MOST_BUCKETS
    found: dict[tuple[str, str, int], int] = {}
    for name, counts in data["gates"].items():
        columns = {"decisions": counts["decisions"], "eligible": counts["eligible"]}
        for what, column in (columns | counts["reasons"]).items():
            found |= {(name, what, at): n for at, n in enumerate(column) if n}
    wanted: Counter[tuple[str, str, int]] = Counter()
    for name, at, reasons in rows:
        whats = ["decisions", *(["eligible"] if not reasons else []), *(r.value for r in reasons)]
        wanted.update((name, what, bucket(time, at)) for what in whats)
    assert found == dict(wanted)
    judged = [r for _, _, r in rows if not r & {Reason.WARMING, Reason.SIGNAL_STALE}]
    assert data["guards"]["judged"] == len(judged)
    assert data["guards"]["together"] == sum(not r & set(SIGNAL_GUARDS) for r in judged)
    for row in data["guards"]["rows"]:
        assert row["passed"] == sum(row["guard"] not in r for r in judged), row["guard"]


trades = st.lists(
    st.tuples(
        st.sampled_from(NAMES),
        st.integers(0, 400).map(lambda hours: START_MS + 3_600_000 * (hours + 1)),
        st.integers(-2_000, 2_000).map(lambda pnl: pnl / 8),
    ),
    min_size=1,
    max_size=50,
)


def drawdowns(closed: list[tuple[int, float]]) -> list[tuple[int, float, float]]:
    """Return (instant, equity, drawdown) after each instant, by hand."""
    equity = peak = 0.0
    made = []
    for at in sorted({at for at, _ in closed}):
        equity += sum(pnl for when, pnl in closed if when == at)
        peak = max(peak, equity)
        made.append((at, equity, peak - equity))
    return made


@given(trades, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_equity_and_figures_are_those_counted_by_hand_in_any_order(
    rows: list[tuple[str, int, float]], chance: Any
) -> None:
    made = [trade(name, at, pnl, 0.5, trade_id=f"t{n}") for n, (name, at, pnl) in enumerate(rows)]
    accumulator, shuffled = ReportAccumulator(), ReportAccumulator()
    accumulator.add_trades(made)
    chance.shuffle(made)
    shuffled.add_trades(made)
    data = accumulator.finish(ReportMeta())
    assert report_json(shuffled.finish(ReportMeta())) == report_json(data)
    time, curve = data["time"], data["curve_all"]
    assert time is not None and curve is not None
    steps = drawdowns([(at, pnl) for _, at, pnl in rows])
    figures = data["headline"]["figures"]
    assert figures["max_drawdown_bps"] == pytest.approx(max(d for *_, d in steps), abs=1e-3)
    assert figures["pnl_bps"] == pytest.approx(sum(pnl for *_, pnl in rows), abs=1e-3)
    assert figures["wins"] == sum(pnl > 0 for *_, pnl in rows)
    lost = -sum(pnl for *_, pnl in rows if pnl < 0)
    won = sum(pnl for *_, pnl in rows if pnl > 0)
    wanted = None if not lost else pytest.approx(won / lost, abs=1e-4)
    assert figures["profit_factor"] == wanted
    equity = 0.0
    for at in range(time["count"]):
        inside = [(e, d) for when, e, d in steps if bucket(time, when) == at]
        equity = inside[-1][0] if inside else equity
        assert curve["equity_bps"][at] == pytest.approx(equity, abs=0.006)
        if inside:
            assert curve["drawdown_bps"][at] == pytest.approx(max(d for _, d in inside), abs=0.006)
    per_name = {row["instrument"]: row["figures"]["pnl_bps"] for row in data["table"]}
    by_name: dict[str, float] = defaultdict(float)
    for name, _, pnl in rows:
        by_name[name] += pnl
    assert per_name == pytest.approx(by_name, abs=1e-3)


def test_weights_are_means_over_the_epochs_of_a_bucket() -> None:
    accumulator = ReportAccumulator()
    at = START_MS + np.array([1, 2, 3, 4]) * MINUTE_MS
    weights = np.array([[1.0, 0.0], [0.5, 0.5], [np.nan, 0.0], [0.0, 0.0]])
    accumulator.add_weights(
        at, ("EUR_USD", "NZD_USD"), weights, weights * 0.1, np.array([0, 0, 1, 2], np.uint8)
    )
    event: Any = SAMPLES["Weights"]
    accumulator.add_event(event._replace(epoch_ms=START_MS + 600 * MINUTE_MS))
    found = accumulator.finish(ReportMeta())["allocation"]
    assert found is not None
    assert [n for n in found["epochs"] if n] == [2, 2, 1]
    assert [n for n in found["weight"]["EUR_USD"] if n is not None] == [0.75, 0, 1]
    assert [n for n in found["weight"]["NZD_USD"] if n is not None] == [0.25, 0, 0]
    assert [sum(found[k]) for k in ("published", "held", "cleared")] == [3, 1, 1]  # type: ignore[literal-required]


@given(st.lists(st.integers(0, 40 * 365 * 24 * 60), min_size=1, max_size=30), st.integers(1, 5))
@settings(deadline=None, max_examples=60)
def test_cells_keep_every_row_in_bounded_memory(minutes: list[int], block: int) -> None:
    cells, ordered = TimeCells(1, np.int64), TimeCells(1, np.int64)
    for start in range(0, len(minutes), block):
        part = np.sort(np.array(minutes[start : start + block], np.int64)) * MINUTE_MS
        cells.add(part, [np.ones(len(part), np.int64)])
    whole = np.sort(np.array(minutes, np.int64)) * MINUTE_MS
    ordered.add(whole, [np.ones(len(whole), np.int64)])
    # the length of a cell is that of the range, however the rows came in
    assert cells.cell_ms == ordered.cell_ms
    assert len(ordered._table) <= MOST_CELLS
    assert cells.totals()[0] == len(minutes)
    buckets = buckets_for(int(whole[0]), int(whole[-1]), cells.cell_ms)
    assert buckets.count <= MOST_BUCKETS
    wanted = Counter(buckets.index(whole).tolist())
    counted = {at: int(n) for at, n in enumerate(cells.bucketed(buckets)[:, 0]) if n}
    assert counted == dict(wanted)


@pytest.mark.parametrize(
    ("minutes", "bucket_ms"),
    [(1, MINUTE_MS), (500, MINUTE_MS), (501, 2 * MINUTE_MS), (365 * 1440, DAY_MS)],
)
def test_a_bucket_is_the_shortest_that_people_count_in(minutes: int, bucket_ms: int) -> None:
    first = START_MS + MINUTE_MS
    buckets = buckets_for(first, START_MS + minutes * MINUTE_MS)
    assert (buckets.start_ms, buckets.bucket_ms) == (START_MS, bucket_ms)


def test_an_empty_log_gives_a_report_that_says_so() -> None:
    data = no_trades()
    assert data["time"] is None
    page = report_html(data)
    for sentence in ("No trade was closed", "No gate decision", "No epoch was closed"):
        assert sentence in page


def test_every_record_a_report_shows_is_taken_and_others_are_passed_over() -> None:
    accumulator = ReportAccumulator()
    for event in SAMPLES.values():
        accumulator.add_event(event)
    data = accumulator.finish(ReportMeta())
    assert data["trades"]["total"] == 1
    assert data["headline"]["decisions"] == 1
    assert data["headline"]["epochs"] == 1
    assert [one["instrument"] for one in data["summaries"]] == ["EUR_USD"]
    assert data["table"][0]["exposure"] == 0.1
    assert data["header"]["config_ids"] == ["0123456789abcdef"]


def test_the_latest_summary_of_an_instrument_is_shown() -> None:
    accumulator, one = ReportAccumulator(), SAMPLES["Summary"]
    for later, floor_samples in ((60_000, 2), (0, 1), (30_000, 3)):
        accumulator.add_summary(
            one._replace(as_of_ms=one.as_of_ms + later, floor_samples=floor_samples)  # type: ignore[union-attr]
        )
    (shown,) = accumulator.finish(ReportMeta())["summaries"]
    assert shown["floor_samples"] == 2


def test_what_is_not_finite_is_null_or_left_out_and_said() -> None:
    accumulator = ReportAccumulator()
    accumulator.add_trades(
        [
            trade("EUR_USD", START_MS + 60_000, math.nan),
            trade("EUR_USD", START_MS + 60_000, 2.0, mae_bps=math.nan, mfe_bps=math.inf),
        ]
    )
    one: Any = SAMPLES["Summary"]
    accumulator.add_summary(one._replace(slices=(one.slices[0]._replace(sharpe=math.inf),)))
    data = accumulator.finish(ReportMeta())
    text = report_json(data)
    assert json.loads(text, parse_constant=lambda name: pytest.fail(name)) == data
    assert data["trades"]["columns"]["mae_bps"] == [None]
    assert data["summaries"][0]["slices"][0]["sharpe"] is None
    assert data["headline"]["figures"]["pnl_bps"] == 2.0
    assert any("1 trades are omitted" in note for note in data["header"]["notes"])


def test_guards_that_pass_next_to_nothing_are_called_out() -> None:
    accumulator, few = ReportAccumulator(), np.full(1_000, 1 << REASONS.index(SIGNAL_GUARDS[0]))
    few[:19] = 0
    at = START_MS + np.arange(1, 1_001) * MINUTE_MS
    accumulator.add_gates("EUR_USD", at, few == 0, few.astype(np.uint32))
    data = accumulator.finish(ReportMeta(config=Config()))
    assert data["guards"]["together_share"] == 0.019
    assert "manifold calibrate" in str(data["guards"]["sentence"])
    assert "manifold calibrate" in report_html(data)
    hazard = next(r for r in data["guards"]["rows"] if r["guard"] == "hazard_above_max")
    assert hazard["in_use"] is False
    accumulator.add_gates("EUR_USD", at[:2], np.ones(2, bool), np.zeros(2, np.uint32))
    assert accumulator.finish(ReportMeta())["guards"]["sentence"] is None


def test_a_reason_of_another_version_is_counted_as_other() -> None:
    accumulator, event = ReportAccumulator(), SAMPLES["GateDecision"]
    accumulator.add_event(event._replace(reasons=("a_new_one", "session_closed")))  # type: ignore[union-attr]
    (counts,) = accumulator.finish(ReportMeta())["gates"].values()
    assert {reason: sum(column) for reason, column in counts["reasons"].items()} == {
        "session_closed": 1,
        "other": 1,
    }


def test_many_trades_are_listed_in_part_and_that_is_said() -> None:
    accumulator = ReportAccumulator()
    accumulator.add_trades(
        trade("EUR_USD", START_MS + at * 60_000, 500.0 if at == 7 else -400.0 if at == 9 else 1.0)
        for at in range(1, 5_001)
    )
    listed = accumulator.finish(ReportMeta())["trades"]
    assert listed["total"] == 5_000
    assert 3_000 < listed["shown"] == len(listed["columns"]["pnl_bps"]) <= 3_200
    assert "the last 3,000 of 5,000 trades" in listed["sentence"]
    assert {500, -400} <= set(listed["columns"]["pnl_bps"])


def test_hostile_text_stays_text() -> None:
    accumulator, name = ReportAccumulator(), HOSTILE
    accumulator.add_trades(
        [trade(name, START_MS + 60_000, 1.0, exit_reason=HOSTILE, trade_id=HOSTILE,
               params_id=HOSTILE, config_id=HOSTILE, granularity=HOSTILE)]
    )  # fmt: skip
    event: Any = SAMPLES["GateDecision"]
    accumulator.add_event(event._replace(instrument=name, reasons=(HOSTILE,)))
    one: Any = SAMPLES["Summary"]
    accumulator.add_summary(one._replace(instrument=name))
    weights: Any = SAMPLES["Weights"]
    entry = weights.entries[0]._replace(instrument=name)
    accumulator.add_event(weights._replace(entries=(entry,), universe=(name,)))
    meta = ReportMeta(
        title=HOSTILE, source=HOSTILE, engines=(HOSTILE,), params=((HOSTILE, HOSTILE),),
        notes=(HOSTILE,), config=Config(tzdata_version=HOSTILE),
        log=({"topic": HOSTILE, "partition": 0, "start": 0, "end": 1, "records": 1},),
    )  # fmt: skip
    data = accumulator.finish(meta)
    page = report_html(data)
    assert "alert(1)" in page
    assert "<script>alert" not in page
    assert "<img" not in page
    assert page.count("<script") == page.count("</script>") == 2
    (inside,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)
    assert json.loads(inside) == json.loads(report_json(data))
    assert json.loads(inside)["instruments"] == [name]


def test_the_page_asks_for_nothing_and_its_policy_allows_only_its_own_parts() -> None:
    page = report_html(no_trades())
    policy = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)[0]
    assert policy.startswith("default-src 'none'")
    for tag, directive in (("script", "script-src"), ("style", "style-src")):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy
    addresses = re.findall(r"(?:src|href)\s*=\s*[\"']([^\"']*)", page)
    assert all(one.startswith("#") or one == "data:," for one in addresses)
    assert set(re.findall(r"https?://[^\s\"'<]*", page)) == {"http://www.w3.org/2000/svg"}
    assert "style=" not in page


def test_the_same_input_gives_the_same_bytes() -> None:
    def pages() -> tuple[str, str]:
        data = made_year(days=20, pairs=NAMES, trades=50).finish(made_meta())
        return report_html(data), report_json(data)

    assert pages() == pages()


def test_a_year_of_28_instruments_stays_small() -> None:
    data = made_year().finish(made_meta())
    assert data["headline"]["decisions"] == 28 * 365 * 1440
    assert data["trades"]["total"] > 100_000
    page = report_html(data)
    assert len(page.encode()) < 3_000_000
    assert data["time"] is not None and data["time"]["count"] <= MOST_BUCKETS


@pytest.mark.parametrize("stamp", [-1, 1 << 62])
def test_a_stamp_that_is_no_time_is_named(stamp: int) -> None:
    with pytest.raises(Fatal, match=str(stamp)):
        ReportAccumulator().add_gates(
            "EUR_USD", np.array([stamp]), np.array([True]), np.array([0], np.uint32)
        )


def test_shapes_that_differ_are_refused() -> None:
    accumulator, two = ReportAccumulator(), np.array([START_MS, START_MS])
    with pytest.raises(ValueError, match="EUR_USD"):
        accumulator.add_gates("EUR_USD", two, np.array([True]), np.array([0, 0], np.uint32))
    with pytest.raises(ValueError, match="2 epochs of 1"):
        accumulator.add_weights(two, ("A",), np.zeros((2, 2)), np.zeros((2, 2)), np.zeros(2, "u1"))


def test_files_are_written_and_a_place_that_is_none_is_named(
    tmp_path: Any, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    data = no_trades()
    write_report(data, str(tmp_path / "a.html"), "-")
    assert (tmp_path / "a.html").read_text(encoding="utf-8") == report_html(data)
    assert json.loads(capfdbinary.readouterr().out) == data
    with pytest.raises(Fatal, match=r"b\.html"):
        write_report(data, str(tmp_path / "none" / "b.html"), None)
    with pytest.raises(Fatal, match="standard output"):
        write_report(data, "-", "-")
