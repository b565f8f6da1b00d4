"""The aggregate for the page: the current state in one answer."""

from __future__ import annotations

from typing import Any, Literal

from streams import __version__
from streams.candles.calendar import calendar_of
from streams.candles.market_clock import market_at
from streams.monitoring.describe import (
    candle_view,
    gate_view,
    manifold_view,
    order_view,
    weights_view,
)
from streams.monitoring.executor_status import (
    AccountShape,
    ExecutorKill,
    Joined,
    OrderState,
    Paused,
    PositionShape,
    Shape,
)
from streams.service.live import KeptStatus, Live
from streams.service.shapes import (
    CandleAge,
    GateShape,
    KillSwitchShape,
    LagShape,
    ManifoldFigures,
    OrderShape,
    SignalShape,
    VersionsShape,
    WeightsShape,
)
from streams.trading.kill_switch.reader import KillSwitchState

SHOWN_ORDERS = 50
SAME_FOR_MS = 250
"""Without new records only ages change; many pages query at the same time."""


class MarketShape(Shape):
    """The market state, and the progress of the candles.

    ``calendar`` is MARKET_CALENDAR: continuous is a synthetic market that never closes, without
    ``next_change_ms``. ``closed_for`` is empty while it is open.
    """

    calendar: Literal["fx", "continuous"]
    open: bool
    closed_for: str
    next_change_ms: int | None
    newest_as_of_ms: int | None


class TradingShape(Shape):
    """The executor; null where it is absent or the value is unknown."""

    executor: Literal["running", "absent", "stale"]
    detail: str
    ts_ms: int | None = None
    venue: str | None = None
    account_id: str | None = None
    mode: str | None = None
    read_only: bool | None = None
    dry_run: bool | None = None
    kill_switch: ExecutorKill | None = None
    account: AccountShape | None = None
    positions: list[PositionShape] | None = None
    joined: dict[str, Joined] | None = None
    last_cycle_ms: int | None = None
    reconciled: bool | None = None
    unreconciled: str | None = None
    differences: list[str] | None = None
    by_hand: dict[str, list[str]] | None = None
    paused: dict[str, Paused] | None = None
    waiting: dict[str, list[str]] | None = None
    operator_orders: str | None = None
    orders: list[OrderState] | None = None
    blocked: dict[str, list[str]] | None = None
    last_transaction_id: str | None = None


class OwnPosition(Shape):
    """The account's position in an instrument."""

    units: float
    average_price: float | None
    unrealized_pl: float | None


class InstrumentShape(Shape):
    """One instrument from its candle to its position."""

    instrument: str
    candle: CandleAge | None
    manifold: ManifoldFigures | None
    gate: GateShape | None
    weight: float
    target_exposure_pct: float
    position: OwnPosition | None


class GlobalStatus(Shape):
    """The current state."""

    ts_ms: int
    granularity: str
    market: MarketShape
    kill_switch: KillSwitchShape
    trading: TradingShape
    signals: list[SignalShape]
    instruments: list[InstrumentShape]
    weights: WeightsShape | None
    orders: list[OrderShape]
    lag: LagShape
    versions: VersionsShape


def status_text(live: Live) -> bytes:
    """Return the aggregate as JSON, made at most ``SAME_FOR_MS`` ago from the same facts."""
    facts = live.facts
    made_of = (live.view.version, facts.kill_switch, facts.executor, facts.gathered)
    kept, now_ms = live.kept_status, live.now_ms()
    if kept is not None and kept.made_of == made_of and 0 <= now_ms - kept.at_ms < SAME_FOR_MS:
        return kept.text
    text = global_status(live).model_dump_json(by_alias=True).encode()
    live.kept_status = KeptStatus(now_ms, made_of, text)
    return text


def kill_shape(state: KillSwitchState) -> KillSwitchShape:
    """Return the kill switch in the answer's form."""
    return KillSwitchShape(
        engaged=state.engaged,
        why=list(state.why),
        since_ms=state.since_ms,
        actor=state.actor or None,
        reason=state.reason or None,
    )


def global_status(live: Live) -> GlobalStatus:
    """Return the aggregate as of now."""
    view, now_ms = live.view, live.now_ms()
    market = market_at(calendar_of(live.config), now_ms)
    newest = max((c.as_of_ms for c in view.candles.values()), default=None)
    trading = trading_shape(live)
    held = {p.instrument: p for p in trading.positions or ()}
    names = sorted({*view.instruments, *held})
    engines = [origin.engine for origin in view.origins.values() if origin.engine]
    return GlobalStatus(
        ts_ms=now_ms,
        granularity=live.config.candle_gran,
        market=MarketShape(
            calendar=live.config.market_calendar,  # type: ignore[arg-type]  # one by Config's check
            newest_as_of_ms=newest,
            **market._asdict(),
        ),
        kill_switch=kill_shape(live.facts.kill_switch),
        trading=trading,
        signals=[SignalShape(**one._asdict()) for one in live.facts.signals(now_ms)],
        instruments=[_instrument(live, name, now_ms, held.get(name)) for name in names],
        weights=None if view.weights is None else WeightsShape(**weights_view(view.weights)),
        orders=[OrderShape(**order_view(*pair)) for pair in view.newest_orders(SHOWN_ORDERS)],
        lag=lag_shape(live.facts.lag),
        versions=VersionsShape(
            manifold=__version__,
            engine=max(engines, default=None),
            config_id=view.state.config_id or None,
        ),
    )


def lag_shape(lag: dict[str, int]) -> LagShape:
    """Return the lag of the stages and of the mirror."""
    found: dict[str, Any] = dict.fromkeys(("signals", "gates", "weights", "mirror"))
    return LagShape(**(found | lag))


def trading_shape(live: Live) -> TradingShape:
    """Return the state of the executor."""
    executor = live.facts.executor
    # the executor reports more, for the failure signals only
    known = {} if executor.status is None else dict(executor.status)
    shown = {name: known[name] for name in TradingShape.model_fields.keys() & known.keys()}
    return TradingShape(executor=executor.state, detail=executor.detail, **shown)


def _instrument(
    live: Live, name: str, now_ms: int, position: PositionShape | None
) -> InstrumentShape:
    view = live.view
    candle, manifold, gate = (
        view.candles.get(name),
        view.manifolds.get(name),
        view.decisions.get(name),
    )
    entries = view.weights.entries if view.weights else ()
    entry = next((one for one in entries if one.instrument == name), None)
    config = view.state.config_of(name)
    return InstrumentShape(
        instrument=name,
        candle=None if candle is None else CandleAge(**candle_view(candle, now_ms)),
        manifold=None if manifold is None else ManifoldFigures(**manifold_view(manifold)),
        gate=None if gate is None else GateShape(**gate_view(gate, config)),
        weight=entry.weight if entry else 0.0,
        target_exposure_pct=entry.target_exposure_pct if entry else 0.0,
        position=None
        if position is None
        else OwnPosition(**position.model_dump(exclude={"instrument"})),
    )
