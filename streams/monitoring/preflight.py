"""The operator's checklist before the market opens (docs/spec/trading-loop.md 8.1). Pure."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Final, NamedTuple

from streams.candles.market_clock import open_ms_between
from streams.candles.sessions import session_state
from streams.config.settings import Config
from streams.monitoring.alert_rules_stream import REBUILD, missing_manifolds
from streams.monitoring.alert_rules_trading import margin_share
from streams.monitoring.facts import EpochFacts, LiveFacts, LogFacts
from streams.monitoring.verdict import (
    SECOND_MS,
    FailureSignal,
    Judged,
    Limits,
    State,
    rule_input,
    several,
    span,
)

LAST_EPOCHS: Final = 5


class Check(NamedTuple):
    """One line of the checklist; states and fields as in ``FailureSignal``."""

    name: str
    state: State
    detail: str
    action: str = ""


def preflight(
    facts: LiveFacts, now_ms: int, config: Config, limits: Limits | None = None
) -> tuple[Check, ...]:
    """Return the checklist, in the order in which an operator works through it.

    Everything is ready when no check is ``fail``, ``warn`` or ``unknown``.

    Parameters
    ----------
    facts, now_ms, config, limits
        As in ``judge``.
    """
    at = rule_input(facts, now_ms, config, Limits() if limits is None else limits)
    return tuple(check(at) for check in _CHECKS)


def ready(checks: tuple[Check, ...]) -> bool:
    """Return whether the checklist is passed; an empty one is not."""
    return bool(checks) and all(check.state in ("ok", "quiet") for check in checks)


def _kill_switch(at: Judged) -> Check:
    kill = at.facts.kill_switch
    if kill is None:
        return _unjudged(at.unjudged("kill_switch", "kill_switch"))
    # engaged is correct until the rest of the list is passed
    said = f"engaged: {several(list(kill.why))}" if kill.engaged else "off: orders can be sent"
    if kill.engaged and kill.logged is False:
        action = "start manifold serve, which holds its lease"
        return Check("kill_switch", "fail", f"{said}, although the log says off", action)
    return Check("kill_switch", "ok", said)


def _mode(at: Judged) -> Check:
    found = at.facts.executor
    if found is None:
        return _unjudged(at.unjudged("mode", "executor"))
    flags = ["READ_ONLY"] * found.read_only + ["DRY_RUN_TRADES"] * found.dry_run
    said = found.mode + (f", {' and '.join(flags)} set: no order is sent" if flags else "")
    if found.trouble or not found.reconciled:
        detail = found.trouble or "not reconciled with the broker"
        return Check("mode", "fail", f"{said}; {detail}", "no position is opened until it is")
    if found.differences:
        detail = f"differences to the broker: {several(list(found.differences))}"
        return Check("mode", "warn", f"{said}; {detail}", "see the executor's /status")
    return Check("mode", "ok", said)


def _manifolds(at: Judged) -> Check:
    if at.facts.valkey is None:
        return _unjudged(at.unjudged("manifold_age", "valkey"))
    if not at.market.open:
        return _unjudged(at.closed("manifold_age"))
    wrong = missing_manifolds(at, at.facts.valkey)
    if wrong:
        return Check("manifold_age", "fail", several(wrong), REBUILD)
    found = at.facts.valkey.manifolds
    last = {p: found[p].as_of_ms if p in found else None for p in at.facts.pairs}
    return _young(at, "manifold_age", "ws:last:manifold", last)


def _signals(at: Judged) -> Check:
    if at.facts.valkey is None:
        return _unjudged(at.unjudged("signal_age", "valkey"))
    if not at.market.open:
        return _unjudged(at.closed("signal_age"))
    last = {pair: at.facts.valkey.signals.get(pair) for pair in at.facts.pairs}
    return _young(at, "signal_age", "sep:signal_index", last)


def _young(at: Judged, name: str, what: str, last: dict[str, int | None]) -> Check:
    most_ms = at.fresh_ms
    ages = {p: None if ms is None else at.age_ms(ms, p) for p, ms in last.items()}
    old = [
        f"{pair} {'has none' if age is None else span(age)}"
        for pair, age in ages.items()
        if age is None or age > most_ms
    ]
    if not ages:
        return Check(name, "unknown", "no pairs are configured", "set HOTBAND_PAIRS")
    if old:
        detail = f"{what} older than {span(most_ms)}: {several(old)}"
        return Check(name, "fail", detail, "see candle_stale and stage_lag; manifold warmup")
    oldest = max(age for age in ages.values() if age is not None)
    return Check(name, "ok", f"{what} of {len(ages)} pairs, the oldest {span(oldest)} old")


def _blob(at: Judged) -> Check:
    if at.facts.valkey is None:
        return _unjudged(at.unjudged("gates_blob", "valkey"))
    if not at.market.open:
        return _unjudged(at.closed("gates_blob"))
    if at.facts.valkey.blob_ms is None:
        return Check("gates_blob", "fail", "absent", "check the worker and the mirror")
    most_ms = max(at.config.gates_blob_max_age_sec * SECOND_MS, 3 * at.config.granularity_ms)
    age_ms = at.age_ms(at.facts.valkey.blob_ms)
    if age_ms > most_ms:
        detail = f"{span(age_ms)} old, more than {span(most_ms)}"
        return Check("gates_blob", "fail", detail, "check the worker and the mirror")
    return Check("gates_blob", "ok", f"{span(age_ms)} old")


def _eligible(at: Judged) -> Check:
    epochs = _epochs(at)
    if isinstance(epochs, Check):
        return epochs._replace(name="eligible")
    least = min(at.limits.eligible_least, len(at.facts.pairs))
    detail = f"{epochs[-1].eligible} of {epochs[-1].members}, required {least}"
    if epochs[-1].eligible < least:
        return Check("eligible", "warn", detail, "see which guard fails: manifold status")
    return Check("eligible", "ok", detail)


def _sessions(at: Judged) -> Check:
    if not at.market.open:
        return _unjudged(at.closed("sessions"))
    if not at.config.session_trading_enabled:
        return Check("sessions", "ok", "not gated by sessions (SESSION_TRADING_ENABLED=0)")
    minutes = at.config.session_exit_minutes
    states = {pair: session_state(at.calendar, pair, at.now_ms, minutes) for pair in at.facts.pairs}
    now_open = [p for p, state in states.items() if state.open and not state.near_close]
    if not now_open:
        opens = [state.next_change_ms for state in states.values() if not state.open]
        wait = f"; the next opens in {span(min(opens) - at.now_ms)}" if opens else ""
        return Check("sessions", "warn", f"no pair has an open session{wait}", "wait")
    return Check("sessions", "ok", f"{len(now_open)} of {len(states)} pairs: {several(now_open)}")


def _margin(at: Judged) -> Check:
    found = at.facts.executor
    if found is None:
        return _unjudged(at.unjudged("margin", "executor"))
    used = margin_share(found)
    if used is None:
        return Check("margin", "unknown", "the account's margin is not known yet")
    detail = f"{used:.1%} used, entries up to {at.limits.margin_entries:.0%}"
    if used >= at.limits.margin_entries:
        return Check("margin", "fail", detail, "reduce positions before the open")
    return Check("margin", "ok", detail)


def _weights(at: Judged) -> Check:
    epochs = _epochs(at)
    if isinstance(epochs, Check):
        return epochs._replace(name="weights")
    last = epochs[-LAST_EPOCHS:]
    interval_ms = max(at.config.alloc_interval_sec * SECOND_MS, at.config.granularity_ms)
    gaps = [open_ms_between(at.calendar, a.epoch_ms, b.epoch_ms) for a, b in pairwise(last)]
    short = [e for e in last if e.weighted < min(e.top_k, len(at.facts.pairs))]
    detail = f"{last[-1].weighted} of {last[-1].top_k} in the last epoch, {len(last)} epochs"
    if max(gaps, default=0) > interval_ms:
        action = "check the worker: an epoch closes when every pair has decided"
        return Check("weights", "fail", f"{detail}, with gaps of up to {span(max(gaps))}", action)
    if short:
        said = f"{detail}, {len(short)} of them with fewer"
        return Check("weights", "warn", said, "see eligible; manifold why INSTRUMENT")
    return Check("weights", "ok", f"{detail}, every {span(interval_ms)}")


def _epochs(at: Judged) -> tuple[EpochFacts, ...] | Check:
    log: LogFacts | None = at.facts.log
    if log is None:
        return _unjudged(at.unjudged("", "log"))
    if not at.market.open:
        return _unjudged(at.closed(""))
    if not log.epochs:
        return Check("", "fail", "no epoch yet", "manifold warmup lists what is missing")
    return log.epochs


def _unjudged(signal: FailureSignal) -> Check:
    return Check(signal.name, signal.state, signal.detail, signal.action)


_CHECKS: Final[tuple[Callable[[Judged], Check], ...]] = (
    _kill_switch,
    _mode,
    _manifolds,
    _signals,
    _blob,
    _eligible,
    _sessions,
    _margin,
    _weights,
)
