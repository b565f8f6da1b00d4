"""``manifold why``."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any, NamedTuple

import click

from streams.cli.output import echo, echo_line
from streams.config.kill_switch import KillSwitchSettings
from streams.config.runtime import Runtime
from streams.config.service import Service
from streams.config.settings import Config
from streams.config.trading import Trading
from streams.errors import Fatal
from streams.instants import clock, instant_ms
from streams.instruments import instrument_name
from streams.kafka.control_topic import read_control
from streams.kafka.registry import open_codec
from streams.monitoring.clock_check import warn_of_clock
from streams.monitoring.executor_status import ask_once
from streams.monitoring.view_at import Read, known_in_the_past, known_now, read_instrument
from streams.monitoring.why import WAYS, Known, StepResult, explain
from streams.pipeline.limits import guard_lines
from streams.records.codec import Codec
from streams.records.events import Candle, GateDecision, ReasonDetail, Signal, Weights
from streams.trading.kill_switch.commands import READ_S
from streams.trading.kill_switch.reader import KillSwitchReader


@click.command()
@click.argument("instrument")
@click.option(
    "--at", help="Explain as of this time (UTC), such as 2014-05-02T10:00.  [default: now]"
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def why(instrument: str, at: str | None, as_json: bool) -> None:
    """Explain why INSTRUMENT is, or is not, traded: from its last candle to the broker.

    The same steps as GET /api/why: universe, market, candle, signal, gate, weights, run, kill
    switch, operator commands, executor, guards, order, position. With --at every step is as of that
    time in the log; the state of executor and Valkey is known only for the present.

    \b
    Examples:
      manifold why EUR_USD
      manifold why EUR_USD --at 2014-05-02T10:00 --json
    """
    runtime = Runtime.from_env()
    at_ms = None if at is None else past_ms(at, int(time.time() * 1000))
    warn_of_clock(runtime)
    codec = asyncio.run(open_codec(runtime))
    name = instrument_name(instrument)
    read = read_instrument(runtime, codec, name, at_ms)
    view = read.view
    found = LatestRecords(
        name, view.candles.get(name), view.signals.get(name), view.decisions.get(name), view.weights
    )
    if found.candle is None and found.decision is None:
        known = ", ".join(view.universe) or "none yet"
        raise Fatal(f"the log holds nothing of {name}; instruments there: {known}")
    offset = found.decision.control_offset if found.decision else 0
    config = read_control(runtime, codec).state(offset).config_of(name)
    explained = explain(name, _known(runtime, codec, read, at_ms))
    if as_json:
        echo(json.dumps(_as_dict(found, config) | explained.as_dict()))
        return
    for line in (*_lines(found, config), "", *_step_lines(explained.steps), explained.summary):
        echo_line(line)


def past_ms(text: str, now_ms: int) -> int:
    """Parse the instant of ``--at``.

    Raises
    ------
    Fatal
        It is not a time, or lies in the future.
    """
    at_ms = instant_ms("--at", text)
    if at_ms > now_ms:
        raise Fatal(f"--at {text} is in the future: it is {clock(now_ms)} UTC now")
    return at_ms


class LatestRecords(NamedTuple):
    """The records of one instrument from its last candle to its weight."""

    instrument: str
    candle: Candle | None
    signal: Signal | None
    decision: GateDecision | None
    weights: Weights | None


def _known(runtime: Runtime, codec: Codec, read: Read, at_ms: int | None) -> Known:
    config = Config.from_env()
    if at_ms is not None:
        return known_in_the_past(read, config, at_ms)
    now_ms = int(time.time() * 1000)
    kill_switch = KillSwitchReader(runtime, codec, KillSwitchSettings.from_env(), READ_S)
    try:
        state = kill_switch.read()
    finally:
        kill_switch.close()
    stale_ms = int(1000 * Trading.from_env().cycle_patience_s)
    executor = asyncio.run(ask_once(Service.from_env().trade_status_url, now_ms, stale_ms))
    return known_now(read, config, state, executor, now_ms)


def _step_lines(taken: list[StepResult]) -> list[str]:
    marks = {True: "ok  ", False: "FAIL", None: "?   "}
    return [
        f"  {marks[step.ok]} {step.step:<12} {step.detail}"
        + (f"; to change it: {step.change}" if step.change else "")
        for step in taken
    ]


def _place(found: LatestRecords) -> str:
    weights = found.weights
    if weights is None:
        return "no weights yet"
    for entry in weights.entries:
        if entry.instrument == found.instrument:
            return (
                f"weight {entry.weight:.3f}, {entry.target_exposure_pct:.1%} of the account "
                f"({weights.action})"
            )
    if found.instrument not in weights.universe:
        return "not in the universe of the latest epoch"
    gate = next((g for g in weights.gates if g.instrument == found.instrument), None)
    if gate is not None and gate.eligible:
        return f"no weight: eligible, but not among the best {weights.top_k}"
    return "no weight: not eligible at the latest epoch"


def _as_dict(found: LatestRecords, config: Config | None) -> dict[str, Any]:
    decision = found.decision
    lines = guard_lines(decision, config) if decision and config else []
    return {
        "instrument": found.instrument,
        "candle_bar_ms": found.candle.bar_ms if found.candle else None,
        "signal_bar_ms": found.signal.bar_ms if found.signal else None,
        "decision": None
        if decision is None
        else {
            "as_of_ms": decision.as_of_ms,
            "eligible": decision.eligible,
            "reasons": list(decision.reasons),
            "next_change_ms": decision.next_change_ms,
            "session_open": decision.session_open,
            "near_close": decision.near_close,
            "no_candle": decision.no_candle,
            "score": decision.score,
            "config_id": decision.config_id,
            "params_id": decision.params_id,
            "mode": decision.mode,
            "direction": decision.direction,
            "position": decision.position,
            "evaluation": decision.evaluation and decision.evaluation._asdict(),
            "floors": decision.floors and decision.floors._asdict(),
            "buffer": decision.buffer,
            "passes": decision.passes,
            "fails": decision.fails,
            "misses": decision.misses,
            "cooldown_until_ms": decision.cooldown_until_ms,
            "details": [detail._asdict() for detail in decision.details],
        },
        "guards": [line._asdict() for line in lines],
        "weights": _place(found),
    }


def _lines(found: LatestRecords, config: Config | None) -> list[str]:
    decision, candle = found.decision, found.candle
    lines = [f"{found.instrument}"]
    lines.append(f"  last candle   bar {clock(candle.bar_ms)}" if candle else "  no candle yet")
    if decision is None:
        return [*lines, "  no decision yet: the gates stage decides from the first watermark on"]
    verdict = "eligible" if decision.eligible else "not eligible"
    lines.append(f"  decision      {verdict} as of {clock(decision.as_of_ms)} ({decision.mode})")
    if decision.no_candle:
        lines.append("                no candle for this bar: the last signal's verdict holds")
    for guard in guard_lines(decision, config) if config else []:
        mark = "ok  " if guard.passes else "FAIL"
        lines.append(
            f"  {mark} {guard.guard:<22} {guard.value:8.4f} {guard.relation} "
            f"{guard.limit:.4f}  {guard.setting}"
        )
    named = {guard.guard for guard in (guard_lines(decision, config) if config else [])}
    lines += _backtest(decision)
    lines += [_failing(detail) for detail in decision.details if detail.reason not in named]
    session = "open" if decision.session_open else "closed"
    near = ", near its close" if decision.near_close else ""
    lines.append(f"  session       {session}{near}")
    lines.append(f"  backtest run  {WAYS[decision.position]}, params {decision.params_id or '-'}")
    if decision.next_change_ms:
        lines.append(f"  next change   {clock(decision.next_change_ms)} at the earliest, by time")
    if decision.score is not None:
        lines.append(f"  score         {decision.score:.4f}")
    return [*lines, f"  weights       {_place(found)}"]


def _backtest(decision: GateDecision) -> list[str]:
    found, floors = decision.evaluation, decision.floors
    if found is None or floors is None:
        return []
    calmar = "none" if found.calmar is None else f"{found.calmar:.4f}"
    return [
        f"  backtest      as of {clock(found.as_of_ms)}: {found.trades} trades (floor "
        f"{floors.min_trades:g}), calmar {calmar} ({floors.calmar_min:.4f}), P&L "
        f"{found.pnl_total:.5f} ({floors.pnl_min:.5f}), buffer {decision.buffer:g}",
        f"  in a row      {decision.passes} passes, {decision.fails} fails, "
        f"{decision.misses} misses",
    ]


def _failing(detail: ReasonDetail) -> str:
    parts = [f"  FAIL {detail.reason:<22}"]
    if detail.value is not None:
        parts.append(f"{detail.value:8.4f}")
    if detail.limit is not None:
        parts.append(f"required {detail.limit:.4f}")
    if detail.next_change_ms is not None:
        parts.append(f"may change {clock(detail.next_change_ms)}")
    return " ".join(parts).rstrip()
