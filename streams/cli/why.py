"""``manifold why``."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import click

from streams.clocks.check import warn_of_clock
from streams.control_log import read_control
from streams.errors import Fatal
from streams.events import GateDecision, ReasonDetail
from streams.instants import clock, instant_ms
from streams.instruments import instrument_name
from streams.registry import open_codec
from streams.settings import Config, Runtime
from streams.stages.limits import guard_lines
from streams.status import Explanation, explain


@click.command()
@click.argument("instrument")
@click.option("--at", help="As of this time instead of now (UTC), such as 2014-05-02T10:00.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def why(instrument: str, at: str | None, as_json: bool) -> None:
    """Explain the gate decision of INSTRUMENT: from its last candle to its weight.

    \b
    Examples:
      manifold why EUR_USD
      manifold why EUR_USD --at 2014-05-02T10:00 --json
    """
    runtime = Runtime.from_env()
    at_ms = None if at is None else instant_ms("--at", at)
    warn_of_clock(runtime)
    codec = asyncio.run(open_codec(runtime))
    name = instrument_name(instrument)
    found = explain(runtime, codec, name, at_ms)
    if found.candle is None and found.decision is None:
        known = ", ".join(found.known) or "none yet"
        raise Fatal(f"the log holds nothing of {name}; instruments there: {known}")
    offset = found.decision.control_offset if found.decision else 0
    config = read_control(runtime, codec).state(offset).config_of(name)
    if as_json:
        click.echo(json.dumps(_as_dict(found, config)))
    else:
        for line in _lines(found, config):
            click.echo(line)


def _place(found: Explanation) -> str:
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
        return f"no weight: eligible, but behind the best {weights.top_k}"
    return "no weight: not eligible at the latest epoch"


def _as_dict(found: Explanation, config: Config | None) -> dict[str, Any]:
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


def _lines(found: Explanation, config: Config | None) -> list[str]:
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
    way = {1: "long", -1: "short", 0: "flat"}
    lines.append(f"  backtest run  {way[decision.position]}, params {decision.params_id or '-'}")
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
        parts.append(f"wanted {detail.limit:.4f}")
    if detail.next_change_ms is not None:
        parts.append(f"may change {clock(detail.next_change_ms)}")
    return " ".join(parts).rstrip()
