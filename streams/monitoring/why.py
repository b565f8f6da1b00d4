"""Explains why an instrument is or is not traded: every step from its candle to the broker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from streams.candles.calendar import calendar_of
from streams.candles.market_clock import market_at, open_ms_between
from streams.config.settings import Config
from streams.instants import clock
from streams.monitoring.describe import commands_waiting, reason_text
from streams.monitoring.executor_status import ExecutorState
from streams.monitoring.refused_decisions import refused_words
from streams.monitoring.verdict import span
from streams.monitoring.view import MAX_ORDERS, LiveView
from streams.records.events import GateDecision, ReasonDetail
from streams.records.trading_events import BrokerReport, OrderIntent
from streams.trading.bracket_changes import KIND as BRACKETS
from streams.trading.brokers.price_bounds import reason_words
from streams.trading.closing_pauses import CANNOT_CLOSE
from streams.trading.holdings import Holding
from streams.trading.kill_switch.reader import KillSwitchState
from streams.trading.operator_commands import accounts_of, commands_of
from streams.trading.reports import accepted, status_word

WARM_UP_CANDLES = 129
WAYS = {1: "long", -1: "short", 0: "flat"}


class StepResult(NamedTuple):
    """One step of the explanation.

    Attributes
    ----------
    ok
        Whether the instrument passes this step; None when unknown.
    detail
        What was found.
    change
        What must change for the step to pass; empty when it passes.
    """

    step: str
    ok: bool | None
    detail: str
    change: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON; ``words`` is the former name of ``detail``, for one release."""
        return self._asdict() | {"words": self.detail}


class Known(NamedTuple):
    """The input of the steps, all as of ``now_ms``.

    Attributes
    ----------
    past
        Whether ``now_ms`` is in the past: then only the log is known, not the executor or Valkey.
    held
        Account -> the executor's position in the instrument according to the log; None if not read.
    """

    view: LiveView
    config: Config
    kill_switch: KillSwitchState
    executor: ExecutorState
    now_ms: int
    past: bool = False
    held: Mapping[str, Holding] | None = None


class Explanation(NamedTuple):
    """The explanation, as returned by ``manifold why`` and ``GET /api/why``.

    Attributes
    ----------
    ts_ms
        The explained instant, epoch ms.
    stops_at
        The first step that the instrument does not pass, or may not pass.
    summary
        The answer in one sentence.
    """

    instrument: str
    ts_ms: int
    trading: bool
    stops_at: str | None
    summary: str
    steps: list[StepResult]

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return self._asdict() | {"steps": [step.as_dict() for step in self.steps]}


def explain(name: str, known: Known) -> Explanation:
    """Return why an instrument is or is not traded."""
    found = steps(name, known)
    stop = next((one.step for one in found if one.ok is not True), None)
    return Explanation(name, known.now_ms, stop is None, stop, summary(name, found), found)


def steps(name: str, known: Known) -> list[StepResult]:
    """Return all steps, from the candle to the broker, also after one that does not pass."""
    return [
        _universe(name, known),
        _market(name, known),
        _candle(name, known),
        _signal(name, known),
        _with_refused(name, known, _gate(name, known)),
        _weights(name, known),
        _run(name, known),
        _kill_switch(known),
        _operator(name, known),
        *_executor(name, known),
        _order(name, known),
        _broker(name, known),
    ]


def summary(name: str, found: list[StepResult]) -> str:
    """Return the answer in one sentence."""
    first = next((one for one in found if one.ok is not True), None)
    if first is None:
        return f"{name} is traded: every step passes"
    verb = "stops" if first.ok is False else "may stop"
    change = f"; {first.change}" if first.change else ""
    return f"{name} {verb} at {first.step}: {first.detail}{change}"


def _universe(name: str, known: Known) -> StepResult:
    if name in known.view.universe:
        return StepResult("universe", True, "a feed has declared it")
    return StepResult(
        "universe",
        False,
        "no feed declares it",
        "add it to HOTBAND_PAIRS and restart the feed",
    )


def _market(name: str, known: Known) -> StepResult:
    market = market_at(calendar_of(known.config), known.now_ms, name)
    if market.next_change_ms is None:
        return StepResult("market", True, "synthetic market: open at all times")
    until = clock(market.next_change_ms)
    if market.open:
        return StepResult("market", True, f"open until {until} UTC")
    return StepResult("market", False, f"closed ({market.closed_for})", f"it opens at {until} UTC")


def _candle(name: str, known: Known) -> StepResult:
    candle = known.view.candles.get(name)
    if candle is None:
        return StepResult("candle", False, "no candle in the log", "start a feed, or load files")
    age_ms = open_ms_between(calendar_of(known.config), candle.as_of_ms, known.now_ms, name)
    most_ms = 2 * known.config.granularity_ms + 30_000
    words = f"the last bar ended {clock(candle.as_of_ms)} UTC, {span(age_ms)} ago in open markets"
    if age_ms > most_ms:
        return StepResult(
            "candle", False, words, f"check the feed: a bar is due every {span(most_ms)}"
        )
    return StepResult("candle", True, words)


def _signal(name: str, known: Known) -> StepResult:
    signal, candle = known.view.signals.get(name), known.view.candles.get(name)
    if signal is None:
        return StepResult(
            "signal",
            False,
            "no signal yet",
            f"it needs {WARM_UP_CANDLES} candles, and a running worker",
        )
    words = (
        f"of the bar that ended {clock(signal.as_of_ms)} UTC: coherence {signal.coherence:.3f}, "
        f"stability {signal.stability:.3f}, entropy {signal.entropy:.3f}, rupture "
        f"{signal.rupture:.3f}, seen {signal.count_1h} times in the hour"
    )
    behind_ms = (candle.as_of_ms if candle else signal.as_of_ms) - signal.as_of_ms
    if behind_ms > known.config.granularity_ms:
        return StepResult(
            "signal", False, f"{words}; {span(behind_ms)} behind the candles", "check the worker"
        )
    return StepResult("signal", True, words)


def _gate(name: str, known: Known) -> StepResult:
    decision = known.view.decisions.get(name)
    if decision is None:
        return StepResult(
            "gate", False, "no decision yet", "check the worker: it decides at every bar"
        )
    at = f"decided for the bar that ended {clock(decision.as_of_ms)} UTC ({decision.mode})"
    if decision.eligible:
        return StepResult("gate", True, f"eligible, {at}")
    config = known.view.state.config_of(name)
    reasons = [reason_text(detail, decision, config) for detail in _details(decision)]
    change = "every reason must clear"
    if decision.next_change_ms is not None:
        change += f"; by the passage of time not before {clock(decision.next_change_ms)} UTC"
    return StepResult("gate", False, f"not eligible, {at}: {'; '.join(reasons)}", change)


def _with_refused(name: str, known: Known, gate: StepResult) -> StepResult:
    """Add to the gate's step which of its decisions the executor does not act on."""
    said, change = refused_words(name, known.executor.status, known.view.decisions.get(name))
    gate = gate._replace(ok=False, change=change) if change else gate
    return gate._replace(detail=gate.detail + said)


def _details(decision: GateDecision) -> Iterator[ReasonDetail]:
    found = {detail.reason: detail for detail in decision.details}
    for reason in decision.reasons:
        yield found.get(reason, ReasonDetail(reason, None, None, None))


def _weights(name: str, known: Known) -> StepResult:
    weights = known.view.weights
    if weights is None:
        return StepResult("weights", False, "no epoch has been closed yet", "check the worker")
    at = f"epoch {clock(weights.epoch_ms)} UTC ({weights.action})"
    for entry in weights.entries:
        if entry.instrument == name:
            share = f"{entry.target_exposure_pct:.1%} of the account"
            return StepResult("weights", True, f"weight {entry.weight:.3f}, {share}, {at}")
    gate = next((one for one in weights.gates if one.instrument == name), None)
    if gate is None:
        return StepResult(
            "weights", False, f"not in the universe of the {at}", "the universe must contain it"
        )
    if gate.cooldown:
        return StepResult("weights", False, f"cooling down at the {at}", "the cooldown must end")
    if gate.eligible:
        words = f"eligible, but not among the best {weights.top_k}, {at}"
        return StepResult("weights", False, words, "a better score, or a larger ALLOC_TOP_K")
    return StepResult(
        "weights", False, f"not eligible at the {at}", "the gate must become eligible"
    )


def _run(name: str, known: Known) -> StepResult:
    decision = known.view.decisions.get(name)
    if decision is None:
        return StepResult("run", None, "the backtest run is not known yet")
    way = WAYS[decision.position]
    if decision.position == 0:
        return StepResult(
            "run",
            False,
            f"the backtest run is flat (its signal: {WAYS[decision.direction]})",
            "the run must enter: only its own entries are joined",
        )
    status = known.executor.status
    if status is None and known.held is None:
        return StepResult(
            "run", None, f"the backtest run is {way}; no executor reports whether it has joined"
        )
    joined = status.joined.get(name) if status else next(iter((known.held or {}).values()), None)
    if joined is None:
        words = (
            f"the backtest run is {way}, without an open position: it was not joined at its "
            "entry, or the position is closed"
        )
        return StepResult("run", False, words, "a run is joined only at its entry: the next one")
    if joined.by_operator:
        words = f"the backtest run is {way}; the open position is from an operator's order"
        return StepResult(
            "run", False, words, "manifold close, or the position's stop loss or take profit"
        )
    words = f"{way}, joined, entry bar {clock(joined.entry_bar_ms)} UTC"
    return StepResult("run", True, words)


def _kill_switch(known: Known) -> StepResult:
    state = known.kill_switch
    if not state.engaged:
        alone = "; what its key in Valkey held then is not recorded" if known.past else ""
        return StepResult("kill_switch", True, f"off, by {state.actor}: {state.reason}{alone}")
    return StepResult(
        "kill_switch",
        False,
        f"engaged: {'; '.join(state.why)}",
        "manifold kill off --reason, when all of that is resolved",
    )


def _operator(name: str, known: Known) -> StepResult:
    """Return the operators' commands and manual changes for the instrument."""
    status, records = known.executor.status, known.view.control.records
    accounts = [status.account_id] if status else sorted(known.held or {}) or accounts_of(records)
    waiting = (
        status.waiting.get(name, []) if status else commands_waiting(name, records, known.held)
    )
    change = "an executor must carry it out" if waiting else ""
    found = [commands_of(records, account_id).paused.get(name) for account_id in accounts]
    paused = next((one for one in found if one is not None), None)
    if paused is not None:
        waiting = [f"paused since {clock(paused.at_ms)} UTC {paused.words}", *waiting]
        change = f"manifold resume {name} --reason TEXT"
    if waiting:
        return StepResult("operator", False, "; ".join(waiting), change)
    by_hand = status.by_hand.get(name, []) if status else []
    return StepResult("operator", True, "; ".join(["not paused", *by_hand]))


def _executor(name: str, known: Known) -> Iterator[StepResult]:
    if known.past:
        yield StepResult("executor", None, "the executor's state at that time is not recorded")
        yield _guards_of_order(name, known)
        return
    executor, status = known.executor, known.executor.status
    if status is None:
        absent = executor.state == "absent"
        yield StepResult("executor", False, executor.detail, "" if absent else "check its output")
        yield StepResult("guards", None, "no executor has evaluated it")
        return
    held_back = status.blocked.get(name, [])
    against = [
        *(["READ_ONLY is set"] if status.read_only else []),
        *(["DRY_RUN_TRADES is set: nothing is sent"] if status.dry_run else []),
        *([] if status.reconciled else [status.unreconciled or "it is not reconciled"]),
        *(one for one in held_back if one.startswith(CANNOT_CLOSE)),
        *(f"difference to the broker: {one}" for one in status.differences if _about(one, name)),
    ]
    words = f"{executor.detail}; {status.venue}, {status.mode}"
    if executor.state != "running" or against:
        yield StepResult("executor", False, "; ".join([words, *against]), "see manifold trade")
    else:
        yield StepResult("executor", True, words)
    blocked = [one for one in held_back if not one.startswith(CANNOT_CLOSE)]
    if blocked:
        yield StepResult("guards", False, "; ".join(blocked), "every guard must pass")
    else:
        yield StepResult("guards", True, "no guard has refused its newest order")


def _about(difference: str, name: str) -> bool:
    """Return whether a difference is about the instrument: its text then begins with the name."""
    return difference.startswith(f"{name}:")


def _guards_of_order(name: str, known: Known) -> StepResult:
    newest = _newest_order(name, known)
    if newest is None:
        return StepResult("guards", None, "no order was evaluated")
    failed = [f"{g.guard}: {g.detail}" for g in newest[0].guards if not g.passed]
    if failed:
        return StepResult("guards", False, "; ".join(failed), "every guard must pass")
    return StepResult("guards", True, "every guard passed its last order")


def _newest_order(name: str, known: Known) -> tuple[OrderIntent, BrokerReport | None] | None:
    newest = known.view.newest_orders(MAX_ORDERS)
    return next((p for p in newest if p[0].instrument == name and p[0].kind != BRACKETS), None)


def _order(name: str, known: Known) -> StepResult:
    newest = _newest_order(name, known)
    if newest is None:
        return StepResult("order", None, "no order yet")
    order, report = newest
    said = f"{order.kind}, {order.side} {order.units:g}, {clock(order.as_of_ms)} UTC"
    if report is None:
        if order.submitted:
            return StepResult("order", None, f"{said}: sent, the broker has not answered yet")
        failed = [f"{g.guard}: {g.detail}" for g in order.guards if not g.passed]
        return StepResult(
            "order", False, f"{said}: not sent ({'; '.join(failed) or 'no reason given'})"
        )
    words = f"{said}: {status_word(report)}" + (
        f" ({reason_words(report.reason)})" if report.reason else ""
    )
    answered = None if accepted(report) else report.status == "filled"
    return StepResult("order", answered, words)


def _broker(name: str, known: Known) -> StepResult:
    status = known.executor.status
    if status is None and known.held is not None:
        return _held(known.held)
    if status is None:
        return StepResult("broker", None, "the position is not known: no executor reports it")
    held = next((one for one in status.positions if one.instrument == name), None)
    if held is None or held.units == 0:
        return StepResult("broker", False, "no open position", "an order must be filled")
    return StepResult("broker", True, f"{held.units:g} units open")


def _held(held: Mapping[str, Holding]) -> StepResult:
    """Return the executor's position according to the log."""
    if not held:
        return StepResult(
            "broker", False, "no open position according to the log", "an order must be filled"
        )
    said = (f"{one.signed_units:f} units in account {name}" for name, one in sorted(held.items()))
    return StepResult("broker", True, f"{'; '.join(said)}, according to the log")
