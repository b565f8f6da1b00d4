"""Candles, metrics and manifolds."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field

from streams.api.live import LiveDep
from streams.api.responses import ABOUT_INSTRUMENT, FROM_AWAY
from streams.api.shapes import INSTRUMENT_FORM, Shape

router = APIRouter(tags=["market"])

InstrumentQuery = Annotated[
    str, Query(pattern=INSTRUMENT_FORM, description="Such as EUR_USD.", examples=["EUR_USD"])
]
LimitQuery = Annotated[int, Query(ge=1, le=5_000, description="So many of the newest.")]


class HistoryItem(Shape):
    """A manifold of the last 24 hours."""

    as_of_ms: int
    price: float
    coherence: float
    stability: float
    entropy: float
    rupture: float
    lambda_hazard: float
    sigma_eff: float
    lambda_: Annotated[float, Field(alias="lambda")]
    count_1h: int


class ManifoldHistory(Shape):
    """Manifolds, ascending."""

    instrument: str
    items: list[HistoryItem]


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
