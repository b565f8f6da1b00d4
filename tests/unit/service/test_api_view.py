"""The last values in memory, and the explanations made of them."""

from __future__ import annotations

import json
from collections import deque
from types import SimpleNamespace
from typing import Any, cast

import pytest

from streams.config.settings import Config
from streams.monitoring.describe import gate_view, order_view
from streams.monitoring.executor_status import (
    NOT_ASKED,
    ExecutorShape,
    ExecutorState,
    parse_executor,
)
from streams.monitoring.view import MAX_ORDERS, LiveView
from streams.monitoring.why import Known, explain, steps, summary
from streams.records.control import ControlLog, UniverseChange
from streams.records.events import Control
from streams.records.kill_switch import KillSwitch
from streams.records.log_record import RecordCoordinates
from streams.service.global_status import trading_shape
from streams.service.live import Live
from streams.service.routes_page import asset
from streams.service.shapes_trading import WhyStep
from streams.trading.kill_switch.reader import KillSwitchState
from streams.trading.operator_commands import InstrumentCommand, instrument_command
from streams.trading.reports import report_words
from tests.support.sample_events import BAR_MS, SAMPLES, TOPIC_OF

OFF = KillSwitchState(False, (), BAR_MS, "ops", "checked", 3, KillSwitch(False, ()), "0")
ON = KillSwitchState(True, ("engaged by ops: storm",), BAR_MS, "ops", "storm", 3, None, "1")
NOW_MS = BAR_MS + 61_000


def place(event: Any, offset: int = 0) -> RecordCoordinates:
    return RecordCoordinates(TOPIC_OF[type(event).__name__], 0, offset)


def view_of(*events: Any) -> LiveView:
    control = ControlLog()
    change = UniverseChange("replace", ("EUR_USD", "NZD_USD"), 0, None)
    config = Control("config", None, Config().to_json(), "environment", "first start", 0)
    control.append(0, config)
    control.append(1, Control("universe", None, change.to_json(), "feed", "start", 0))
    view = LiveView(control)
    for event in events:
        view.apply(place(event), event)
    return view


def moved(event: Any, by_ms: int) -> Any:
    return event._replace(bar_ms=event.bar_ms + by_ms, as_of_ms=event.as_of_ms + by_ms)


def test_a_candle_that_the_stages_refuse_is_no_last_value() -> None:
    event: Any = SAMPLES["Candle"]
    later = moved(event, 60_000)
    view = view_of(event, later._replace(bid=event.ask, ask=event.bid), later._replace(volume=-1))
    assert view.candles["EUR_USD"] == event


def test_a_last_value_never_goes_backwards() -> None:
    for name, kept in (
        ("Candle", "candles"),
        ("Signal", "signals"),
        ("Manifold", "manifolds"),
        ("GateDecision", "decisions"),
        ("Summary", "summaries"),
    ):
        event: Any = SAMPLES[name]
        older, newer = (moved(event, ms) for ms in (-60_000, 60_000))
        view = view_of(event, older)
        assert getattr(view, kept)["EUR_USD"] == event, name
        view.apply(place(newer), newer)
        assert getattr(view, kept)["EUR_USD"] == newer, name


def test_candles_of_another_granularity_are_not_the_ones_that_are_worked_on() -> None:
    event: Any = SAMPLES["Candle"]
    later = event._replace(granularity="H1", as_of_ms=event.as_of_ms + 3_600_000)
    assert view_of(event, later).candles["EUR_USD"] == event


def test_orders_are_bounded_and_carry_what_the_broker_said_last() -> None:
    order: Any = SAMPLES["OrderIntent"]
    report: Any = SAMPLES["BrokerReport"]
    view = view_of()
    for number in range(MAX_ORDERS + 5):
        one = order._replace(order_id=f"o-{number:04}", as_of_ms=order.as_of_ms + number)
        view.apply(place(one), one)
    assert len(view.orders) == MAX_ORDERS
    answered = report._replace(order_id=f"o-{MAX_ORDERS + 4:04}")
    view.apply(place(answered), answered)
    first, said = view.newest_orders(1)[0]
    assert first.order_id == answered.order_id and said == answered
    shown = order_view(first, said)
    assert (shown["status"], shown["price"]) == ("filled", 1.3711)
    assert order_view(first, None)["status"] == "intended"
    assert order_view(first._replace(submitted=False), None)["status"] == "not_sent"


def test_the_universe_is_that_of_the_log() -> None:
    assert view_of().universe == ("EUR_USD", "NZD_USD")
    assert view_of(SAMPLES["Weights"]).universe == ("EUR_USD", "NZD_USD")
    assert LiveView().universe == ()


def test_a_decision_says_in_words_what_would_change_it() -> None:
    decision: Any = SAMPLES["GateDecision"]
    shown = gate_view(decision, Config())
    assert [one["reason"] for one in shown["reasons"]] == list(decision.reasons)
    first = shown["reasons"][0]["text"]
    assert "coherence is 0.5 and must rise to 0.55 (AUTO_MIN_COHERENCE)" in first
    unknown = decision._replace(reasons=("something_new",), details=())
    assert gate_view(unknown, None)["reasons"][0]["text"] == "something_new"


# -- why ---------------------------------------------------------------------------------------


def status(**more: Any) -> ExecutorState:
    shape = {
        "ts_ms": NOW_MS,
        "venue": "paper",
        "account_id": "paper",
        "mode": "paper",
        "read_only": False,
        "dry_run": False,
        "kill_switch": {"engaged": False},
        "reconciled": True,
        "last_cycle_ms": NOW_MS,
        "joined": {"EUR_USD": {"direction": 1, "entry_bar_ms": BAR_MS}},
        "positions": [
            {"instrument": "EUR_USD", "units": 100, "average_price": 1.37, "unrealized_pl": 1}
        ],
        **more,
    }
    return ExecutorState("running", ExecutorShape.model_validate(shape), "at work")


def traded() -> LiveView:
    decision: Any = SAMPLES["GateDecision"]
    order: Any = SAMPLES["OrderIntent"]
    eligible = decision._replace(eligible=True, reasons=(), details=(), position=1, direction=1)
    return view_of(
        *(SAMPLES["Candle"], SAMPLES["Signal"], SAMPLES["Manifold"], eligible, SAMPLES["Weights"]),
        *(order, SAMPLES["BrokerReport"]),
    )


def asked(
    view: LiveView, kill: KillSwitchState = OFF, executor: ExecutorState | None = None
) -> Any:
    # Tuesday 2014-05-13 17:34 UTC: the market is open
    known = Known(view, Config(), kill, executor or status(), NOW_MS)
    found = steps("EUR_USD", known)
    stops = next((one for one in found if one.ok is not True), None)
    return (stops.step if stops else None), found


def test_an_instrument_that_is_traded_stops_nowhere() -> None:
    stops, found = asked(traded())
    assert stops is None, found
    assert summary("EUR_USD", found) == "EUR_USD is traded: every step passes"


def test_a_step_has_its_detail_under_the_former_name_too() -> None:
    known = Known(traded(), Config(), OFF, status(), NOW_MS)
    found = explain("EUR_USD", known).as_dict()["steps"]
    assert [one["words"] for one in found] == [one["detail"] for one in found]
    assert {"detail", "words"} < WhyStep.model_json_schema()["properties"].keys()
    assert [WhyStep.model_validate(one).model_dump() for one in found] == found


@pytest.mark.parametrize(
    ("change", "stops"),
    [
        ({"candles": {}}, "candle"),
        ({"signals": {}}, "signal"),
        ({"decisions": {}}, "gate"),
        ({"epochs": deque()}, "weights"),
        ({"orders": {}}, "order"),
    ],
)
def test_what_is_missing_is_where_it_stops(change: dict[str, Any], stops: str) -> None:
    view = traded()
    for name, value in change.items():
        setattr(view, name, value)
    assert asked(view)[0] == stops


@pytest.mark.parametrize(
    ("more", "stops"),
    [
        ({"read_only": True}, "executor"),
        ({"dry_run": True}, "executor"),
        ({"reconciled": False, "unreconciled": "the venue is away"}, "executor"),
        ({"differences": ["EUR_USD: 100 there, 0 here"]}, "executor"),
        ({"blocked": {"EUR_USD": ["spread: 3.1 bps > 2"]}}, "guards"),
        ({"blocked": {"EUR_USD": ["cannot close: MARKET_HALTED"]}}, "executor"),
        (
            {
                "by_hand": {"EUR_USD": ["the stop"]},
                "differences": ["EUR_USDX: a", "GBP_USD: b"],
                "positions": [],
            },
            "broker",
        ),
        ({"joined": {}}, "run"),
        ({"positions": []}, "broker"),
    ],
)
def test_what_the_executor_has_against_it_is_where_it_stops(
    more: dict[str, Any], stops: str
) -> None:
    found, all_steps = asked(traded(), executor=status(**more))
    assert found == stops
    assert all(one.detail for one in all_steps)


def test_of_two_orders_after_one_decision_the_later_is_the_newer() -> None:
    order: Any = SAMPLES["OrderIntent"]
    later = order._replace(order_id="a", placed_ms=order.placed_ms + 1, sequence=4)
    for pair in ((order, later), (later, order)):
        (newest, _), (oldest, _) = view_of(*pair).newest_orders(2)
        assert (newest, oldest) == (later, order)


def test_a_closing_that_fails_is_no_guard() -> None:
    blocked = {"EUR_USD": ["cannot close: MARKET_HALTED", "refused at 10:00: spread: wide"]}
    _, found = asked(traded(), executor=status(blocked=blocked))
    words = {one.step: one.detail for one in found}
    assert words["guards"] == "refused at 10:00: spread: wide"
    assert words["executor"].endswith("cannot close: MARKET_HALTED")


def test_an_order_beyond_its_price_bound_names_the_setting() -> None:
    view = traded()
    order, report = view.newest_orders(1)[0]
    assert report is not None
    refused = report._replace(status="cancelled", reason="BOUNDS_VIOLATION")
    view.reports[order.order_id] = refused
    _, found = asked(view)
    words = next(one.detail for one in found if one.step == "order")
    assert "BOUNDS_VIOLATION" in words and "MAX_SLIPPAGE_BPS" in words
    assert "MAX_SLIPPAGE_BPS" in report_words(order, refused)


def test_a_refused_decision_is_said_and_stops_it_when_it_is_the_newest() -> None:
    view = traded()
    newest_ms = view.decisions["EUR_USD"].as_of_ms
    refused = {
        "topic": "opt.gates", "partition": 0, "offset": 7, "instrument": "EUR_USD",
        "as_of_ms": newest_ms, "reason": "source_not_committed", "detail": "why", "at_ms": NOW_MS,
    }  # fmt: skip
    stops, found = asked(view, executor=status(refused_decisions=[refused]))
    step = next(one for one in found if one.step == "gate")
    assert stops == "gate" and "manifold verify" in step.change
    assert "opt.gates-0-7 is refused: source_not_committed (why)" in step.detail
    older = refused | {"as_of_ms": newest_ms - 60_000}
    stops, found = asked(view, executor=status(refused_decisions=[older]))
    assert stops is None
    assert "source_not_committed" in next(one.detail for one in found if one.step == "gate")
    other = refused | {"instrument": "GBP_USD"}
    stops, found = asked(view, executor=status(refused_decisions=[other]))
    assert stops is None and "is refused" not in str(found)


def test_an_operators_pause_stops_it_and_what_was_done_by_hand_is_said() -> None:
    view, by_hand = traded(), status(by_hand={"EUR_USD": ["the stop was moved"]})

    def say(kind: InstrumentCommand, account_id: str) -> None:
        command = instrument_command(kind, "EUR_USD", account_id, "ann", "storm", NOW_MS)
        view.control.append(view.control.end, command)

    say("pause", "other")
    assert asked(view)[0] is None
    say("pause", "paper")
    stops, found = asked(view, executor=by_hand)
    step = next(one for one in found if one.step == "operator")
    assert stops == "operator" and "by ann: storm" in step.detail
    assert step.change == "manifold resume EUR_USD --reason TEXT"
    waits = status(waiting={"EUR_USD": ["close of 10:00 UTC by ann: enough: not carried out yet"]})
    stops, found = asked(view, executor=waits)
    words = next(one.detail for one in found if one.step == "operator")
    assert "by ann: storm" in words and "by ann: enough: not carried out yet" in words
    say("resume", "paper")
    assert asked(view, executor=waits)[0] == "operator"
    stops, found = asked(view, executor=by_hand)
    assert stops is None
    assert next(o.detail for o in found if o.step == "operator") == "not paused; the stop was moved"


def test_the_kill_switch_and_an_absent_executor_stop_it() -> None:
    stops, found = asked(traded(), kill=ON)
    assert stops == "kill_switch"
    assert "storm" in next(one.detail for one in found if one.step == "kill_switch")
    stops, found = asked(traded(), executor=NOT_ASKED)
    assert stops == "run", "whether the run was joined is not known"
    assert {one.step for one in found if one.ok is None} >= {"run", "guards", "broker"}


def test_an_ineligible_instrument_says_every_reason_and_when_it_can_change() -> None:
    view = traded()
    decision: Any = SAMPLES["GateDecision"]
    view.decisions["EUR_USD"] = decision._replace(as_of_ms=NOW_MS)
    _, found = asked(view)
    gate = next(one for one in found if one.step == "gate")
    assert gate.ok is False
    assert "coherence" in gate.detail and "session" in gate.detail
    assert "not before" in gate.change


# -- the executor's words ------------------------------------------------------------------------


def answer(**more: Any) -> bytes:
    found = status().status
    assert found is not None
    return json.dumps(found.model_dump() | more).encode()


def test_an_executor_that_answers_as_agreed_is_running() -> None:
    found = parse_executor(answer(), NOW_MS + 1000, 60_000)
    assert (found.state, found.status is not None) == ("running", True)
    assert parse_executor(answer(), NOW_MS - 1000, 60_000).detail.endswith("was 0 s ago")
    assert parse_executor(answer(last_cycle_ms=0), NOW_MS, 60_000).state == "running"
    assert parse_executor(answer(something_new=1), NOW_MS, 60_000).state == "running"


def test_whatever_the_executor_reports_the_service_shows_what_it_documents() -> None:
    more = {"reading": "slow", "cannot_close": {"EUR_USD": "halted"}, "untraded": {"X_Y": "why"}}
    found = parse_executor(answer(**more), NOW_MS, 60_000)
    live = SimpleNamespace(facts=SimpleNamespace(executor=found))
    shown = trading_shape(cast(Live, live))
    assert shown.executor == "running" and shown.account == found.status.account


def test_one_that_did_nothing_for_long_is_stale() -> None:
    assert parse_executor(answer(), NOW_MS + 60_001, 60_000).state == "stale"
    # one that lies in the future may be of an executor that ended long ago
    assert "the clocks differ" in parse_executor(answer(), NOW_MS - 7_200_000, 60_000).detail
    assert parse_executor(answer(), NOW_MS - 7_200_000, 60_000).state == "stale"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"not json",
        b"{}",
        answer(positions=[{"instrument": "EUR_USD", "units": 1e999}]).replace(b"1e999", b"NaN"),
        answer().replace(b"100.0", b"NaN"),
        answer().replace(b"100.0", b"Infinity"),
        answer(account={"currency": "USD", "balance": "much"}),
    ],
)
def test_one_that_says_something_else_is_stale_and_nothing_of_it_is_taken(text: bytes) -> None:
    found = parse_executor(text, NOW_MS, 60_000)
    assert (found.state, found.status) == ("stale", None)
    assert found.detail


# -- files of the page ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["../settings.py", "..", ".", "", "settings.py", "a/b.js", "..\\x.js", ".hidden.js", "none.js"],
)
def test_no_other_file_than_the_pages_is_served(name: str) -> None:
    assert asset(name) is None


def test_the_page_is_served_with_its_type() -> None:
    found = asset("index.html")
    assert found is not None and found.type.startswith("text/html")
