"""Models of mode, readiness, budget, strategy, and why an instrument is not traded."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from streams.monitoring.executor_status import Shape
from streams.service.shapes import GateShape, KillSwitchShape, Said


class TradingMode(Shape):
    """How orders are sent. ``mode`` is ``none`` while no executor runs."""

    mode: str
    venue: str | None
    environment: str
    oanda_configured: bool
    oanda_connected: bool | None
    practice_trading_enabled: bool
    auto_trading_enabled: bool
    live_trading_enabled: bool
    read_only: bool | None
    dry_run: bool | None
    kill_switch: bool
    detail: str


class ModeRequest(Said):
    """The requested mode."""

    mode: Annotated[str, Field(pattern="^(paper|practice|live)$")]


class ReadinessItem(Shape):
    """Whether an instrument could be traded now, and what blocks it."""

    instrument: str
    ready: bool
    coherence: float | None
    stability: float | None
    entropy: float | None
    rupture: float | None
    gate: GateShape | None
    weight: float
    blocked: list[str]


class Readiness(Shape):
    """Readiness of every instrument."""

    ts_ms: int
    trading_active: bool
    kill_switch: KillSwitchShape
    executor: str
    instruments: list[ReadinessItem]


class AllocationStatus(Shape):
    """The current weights; ``weights`` is the profile's ``risk:allocation_weights``."""

    weights: dict[str, float]
    target_exposure_pct: dict[str, float]
    ts_ms: int
    age_ms: int
    target_pct: float
    top_k: int
    action: str
    reason: str
    held_since_ms: int | None


class Budget(Shape):
    """The allowed exposure: ``budget`` = ``base`` * ``target_pct``.

    ``base`` is the executor's: min(balance, margin used + margin available).
    """

    currency: str
    balance: float
    nav: float
    margin_used: float
    margin_available: float
    base: float
    target_pct: float
    budget: float
    source: str


class StrategyItem(Shape):
    """The rolling run of an instrument and its gate's counters."""

    instrument: str
    as_of_ms: int
    direction: int
    position: int
    eligible: bool
    score: float | None
    params_id: str
    buffer: float
    passes: int
    fails: int
    misses: int
    cooldown_until_ms: int | None
    floors: dict[str, float] | None
    evaluation: dict[str, Any] | None


class StrategyStatus(Shape):
    """The strategy of all instruments."""

    ts_ms: int
    mode: str
    config_id: str | None
    trading_active: bool
    instruments: list[StrategyItem]


class WhyStep(Shape):
    """One step from the candle to the broker."""

    step: str
    ok: bool | None
    detail: Annotated[str, Field(description="What was found.")]
    words: Annotated[
        str,
        Field(
            description="Former name of detail, with the same value; removed in the next release.",
            deprecated=True,
        ),
    ]
    change: Annotated[str, Field(description="What would make it pass; empty when it passes.")]


class Why(Shape):
    """Why an instrument is, or is not, traded."""

    instrument: str
    ts_ms: int
    trading: bool
    stops_at: str | None
    summary: str
    steps: list[WhyStep]


class Reconciled(Shape):
    """The command was recorded."""

    accepted: bool
    detail: str
