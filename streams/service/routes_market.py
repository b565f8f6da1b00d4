"""Candles, metrics, manifolds and the ranking."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query

from streams.candles.calendar import calendar_of
from streams.candles.market_clock import open_ms_between
from streams.candles.sessions import HOURS, session_state
from streams.candles.zones import zone
from streams.config.settings import Config
from streams.instants import clock
from streams.monitoring.describe import manifold_view
from streams.records.events import GateDecision, Manifold
from streams.service.calls import CallDep
from streams.service.errors import ApiError
from streams.service.live import Live, LiveDep
from streams.service.responses import ABOUT_INSTRUMENT, CONFLICTS, FROM_AWAY, READS
from streams.service.shapes import INSTRUMENT_FORM, AnySpelling
from streams.service.shapes_market import (
    GRANULARITY_FORM,
    CandleItem,
    Candles,
    Coeffs,
    CoherencePoint,
    CoherenceStatus,
    Fetched,
    FetchRequest,
    HistoryItem,
    LatestManifold,
    ManifoldHistory,
    MarketData,
    Metrics,
    Ranking,
    RankingItem,
)

router = APIRouter(tags=["market"])

FLOW_MS = 300_000
DAY_MS = 86_400_000
FEED_LIVES_BARS = 3

InstrumentQuery = Annotated[
    str,
    Query(pattern=INSTRUMENT_FORM, description="Such as EUR_USD.", examples=["EUR_USD"]),
    AnySpelling,
]
LimitQuery = Annotated[int, Query(ge=1, le=5_000, description="Number of newest entries.")]
GranularityQuery = Annotated[
    str, Query(pattern=GRANULARITY_FORM, description="Length of a bar.", examples=["M1"])
]


@router.get("/api/market-data", responses=ABOUT_INSTRUMENT | FROM_AWAY)
async def market_data(
    live: LiveDep,
    instrument: InstrumentQuery,
    granularity: GranularityQuery,
    limit: LimitQuery = 500,
) -> MarketData:
    """The last candles, from the mirror."""
    items = await _candles(live, instrument, granularity, limit)
    return MarketData(instrument=instrument, granularity=granularity, candles=items)


@router.get("/api/candles", responses=ABOUT_INSTRUMENT | FROM_AWAY)
async def candles(
    live: LiveDep,
    instrument: InstrumentQuery,
    granularity: GranularityQuery = "M1",
    limit: LimitQuery = 500,
) -> Candles:
    """The last candles, from the mirror."""
    items = await _candles(live, instrument, granularity, limit)
    return Candles(instrument=instrument, granularity=granularity, items=items)


async def _candles(live: Live, instrument: str, granularity: str, limit: int) -> list[CandleItem]:
    live.require_instrument(instrument)
    found = await live.mirror.candles(instrument, granularity, limit)
    return [CandleItem(**one) for one in found]


@router.post("/api/candles/fetch", responses=CONFLICTS)
async def fetch_candles(wanted: FetchRequest, live: LiveDep, call: CallDep) -> Fetched:
    """Ensure that the log holds OANDA's candles up to now.

    If the log is complete up to the last bars, as with a running feed, nothing is fetched, because
    that would fence the feed. Otherwise the missing candles of *all* HOTBAND_PAIRS are written, as
    by ``manifold feed oanda --once``; an instrument without candles in the log begins at least
    ``count`` bars back, rounded up to whole days. History before the first candle in the log is
    never written.
    """
    config, pairs = live.config, live.runtime.hotband_pairs
    if wanted.granularity != config.candle_gran:
        raise ApiError(
            409, "other_granularity", f"this deployment uses CANDLE_GRAN={config.candle_gran}"
        )
    if wanted.instrument is not None and wanted.instrument not in pairs:
        raise ApiError(409, "not_in_pairs", f"HOTBAND_PAIRS does not name {wanted.instrument}")
    watermark_ms = live.view.watermark_ms
    most_ms = FEED_LIVES_BARS * config.granularity_ms
    calendar = calendar_of(config)
    if (
        watermark_ms is not None
        and open_ms_between(calendar, watermark_ms, live.now_ms()) <= most_ms
    ):
        await call.record(wanted)
        runs = await live.oanda.feed_seen()
        return Fetched(success=True, written=0, detail=_complete(runs, watermark_ms))
    if not live.oanda.configured:
        raise ApiError(
            409,
            "no_oanda",
            "no OANDA account is configured (OANDA_API_KEY, OANDA_ACCOUNT_ID), so there is "
            "no source of candles: load files with manifold load",
        )
    if await live.oanda.feed_seen():
        raise ApiError(
            503, "feed_behind", "a feed is running and catching up; a second one would fence it"
        )
    async with live.oanda.fetching():
        await call.record(wanted)
        now_ms = live.now_ms()
        start_ms = calendar.start_of_last_bars_ms(now_ms, wanted.count, config.granularity_ms)
        back_ms = now_ms - start_ms
        written = await live.oanda.fetch(live.runtime, config, -(-back_ms // DAY_MS))
    return Fetched(success=True, written=written, detail="written from OANDA")


def _complete(feed_runs: bool | None, watermark_ms: int) -> str:
    complete = f"the log is complete up to {clock(watermark_ms)} UTC, its last watermark"
    if feed_runs:
        return f"a feed is running, and {complete}"
    if feed_runs is None:
        return f"{complete}; whether a feed runs is not known here (FEED_METRICS_URL)"
    return f"{complete}; no feed answers at FEED_METRICS_URL: start one to get newer candles"


@router.get("/api/coherence/status", responses=ABOUT_INSTRUMENT | FROM_AWAY)
async def coherence_status(
    live: LiveDep,
    instrument: InstrumentQuery,
    points: Annotated[
        int, Query(ge=0, le=1_440, description="Number of earlier bars to include.")
    ] = 0,
) -> CoherenceStatus:
    """The metrics of the last bar; with ``points`` also of that many bars before it."""
    found = _manifold(live, instrument)
    metrics = Metrics(
        coherence=found.coherence,
        stability=found.stability,
        entropy=found.entropy,
        rupture=found.rupture,
    )
    earlier = await live.mirror.manifolds(instrument, points) if points else None
    return CoherenceStatus(
        instrument=instrument,
        ts_ms=found.as_of_ms,
        age_ms=max(0, live.now_ms() - found.as_of_ms),
        **metrics.model_dump(),
        metrics=metrics,
        lambda_hazard=found.lambda_hazard,
        points=None
        if earlier is None
        else [
            CoherencePoint(as_of_ms=one["ts_ms"], price=one["price"], **one["metrics"])
            for one in earlier
        ],
    )


@router.get("/api/manifold/coeffs", responses=ABOUT_INSTRUMENT)
async def manifold_coeffs(live: LiveDep, instrument: InstrumentQuery) -> Coeffs:
    """Volatility and hazard of the last manifold."""
    found = _manifold(live, instrument)
    return Coeffs(
        instrument=instrument,
        ts_ms=found.as_of_ms,
        sigma_eff=found.sigma_eff,
        lambda_=found.lambda_,
        lambda_hazard=found.lambda_hazard,
    )


@router.get("/api/manifold/latest", responses=ABOUT_INSTRUMENT)
async def manifold_latest(live: LiveDep, instrument: InstrumentQuery) -> LatestManifold:
    """The last manifold."""
    found = _manifold(live, instrument)
    return LatestManifold(
        **manifold_view(found),
        instrument=instrument,
        price=found.price,
        count=found.count,
        t0_ms=found.t0_ms,
        t1_ms=found.t1_ms,
        window_start_ms=found.window_start_ms,
        first_seen_ms=found.first_seen_ms,
        gap_bars=found.gap_bars,
        volume_missing=found.volume_missing,
        late=found.late,
        config_id=found.config_id,
    )


def _manifold(live: Live, instrument: str) -> Manifold:
    live.require_instrument(instrument)
    found = live.view.manifolds.get(instrument)
    if found is None:
        raise ApiError(404, "no_manifold", f"{instrument} has no manifold yet: it is warming up")
    return found


@router.get("/api/manifold/history", responses=ABOUT_INSTRUMENT | FROM_AWAY)
async def manifold_history(
    live: LiveDep, instrument: InstrumentQuery, limit: LimitQuery = 500
) -> ManifoldHistory:
    """The manifolds of the last 24 hours, from the mirror."""
    live.require_instrument(instrument)
    found = await live.mirror.manifolds(instrument, limit)
    return ManifoldHistory(instrument=instrument, items=[_history_item(one) for one in found])


def _history_item(content: dict[str, Any]) -> HistoryItem:
    return HistoryItem(
        as_of_ms=content["ts_ms"],
        price=content["price"],
        **content["metrics"],
        **content["coeffs"],
        count_1h=content["repetition"]["count_1h"],
    )


@router.get("/api/ranking/active", responses=READS)
async def ranking(
    live: LiveDep, limit: Annotated[int, Query(ge=1, le=500, description="Maximum number.")] = 50
) -> Ranking:
    """The instruments by score, from the last gate decisions."""
    now_ms = live.now_ms()
    found = [_ranked(live, name, decision, now_ms) for name, decision in _decisions(live)]
    found.sort(key=lambda one: (one.score is None, -(one.score or 0.0), one.instrument))
    return Ranking(now_ms=now_ms, sessions=_open_sessions(now_ms, live.config), items=found[:limit])


def _decisions(live: Live) -> list[tuple[str, GateDecision]]:
    return sorted(live.view.decisions.items())


def _ranked(live: Live, name: str, decision: GateDecision, now_ms: int) -> RankingItem:
    config = live.view.state.config_of(name) or live.config
    session = session_state(calendar_of(config), name, now_ms, config.session_exit_minutes)
    metrics = decision.metrics
    echo = config.gate_mode == "echo"
    recent = live.view.recent.get(name, ())
    return RankingItem(
        instrument=name,
        is_open=session.open,
        near_close=session.near_close,
        score=decision.score,
        flow_m5=sum(at_ms > now_ms - FLOW_MS for at_ms in recent),
        coherence=metrics.coherence if metrics else None,
        stability=metrics.stability if metrics else None,
        entropy=metrics.entropy if metrics else None,
        hazard=metrics.lambda_hazard if metrics else None,
        repetitions=metrics.count_1h if metrics else None,
        admit=int(decision.eligible),
        direction=decision.direction,
        gate_source=decision.mode,
        regime_min_reps=config.echo_min_repetitions
        if echo
        else config.session_pattern_min_occurrences,
        regime_hazard_max=config.echo_hazard_max if echo else config.auto_max_hazard,
    )


def _open_sessions(now_ms: int, config: Config) -> list[str]:
    """Return the names of the sessions that are open, by their own hours."""
    if not calendar_of(config).is_open(now_ms):
        return []
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    return [
        name
        for name, (place, opens, closes) in HOURS.items()
        if opens <= now.astimezone(zone(place)).hour < closes
    ]
