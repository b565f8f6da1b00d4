"""Trading: mode, readiness, budget, strategy, and why an instrument is not traded."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query

from streams.instants import clock
from streams.kafka.registry import open_codec
from streams.monitoring.describe import gate_view
from streams.monitoring.executor_status import AccountShape
from streams.monitoring.view_at import known_in_the_past, read_instrument
from streams.monitoring.why import Known, explain, steps
from streams.records.plain import plain
from streams.service.calls import CallDep
from streams.service.errors import ApiError
from streams.service.global_status import kill_shape
from streams.service.live import KILL_SWITCH_OF_NOW, Live, LiveDep
from streams.service.parameters import ONLY_KNOWN_PARAMETERS
from streams.service.responses import ABOUT_INSTRUMENT, CONFLICTS, FROM_AWAY, READS
from streams.service.routes_market import InstrumentQuery
from streams.service.shapes import INSTRUMENT_FORM, AnySpelling, GateShape, Said
from streams.service.shapes_trading import (
    AllocationStatus,
    Budget,
    ModeRequest,
    Readiness,
    ReadinessItem,
    Reconciled,
    StrategyItem,
    StrategyStatus,
    TradingMode,
    Why,
)
from streams.trading.brokers.sizing import SizingRefused, base_of
from streams.trading.reconcile_command import reconcile_record

router = APIRouter(tags=["trading"])

SomeInstrument = Annotated[
    str | None,
    Query(pattern=INSTRUMENT_FORM, description="Limit to this instrument.", examples=["EUR_USD"]),
    AnySpelling,
]


Instant = Annotated[
    int | None,
    Query(
        ge=0,
        le=4_102_444_800_000,
        description="Past time (epoch ms UTC).  [default: now]",
        examples=[1_399_024_800_000],
    ),
]


def trading_active(live: Live) -> bool:
    """Return whether orders are sent: a running executor that may write, and no kill switch."""
    status = live.facts.executor.status
    return (
        live.facts.executor.state == "running"
        and status is not None
        and not (status.read_only or status.dry_run)
        and not live.facts.kill_switch.engaged
    )


@router.get("/api/trading/mode", responses=READS, dependencies=KILL_SWITCH_OF_NOW)
async def trading_mode(live: LiveDep) -> TradingMode:
    """How orders are sent: the executor's status, and this process's OANDA settings."""
    executor, oanda = live.facts.executor, live.oanda.settings
    status = executor.status
    mode = status.mode if status is not None else "none"
    return TradingMode(
        mode=mode,
        venue=status.venue if status else None,
        environment=oanda.oanda_environment,
        oanda_configured=live.oanda.configured,
        oanda_connected=live.oanda.connected,
        practice_trading_enabled=mode == "practice",
        auto_trading_enabled=trading_active(live),
        live_trading_enabled=oanda.live_trading_enabled and oanda.oanda_environment == "live",
        read_only=status.read_only if status else None,
        dry_run=status.dry_run if status else None,
        kill_switch=live.facts.kill_switch.engaged,
        detail=executor.detail,
    )


@router.post("/api/trading/mode", responses=CONFLICTS, dependencies=KILL_SWITCH_OF_NOW)
async def set_trading_mode(wanted: ModeRequest, live: LiveDep, call: CallDep) -> TradingMode:
    """Confirm the current mode; any other is refused.

    The mode follows from settings of the executor (TRADING_VENUE, OANDA_ENVIRONMENT,
    LIVE_TRADING_ENABLED, READ_ONLY), which a call cannot change: 409.
    """
    found = await trading_mode(live)
    if wanted.mode != found.mode:
        raise ApiError(
            409,
            "fixed_by_settings",
            f"the mode is {found.mode}; it changes only when manifold trade is started with other "
            "TRADING_VENUE, OANDA_ENVIRONMENT and LIVE_TRADING_ENABLED",
        )
    await call.record(wanted)
    return found


@router.get("/api/trade/readiness", responses=ABOUT_INSTRUMENT, dependencies=KILL_SWITCH_OF_NOW)
async def readiness(live: LiveDep, instrument: SomeInstrument = None) -> Readiness:
    """Coherence, gate and all blocking reasons, per instrument."""
    if instrument is not None:
        live.require_instrument(instrument)
    names = live.view.instruments if instrument is None else (instrument,)
    return Readiness(
        ts_ms=live.now_ms(),
        trading_active=trading_active(live),
        kill_switch=kill_shape(live.facts.kill_switch),
        executor=live.facts.executor.state,
        instruments=[_readiness(live, name) for name in names],
    )


def _readiness(live: Live, name: str) -> ReadinessItem:
    view = live.view
    manifold, decision = view.manifolds.get(name), view.decisions.get(name)
    found = [one for one in steps(name, _known(live)) if one.step not in ("order", "broker")]
    entries = view.weights.entries if view.weights else ()
    weight = next((entry.weight for entry in entries if entry.instrument == name), 0.0)
    gate = None
    if decision is not None:
        gate = GateShape(**gate_view(decision, view.state.config_of(name)))
    return ReadinessItem(
        instrument=name,
        ready=all(one.ok for one in found),
        coherence=manifold.coherence if manifold else None,
        stability=manifold.stability if manifold else None,
        entropy=manifold.entropy if manifold else None,
        rupture=manifold.rupture if manifold else None,
        gate=gate,
        weight=weight,
        blocked=[f"{one.step}: {one.detail}" for one in found if not one.ok],
    )


@router.get("/api/risk/allocation-status", responses=READS | FROM_AWAY)
async def allocation_status(live: LiveDep) -> AllocationStatus:
    """The weights of the last epoch; 503 while there is none."""
    weights = live.view.weights
    if weights is None:
        raise ApiError(503, "no_weights", "no epoch has been closed yet: see /api/preflight")
    return AllocationStatus(
        weights={entry.instrument: entry.weight for entry in weights.entries},
        target_exposure_pct={e.instrument: e.target_exposure_pct for e in weights.entries},
        ts_ms=weights.epoch_ms,
        age_ms=max(0, live.now_ms() - weights.epoch_ms),
        target_pct=live.config.risk_alloc_target_pct,
        top_k=weights.top_k,
        action=weights.action,
        reason=weights.reason,
        held_since_ms=weights.held_since_ms,
    )


@router.get("/api/risk/budget", responses=READS | FROM_AWAY)
async def risk_budget(live: LiveDep) -> Budget:
    """The account's budget from the executor's base; 503 while no executor reports the account.

    ``base`` is the executor's sizing base: min(balance, margin used + margin available).
    """
    account, target_pct = executor_account(live), live.config.risk_alloc_target_pct
    try:
        base = base_of(
            executor_account_id(live),
            account.balance,
            account.margin_used,
            account.margin_available,
        )
    except SizingRefused as error:
        raise ApiError(503, "no_base", f"{error}: the executor opens no position") from error
    return Budget(
        currency=account.currency,
        balance=account.balance,
        nav=account.nav,
        margin_used=account.margin_used,
        margin_available=account.margin_available,
        base=base,
        target_pct=target_pct,
        budget=base * target_pct,
        source="executor",
    )


def executor_account(live: Live) -> AccountShape:
    """Return the account as the executor reports it.

    Raises
    ------
    ApiError
        503: no executor, or it does not know the account yet.
    """
    executor = live.facts.executor
    if executor.status is None:
        raise ApiError(503, "no_executor", executor.detail)
    if executor.status.account is None:
        raise ApiError(503, "no_account", "the executor does not know the account yet")
    return executor.status.account


def executor_account_id(live: Live) -> str:
    """Return the account id of the executor.

    Raises
    ------
    ApiError
        503: no executor answers.
    """
    executor = live.facts.executor
    if executor.status is None:
        raise ApiError(503, "no_executor", executor.detail)
    return executor.status.account_id


@router.post("/api/trade/reconcile", responses=CONFLICTS)
async def reconcile(live: LiveDep, call: CallDep, given: Said | None = None) -> Reconciled:
    """Make the executor reconcile with the broker now.

    The command is a record of kind ``reconcile`` in ops.control; the executor reconciles as soon as
    it has read it.
    """
    account_id, said = executor_account_id(live), given or Said()
    word = reconcile_record(account_id, said.actor, said.reason, live.now_ms())
    offset = await call.say(word)
    detail = (
        f"the command is in ops.control at offset {offset}, and the executor reconciles when it "
        "reads "
        f"it: see last_cycle_ms and differences ({live.facts.executor.detail})"
    )
    return Reconciled(accepted=True, detail=detail)


@router.get("/api/strategy/status", responses=READS)
async def strategy_status(live: LiveDep) -> StrategyStatus:
    """The rolling run of every instrument: direction, position, floors, counters."""
    decisions = sorted(live.view.decisions.items())
    return StrategyStatus(
        ts_ms=live.now_ms(),
        mode=live.config.gate_mode,
        config_id=live.view.state.config_id or None,
        trading_active=trading_active(live),
        instruments=[
            StrategyItem(
                instrument=name,
                as_of_ms=found.as_of_ms,
                direction=found.direction,
                position=found.position,
                eligible=found.eligible,
                score=found.score,
                params_id=found.params_id,
                buffer=found.buffer,
                passes=found.passes,
                fails=found.fails,
                misses=found.misses,
                cooldown_until_ms=found.cooldown_until_ms,
                floors=plain(found.floors) if found.floors else None,
                evaluation=plain(found.evaluation) if found.evaluation else None,
            )
            for name, found in decisions
        ],
    )


@router.get(
    "/api/why",
    responses=ABOUT_INSTRUMENT | FROM_AWAY,
    dependencies=[ONLY_KNOWN_PARAMETERS, *KILL_SWITCH_OF_NOW],
)
async def why(live: LiveDep, instrument: InstrumentQuery, at_ms: Instant = None) -> Why:
    """Why an instrument is, or is not, traded: every step from its candle to the broker.

    With ``at_ms`` every step is as of that time in the log; the state of executor and Valkey is
    known only for the present.
    """
    live.require_instrument(instrument)
    require_past(at_ms, live.now_ms())
    known = _known(live) if at_ms is None else await _known_at(live, instrument, at_ms)
    return Why.model_validate(explain(instrument, known).as_dict())


def require_past(at_ms: int | None, now_ms: int) -> None:
    """Refuse a future instant.

    Raises
    ------
    ApiError
        404: it is in the future.
    """
    if at_ms is not None and at_ms > now_ms:
        detail = f"at_ms: {clock(at_ms)} UTC is in the future: it is {clock(now_ms)} UTC now"
        raise ApiError(404, "in_the_future", detail)


def _known(live: Live) -> Known:
    return Known(live.view, live.config, live.facts.kill_switch, live.facts.executor, live.now_ms())


async def _known_at(live: Live, instrument: str, at_ms: int) -> Known:
    """Return the state of an instrument in the log at an instant.

    Raises
    ------
    Fatal, Recoverable
        The log cannot be read.
    """
    codec = await open_codec(live.runtime)
    read = await asyncio.to_thread(read_instrument, live.runtime, codec, instrument, at_ms)
    return known_in_the_past(read, live.config, at_ms)
