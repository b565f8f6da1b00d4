"""The service's additional ports: ``/status`` of allocator and hydrator, and ``/metrics``."""

from __future__ import annotations

from typing import Any, cast

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST

from streams import __version__
from streams.mirror.probe import MirroredManifold
from streams.monitoring.alert_rules_stream import mirrored_manifold_problem
from streams.monitoring.facts import LiveFacts
from streams.monitoring.verdict import Judged, rule_input
from streams.pipeline.weights import status_object
from streams.service.errors import ApiError, add_handlers
from streams.service.exposition import metrics_text
from streams.service.live import Live, LiveDep
from streams.service.security import App, Guard


def allocator_status(live: Live) -> dict[str, Any]:
    """Return ``opt:allocator:status`` (docs/spec/trading-loop.md 4.6), and how old it is.

    Raises
    ------
    ApiError
        503 while no epoch has been closed.
    """
    weights = live.view.weights
    if weights is None:
        raise ApiError(503, "no_weights", "no epoch has been closed yet")
    now_ms = live.now_ms()
    found = status_object(weights, live.config.alloc_interval_sec)
    return found | {"now_ms": now_ms, "age_ms": max(0, now_ms - weights.epoch_ms)}


async def hydrator_status(live: Live) -> dict[str, Any]:
    """Return the age of ``ws:last:manifold`` of every instrument in Valkey.

    Raises
    ------
    Recoverable, Fatal
        Valkey does not answer, or refuses.
    """
    names = tuple(sorted({*live.view.universe, *live.view.manifolds}))
    config, found = live.config, await live.mirror.facts(names, live.config.candle_gran)
    now_ms = live.now_ms()
    at = rule_input(LiveFacts(names, valkey=found), now_ms, config, live.facts.limits)
    instruments = {name: _hydrated(name, found.manifolds[name], at) for name in names}
    stamps = [one.as_of_ms for one in found.manifolds.values() if one.as_of_ms is not None]
    newest = max(stamps, default=None)
    return {
        "ts": None if newest is None else newest // 1000,
        "ts_ms": newest,
        "now_ms": now_ms,
        "count": len(stamps),
        "pairs": len(names),
        "market_open": at.market.open,
        "max_age_sec": at.fresh_ms / 1000,
        "stale": [name for name, one in instruments.items() if one["stale"]],
        "instruments": instruments,
        "mirror_lag": live.facts.lag.get("mirror"),
    }


def _hydrated(name: str, found: MirroredManifold, at: Judged) -> dict[str, Any]:
    as_of_ms = found.as_of_ms
    old = as_of_ms is None or at.age_ms(as_of_ms, name) > at.fresh_ms
    return {
        "as_of_ms": as_of_ms,
        "age_ms": None if as_of_ms is None else max(0, at.now_ms - as_of_ms),
        "there": found.there,
        "missing": list(found.missing),
        "stale": old or mirrored_manifold_problem(at, name, found) is not None,
    }


def make_allocator_app(live: Live) -> App:
    """Return the application of ALLOCATOR_STATUS_PORT."""
    app = _app(live, "allocator")

    @app.get("/status")
    async def status(live: LiveDep) -> dict[str, Any]:
        return allocator_status(live)

    return _guarded(app, live)


def make_hydrator_app(live: Live) -> App:
    """Return the application of HYDRATOR_STATUS_PORT."""
    app = _app(live, "hydrator")

    @app.get("/status")
    async def status(live: LiveDep) -> dict[str, Any]:
        return await hydrator_status(live)

    return _guarded(app, live)


def make_metrics_app(live: Live) -> App:
    """Return the application of API_METRICS_PORT: any host name, no token, no account data."""
    app = _app(live, "metrics")

    @app.get("/metrics")
    async def metrics(live: LiveDep) -> Response:
        return Response(metrics_text(live), media_type=CONTENT_TYPE_LATEST)

    @app.get("/healthz")
    async def healthz(live: LiveDep, response: Response) -> dict[str, Any]:
        trouble = live.log_trouble()
        response.status_code = 200 if trouble is None else 503
        return {"healthy": trouble is None, "stuck": [] if trouble is None else [trouble]}

    return cast(App, app)


def _app(live: Live, name: str) -> FastAPI:
    app = FastAPI(
        title=f"{name} status", version=__version__, docs_url=None, redoc_url=None, openapi_url=None
    )
    add_handlers(app)
    app.state.live = live
    return app


def _guarded(app: FastAPI, live: Live) -> App:
    return Guard(app, live.doorkeeper, live.settings.api_max_body_bytes)
