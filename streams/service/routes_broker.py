"""The account at the broker: from OANDA where configured, else from the executor.

``source`` names the origin. If no source answers, the response is a 503 with the reason, never an
empty one.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict

from streams.candles.mid_price import mid_price
from streams.monitoring.describe import spread_bps
from streams.monitoring.executor_status import Shape
from streams.oanda.errors import RequestRefused
from streams.service.errors import ApiError
from streams.service.live import Live, LiveDep
from streams.service.responses import ABOUT_INSTRUMENT, FROM_AWAY, READS
from streams.service.routes_trading import executor_account
from streams.service.shapes import INSTRUMENT_FORM, AnySpelling

router = APIRouter(tags=["broker"])

MOST_INSTRUMENTS = 100
Source = Literal["oanda", "executor", "candles", "universe"]


class BrokerAnswer(BaseModel):
    """The broker's answer unchanged, and its source."""

    model_config = ConfigDict(extra="allow", frozen=True)

    source: Source
    ts_ms: int


class AccountAnswer(BrokerAnswer):
    """The account."""

    account: dict[str, Any]


class PositionsAnswer(BrokerAnswer):
    """The open positions."""

    positions: list[dict[str, Any]]


class TradesAnswer(BrokerAnswer):
    """The open trades."""

    trades: list[dict[str, Any]]


class InstrumentsAnswer(BrokerAnswer):
    """The tradeable instruments; only the universe if the log is the only source."""

    instruments: list[dict[str, Any]]


class PriceShape(Shape):
    """A price and its time."""

    bid: float
    ask: float
    mid: float
    spread_bps: float
    ts_ms: int | None


class Pricing(Shape):
    """Prices by instrument; an instrument without a two-sided price is left out."""

    source: Source
    ts_ms: int
    prices: dict[str, PriceShape]


def _passed(content: Any, live: Live) -> dict[str, Any]:
    return {**content, "source": "oanda", "ts_ms": live.now_ms()}


@router.get("/api/oanda/account", responses=READS | FROM_AWAY)
async def account(live: LiveDep) -> AccountAnswer:
    """The account."""
    if live.oanda.configured:
        return AccountAnswer(**_passed(await live.oanda.raw("summary"), live))
    found = executor_account(live)
    status = live.facts.executor.status
    assert status is not None  # it has an account
    named = {"id": status.account_id, "venue": status.venue, "mode": status.mode}
    return AccountAnswer(source="executor", ts_ms=status.ts_ms, account=named | found.model_dump())


@router.get("/api/oanda/positions", responses=READS | FROM_AWAY)
async def positions(live: LiveDep) -> PositionsAnswer:
    """The open positions."""
    if live.oanda.configured:
        return PositionsAnswer(**_passed(await live.oanda.raw("openPositions"), live))
    status = live.facts.executor.status
    if status is None:
        raise ApiError(503, "no_executor", live.facts.executor.detail)
    return PositionsAnswer(
        source="executor",
        ts_ms=status.ts_ms,
        positions=[one.model_dump() for one in status.positions],
    )


@router.get("/api/oanda/open-trades", responses=READS | FROM_AWAY)
@router.get("/api/trades/open", responses=READS | FROM_AWAY)
async def open_trades(live: LiveDep) -> TradesAnswer:
    """The open trades; the paper account nets them into positions, one trade per instrument."""
    if live.oanda.configured:
        return TradesAnswer(**_passed(await live.oanda.raw("openTrades"), live))
    status = live.facts.executor.status
    if status is None:
        raise ApiError(503, "no_executor", live.facts.executor.detail)
    return TradesAnswer(
        source="executor",
        ts_ms=status.ts_ms,
        trades=[one.model_dump() for one in status.positions if one.units],
    )


@router.get("/api/oanda/instruments", responses=READS | FROM_AWAY)
async def instruments(live: LiveDep) -> InstrumentsAnswer:
    """The tradeable instruments."""
    if live.oanda.configured:
        return InstrumentsAnswer(**_passed(await live.oanda.raw("instruments"), live))
    return InstrumentsAnswer(
        source="universe",
        ts_ms=live.now_ms(),
        instruments=[{"name": name, "type": "CURRENCY"} for name in live.view.universe],
    )


@router.get("/api/oanda/pricing", responses=ABOUT_INSTRUMENT | FROM_AWAY)
async def pricing(
    live: LiveDep,
    instruments: Annotated[
        str,
        Query(
            pattern=INSTRUMENT_FORM[:-1] + "(," + INSTRUMENT_FORM[1:-1] + ")*$",
            max_length=2_000,
            description="Comma separated.",
            examples=["EUR_USD,USD_JPY"],
        ),
        AnySpelling,
    ],
) -> Pricing:
    """Current bid and ask; without OANDA those at the end of the last candles, with their time."""
    names = list(dict.fromkeys(instruments.split(",")))
    if len(names) > MOST_INSTRUMENTS:
        raise ApiError(400, "invalid_request", f"at most {MOST_INSTRUMENTS} instruments")
    if not live.oanda.configured:
        for name in names:
            live.require_instrument(name)
        return Pricing(source="candles", ts_ms=live.now_ms(), prices=_of_candles(live, names))
    try:
        found = await live.oanda.prices(names)
    except RequestRefused as error:
        if "instrument" not in str(error).lower():
            raise
        raise ApiError(
            400, "unknown_instrument", f"OANDA refuses {instruments}: {error}"
        ) from error
    prices = {one.instrument: _price(one.bid, one.ask, one.time_ms) for one in found}
    return Pricing(source="oanda", ts_ms=live.now_ms(), prices=prices)


def _of_candles(live: Live, names: list[str]) -> dict[str, PriceShape]:
    found = {}
    for name in names:
        candle = live.view.candles.get(name)
        if candle is not None and candle.bid is not None and candle.ask is not None:
            found[name] = _price(candle.bid.close, candle.ask.close, candle.as_of_ms)
    return found


def _price(bid: float, ask: float, ts_ms: int | None) -> PriceShape:
    return PriceShape(
        bid=bid, ask=ask, mid=mid_price(bid, ask), spread_bps=spread_bps(bid, ask), ts_ms=ts_ms
    )
