"""Liveness, readiness, and the aggregate status."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from prometheus_client import CONTENT_TYPE_LATEST

from streams import __version__
from streams.monitoring.executor_status import Shape
from streams.monitoring.preflight import ready
from streams.service.errors import ApiError
from streams.service.exposition import metrics_text
from streams.service.global_status import GlobalStatus, status_text
from streams.service.live import KILL_SWITCH_OF_NOW, Live, LiveDep
from streams.service.responses import ABOUT_INSTRUMENT, FROM_AWAY, READS
from streams.service.routes_trading import trading_active
from streams.service.shapes import INSTRUMENT_FORM, AnySpelling, Problem, SignalShape

router = APIRouter(tags=["status"])

INSTRUMENTS_FORM = INSTRUMENT_FORM[:-1] + "(," + INSTRUMENT_FORM[1:-1] + ")*$"


OF_HEALTH = ("restarts", "invalid_records")
"""The failure signals that ``/health`` names, at any hour."""


class Health(Shape):
    """Health of the service; ``degraded`` has the reasons in ``trouble``.

    They are about the service itself, about processes that restart in a loop, or about records that
    processes refuse.
    """

    status: Literal["ok", "degraded"]
    service: str
    version: str
    timestamp: str
    ts_ms: int
    kill_switch: bool
    trading_active: bool
    enabled_pairs: list[str]
    trouble: list[str]


class Pairs(Shape):
    """The instruments."""

    pairs: list[str]


class CheckShape(Shape):
    """One line of the operator's checklist."""

    name: str
    state: str
    detail: str
    action: str


class Preflight(Shape):
    """The checklist before the open, and the failure signals; ``market_calendar`` is a setting."""

    ts_ms: int
    ok: bool
    market_calendar: Literal["fx", "continuous"]
    checks: list[CheckShape]
    signals: list[SignalShape]
    away: dict[str, str]


class Authenticity(Shape):
    """Origin of an instrument's figures; all of them can be re-derived from the log."""

    instrument: str
    candle_source: str | None
    candle_as_of_ms: int | None
    manifold_as_of_ms: int | None
    manifold_id: str | None
    derived_from: str | None
    engine: str | None
    config_id: str | None
    bars: int | None
    gap_bars: int | None
    volume_missing: bool | None
    native: bool


class AuthenticityAnswer(Shape):
    """Provenance."""

    instruments: list[Authenticity]


def service_health(live: Live) -> Health:
    """Return the service's health."""
    now_ms = live.now_ms()
    trouble = [said for said in (live.log_trouble(),) if said is not None]
    trouble += [
        f"{one.name}: {one.detail}"
        for one in live.facts.signals(now_ms)
        if one.name in OF_HEALTH and one.state in ("warn", "fail")
    ]
    return Health(
        status="degraded" if trouble else "ok",
        service="running",
        version=__version__,
        timestamp=datetime.fromtimestamp(now_ms / 1000, UTC).isoformat(timespec="milliseconds"),
        ts_ms=now_ms,
        kill_switch=live.facts.kill_switch.engaged,
        trading_active=trading_active(live),
        enabled_pairs=list(_pairs(live)),
        trouble=trouble,
    )


def _pairs(live: Live) -> tuple[str, ...]:
    return live.view.universe or live.runtime.hotband_pairs


DEGRADED = READS | {503: {"model": Health, "description": "the log is not being followed"}}


@router.get("/health", responses=DEGRADED)
@router.get("/api/health", responses=DEGRADED)
@router.get("/api/status", responses=DEGRADED)
async def health(live: LiveDep, response: Response) -> Health:
    """Whether the service follows the log; 503 with the reason when it does not.

    Processes that restart in a loop and refused records are named too, with status 200: a restart
    of the service would not help.
    """
    if live.log_trouble() is not None:
        response.status_code = 503
    return service_health(live)


@router.get("/api/pairs", responses=READS)
async def pairs(live: LiveDep) -> Pairs:
    """The current instruments; HOTBAND_PAIRS while no feed has declared any."""
    return Pairs(pairs=list(_pairs(live)))


@router.get(
    "/api/global-status",
    response_model=GlobalStatus,
    responses=READS,
    dependencies=KILL_SWITCH_OF_NOW,
)
async def read_global_status(live: LiveDep) -> Response:
    """The current state: market, kill switch, account, instruments, weights, orders, lag."""
    return Response(status_text(live), media_type="application/json")


@router.get("/api/preflight", responses=READS | FROM_AWAY)
async def preflight(live: LiveDep) -> Preflight:
    """The operator's checklist before the open, and the failure signals; 503 before both are known.

    ``ok`` when no check and no signal is ``warn``, ``fail`` or ``unknown``.
    """
    now_ms = live.now_ms()
    facts, checks = live.facts.facts(), live.facts.preflight(now_ms)
    if facts is None:
        raise ApiError(503, "not_known_yet", "no probe has completed yet; retry")
    signals = live.facts.signals(now_ms)
    fine = ready(tuple(checks)) and all(one.state in ("ok", "quiet") for one in signals)
    return Preflight(
        ts_ms=now_ms,
        ok=fine,
        market_calendar=live.config.market_calendar,  # type: ignore[arg-type]  # by Config's check
        checks=[CheckShape(**one._asdict()) for one in checks],
        signals=[SignalShape(**one._asdict()) for one in signals],
        away=dict(facts.away),
    )


@router.get("/api/authenticity", responses=ABOUT_INSTRUMENT)
async def authenticity(
    live: LiveDep,
    instruments: Annotated[
        str | None,
        Query(
            pattern=INSTRUMENTS_FORM,
            max_length=2_000,
            description="Instruments, comma separated.  [default: all]",
        ),
        AnySpelling,
    ] = None,
) -> AuthenticityAnswer:
    """The origin of each instrument's figures; none is simulated."""
    names = list(dict.fromkeys(instruments.split(","))) if instruments else live.view.instruments
    for name in names:
        live.require_instrument(name)
    return AuthenticityAnswer(instruments=[_authenticity(live, name) for name in names])


def _authenticity(live: Live, name: str) -> Authenticity:
    view = live.view
    candle, manifold, origin = (
        view.candles.get(name),
        view.manifolds.get(name),
        view.origins.get(name),
    )
    return Authenticity(
        instrument=name,
        candle_source=candle.source if candle else None,
        candle_as_of_ms=candle.as_of_ms if candle else None,
        manifold_as_of_ms=manifold.as_of_ms if manifold else None,
        manifold_id=origin.id if origin else None,
        derived_from=origin.source or None if origin else None,
        engine=origin.engine or None if origin else None,
        config_id=manifold.config_id if manifold else None,
        bars=manifold.count if manifold else None,
        gap_bars=manifold.gap_bars if manifold else None,
        volume_missing=manifold.volume_missing if manifold else None,
        native=bool(origin and origin.engine),
    )


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
        400: {"model": Problem},
        401: {"model": Problem},
        429: {"model": Problem},
    },
)
async def metrics(live: LiveDep) -> Response:
    """Prometheus text."""
    return Response(metrics_text(live), media_type=CONTENT_TYPE_LATEST)
