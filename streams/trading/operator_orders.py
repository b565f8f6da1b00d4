"""Operator orders: records of kind ``order`` in ``ops.control``, each carried out once. Pure.

An order against an open position reduces it, at most to zero. Any other order opens or increases an
operator position, which no backtest run manages: it needs ``OPERATOR_ORDERS=open`` and must pass
every guard except those about the entry of a run. Each order is tried once, soon after it was
given; a restart does not repeat it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final, Literal, NamedTuple

from streams.records.events import Control
from streams.trading.brokers.units import ZERO
from streams.trading.operator_commands import Given

Side = Literal["buy", "sell", "reduce"]

KIND: Final = "order"
SIDES: Final = ("buy", "sell", "reduce")
REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
MOST_UNITS: Final = Decimal(10) ** 12
_UNITS = re.compile(r"\d{1,13}(?:\.\d{1,6})?", re.ASCII)
_NAMES: Final = {"account_id", "request_id", "side", "units"}
_LEVELS: Final = ("stop_loss", "take_profit")


class OperatorOrder(NamedTuple):
    """An operator's order.

    Attributes
    ----------
    given
        Its offset in ``ops.control``, actor, reason and time.
    request_id
        Idempotency key; a second record with this id is the same order.
    side
        ``reduce`` is against the open position, whatever its direction.
    units
        Without a sign.
    stop_loss, take_profit
        Bracket prices of a position that it opens; None for none.
    """

    given: Given
    instrument: str
    request_id: str
    side: Side
    units: Decimal
    stop_loss: float | None = None
    take_profit: float | None = None


def order_record(
    instrument: str,
    account_id: str,
    request_id: str,
    side: Side,
    units: Decimal,
    actor: str,
    reason: str,
    now_ms: int,
    *,
    stop_loss: float | None = None,
    take_profit: float | None = None,
) -> Control:
    """Return the record of an order to an account's executor."""
    content: dict[str, Any] = {
        "account_id": account_id,
        "request_id": request_id,
        "side": side,
        "units": f"{units:f}",
    }
    levels = {"stop_loss": stop_loss, "take_profit": take_profit}
    content |= {name: price for name, price in levels.items() if price is not None}
    value = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return Control(KIND, instrument, value, actor, reason, now_ms)


def order_problem(record: Control) -> str | None:
    """Return what is wrong with an ``order`` record; None when it is valid."""
    if not record.instrument:
        return "order record: it names no instrument"
    try:
        said = json.loads(record.value)
    except ValueError:
        return "order record: its value is not JSON"
    if not isinstance(said, dict) or not _NAMES <= said.keys() <= {*_NAMES, *_LEVELS}:
        return f"order record: it needs {', '.join(sorted(_NAMES))}, and may have both levels"
    if not all(isinstance(said[name], str) and said[name] for name in _NAMES):
        return f"order record: {', '.join(sorted(_NAMES))} are texts"
    if not REQUEST_ID.fullmatch(said["request_id"]):
        return f"order record: the request_id is not {REQUEST_ID.pattern}"
    if said["side"] not in SIDES:
        return f"order record: the side is not one of {', '.join(SIDES)}"
    if not _UNITS.fullmatch(said["units"]) or not ZERO < Decimal(said["units"]) <= MOST_UNITS:
        return "order record: the units are not a decimal number above 0"
    for name in _LEVELS:
        if name in said and not _is_price(said[name]):
            return f"order record: {name} is not a price"
    return None


def _is_price(value: Any) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and value > 0
    )


def orders_of(records: Iterable[tuple[int, Control]], account_id: str) -> list[OperatorOrder]:
    """Return the orders for an account, in the order of ``ops.control``.

    Invalid records are left out; of several with one ``request_id`` the first counts.
    """
    found: dict[str, OperatorOrder] = {}
    for offset, record in records:
        if record.kind != KIND or order_problem(record):
            continue
        said = json.loads(record.value)
        if said["account_id"] != account_id or said["request_id"] in found:
            continue
        given = Given(offset, record.actor, record.reason, record.as_of_ms)
        levels = [None if said.get(name) is None else float(said[name]) for name in _LEVELS]
        found[said["request_id"]] = OperatorOrder(
            given, record.instrument or "", said["request_id"], said["side"],
            Decimal(said["units"]), *levels,
        )  # fmt: skip
    return list(found.values())
