"""Operator orders: sent to the executor through ``ops.control``, and their results."""

from __future__ import annotations

import secrets
from decimal import Decimal
from typing import Annotated, NamedTuple, Protocol

from fastapi import APIRouter, Query
from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from streams.monitoring.executor_status import OrderState, Shape
from streams.service.calls import Call, CallDep
from streams.service.errors import ApiError
from streams.service.live import Live, LiveDep
from streams.service.responses import ABOUT_INSTRUMENT, CONFLICTS, FROM_AWAY
from streams.service.routes_trading import executor_account_id
from streams.service.shapes import INSTRUMENT_FORM, AnySpelling, Said
from streams.trading.operator_orders import (
    MOST_UNITS,
    REQUEST_ID,
    OperatorOrder,
    Side,
    order_record,
    orders_of,
)

router = APIRouter(tags=["trading"])

REQUEST_FORM = f"^{REQUEST_ID.pattern}$"
RequestId = Annotated[
    str,
    Field(
        pattern=REQUEST_FORM,
        description="Idempotency key: a repeated call with it is the same order. Generated if "
        "missing.",
        examples=["8f2c1a"],
    ),
]
_STEP = Decimal("0.000001")


def _is_number(given: object) -> object:
    if isinstance(given, str | bool):
        raise ValueError("is a number")
    return given


def _in_steps(units: Decimal) -> Decimal:
    rounded = units.quantize(_STEP)
    # rounding error of a float with six decimals
    if abs(units - rounded) > abs(units) * Decimal("1e-15"):
        raise ValueError("has six decimals at most")
    return rounded


def _units_schema(least: float, **more: object) -> WithJsonSchema:
    # the documented form; a string would be a second notation of the same number
    return WithJsonSchema(
        {"type": "number", "minimum": least, "maximum": float(MOST_UNITS), "multipleOf": 0.000001}
        | more
    )


Units = Annotated[
    Decimal,
    BeforeValidator(_is_number),
    Field(ge=_STEP, le=MOST_UNITS, allow_inf_nan=False),
    AfterValidator(_in_steps),
    _units_schema(0.000001, examples=[1000]),
]
Price = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class AboutOrder(Said):
    """Units to buy (above 0) or sell (below 0), actor and reason."""

    instrument: Annotated[str, Field(pattern=INSTRUMENT_FORM, examples=["EUR_USD"]), AnySpelling]
    units: Annotated[
        Decimal,
        BeforeValidator(_is_number),
        Field(ge=-MOST_UNITS, le=MOST_UNITS, allow_inf_nan=False),
        AfterValidator(_in_steps),
        _units_schema(-float(MOST_UNITS), examples=[-1000], **{"not": {"const": 0}}),
    ]
    stop_loss: Annotated[
        Price | None, Field(description="Price, for a position that the order opens.")
    ] = None
    take_profit: Annotated[Price | None, Field(description="Likewise.")] = None
    request_id: RequestId | None = None


class CommandGiven(Shape):
    """The command is in ``ops.control``; ``detail`` says so when it changes nothing."""

    offset: int
    detail: str
    request_id: Annotated[
        str | None, Field(description="Id of an order: GET /api/order returns its result.")
    ] = None


class Asked(NamedTuple):
    """An order as requested."""

    instrument: str
    side: Side
    units: Decimal
    actor: str
    reason: str
    request_id: str | None
    stop_loss: float | None = None
    take_profit: float | None = None


class _AboutUnits(Protocol):
    instrument: str
    actor: str
    reason: str
    request_id: str | None


def asked_of(given: _AboutUnits, side: Side, units: Decimal) -> Asked:
    """Return the order of a call."""
    return Asked(
        given.instrument, side, units, given.actor, given.reason, given.request_id,
        getattr(given, "stop_loss", None), getattr(given, "take_profit", None),
    )  # fmt: skip


@router.post("/api/order", responses=CONFLICTS | ABOUT_INSTRUMENT)
async def order(given: AboutOrder, live: LiveDep, call: CallDep) -> CommandGiven:
    """Send an order to the executor, which applies every guard.

    An order against an open position reduces it, at most to zero. Any other order is refused with
    409, unless the executor has OPERATOR_ORDERS=open: then it opens or increases an operator
    position, which no backtest run manages, within all limits. An order is carried out within a
    minute or not at all.
    """
    if not given.units:
        raise ApiError(400, "invalid_request", "body.units: 0 buys and sells nothing")
    side: Side = "buy" if given.units > 0 else "sell"
    return await give_order(asked_of(given, side, abs(given.units)), live, call)


@router.get("/api/order", responses=ABOUT_INSTRUMENT | FROM_AWAY)
async def order_state(
    live: LiveDep, request_id: Annotated[str, Query(pattern=REQUEST_FORM, examples=["8f2c1a"])]
) -> OrderState:
    """The result of an operator's order; 404 when the log has none with that id."""
    account_id = executor_account_id(live)
    status = live.facts.executor.status
    shown = {one.request_id: one for one in status.orders} if status else {}
    if request_id in shown:
        return shown[request_id]
    found = _known(live, account_id).get(request_id)
    if found is None:
        raise ApiError(404, "unknown_request", f"the log has no order with the id {request_id}")
    return OrderState(
        request_id=request_id,
        instrument=found.instrument,
        side=found.side,
        units=float(found.units),
        actor=found.given.actor,
        reason=found.given.reason,
        at_ms=found.given.at_ms,
        status="waiting",
        detail="the executor has not reported it yet, or it is older than those reported",
    )


async def give_order(asked: Asked, live: Live, call: Call) -> CommandGiven:
    """Write an order into ``ops.control``, unless it exists or would certainly be refused.

    Raises
    ------
    ApiError
        404, 409, 503: see ``order``.
    """
    account_id = executor_account_id(live)
    live.require_instrument(asked.instrument)
    before = _known(live, account_id).get(asked.request_id or "")
    if before is not None:
        return _again(before, asked)
    _require_allowed(asked, live)
    request_id = asked.request_id or secrets.token_hex(8)
    record = order_record(
        asked.instrument, account_id, request_id, asked.side, asked.units, asked.actor,
        asked.reason, live.now_ms(), stop_loss=asked.stop_loss, take_profit=asked.take_profit,
    )  # fmt: skip
    offset = await call.say(record)
    detail = (
        f"the order is in ops.control at offset {offset}, and the executor carries it out or "
        f"refuses it when it reads it ({live.facts.executor.detail})"
    )
    return CommandGiven(offset=offset, detail=detail, request_id=request_id)


def _known(live: Live, account_id: str) -> dict[str, OperatorOrder]:
    return {one.request_id: one for one in orders_of(live.view.control.records, account_id)}


def _again(before: OperatorOrder, asked: Asked) -> CommandGiven:
    same = (before.instrument, before.side, before.units, before.stop_loss, before.take_profit)
    if same != (asked.instrument, asked.side, asked.units, asked.stop_loss, asked.take_profit):
        raise ApiError(
            409,
            "request_id_used",
            f"{before.request_id} is the id of another order; choose another id",
        )
    detail = f"this order was given already; it is in ops.control at offset {before.given.offset}"
    return CommandGiven(offset=before.given.offset, detail=detail, request_id=before.request_id)


def _require_allowed(asked: Asked, live: Live) -> None:
    """Refuse an order that the executor, as last seen, would refuse in any case."""
    status = live.facts.executor.status
    if status is None:
        return
    if status.read_only or status.dry_run:
        raise ApiError(409, "read_only", "READ_ONLY or DRY_RUN_TRADES is set: nothing is sent")
    held = status.joined.get(asked.instrument)
    direction = {"buy": 1, "sell": -1}.get(asked.side, -held.direction if held else 0)
    if held is not None and held.direction == -direction:
        if asked.stop_loss is not None or asked.take_profit is not None:
            raise ApiError(
                400, "invalid_request", "a reduction has no stop_loss and no take_profit"
            )
        return
    name = asked.instrument
    said = "no position of the executor" if held is None else "the position has the same direction"
    if asked.side == "reduce":
        raise ApiError(409, "nothing_held", f"{said} in {name}: there is nothing to reduce")
    if status.operator_orders != "open":
        raise ApiError(
            409,
            "reduce_only",
            f"{said} in {name}, and operators' orders may only reduce; an executor with "
            "OPERATOR_ORDERS=open opens and increases too",
        )
