"""What a client asks for, checked as OANDA checks it; a refusal names OANDA's reason.

Measured on practice accounts: a refusal of the order itself is a ``*_ORDER_REJECT`` transaction
with status 400 whose ``rejectReason`` is the ``errorCode``; an unknown instrument or a value that
cannot be read is 400 without any transaction.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from tests.support.v20.account import Account
from tests.support.v20.amounts import decimals, number, parse_time, rfc3339, units_text
from tests.support.v20.instruments import INSTRUMENTS, MAXIMUM_ORDER_UNITS, Instrument

Json = dict[str, Any]

POSITION_FILLS = ("DEFAULT", "OPEN_ONLY", "REDUCE_FIRST", "REDUCE_ONLY")
TRIGGERS = ("DEFAULT", "INVERSE", "BID", "ASK", "MID")
MARKET_TIMES = ("FOK", "IOC")
RESTING_TIMES = ("GTC", "GTD", "GFD")
ENTRY_TIMES = ("GTC", "GTD", "GFD", "FOK", "IOC")
ENTRIES = ("MARKET", "LIMIT", "STOP", "MARKET_IF_TOUCHED")
DEPENDENTS = ("TAKE_PROFIT", "STOP_LOSS", "TRAILING_STOP_LOSS")
LONGEST_CLIENT_ID = 128

MESSAGES = {
    "CLIENT_ORDER_ID_ALREADY_EXISTS": (
        "The client Order ID specified is already assigned to another pending Order"
    ),
    "CLIENT_TRADE_ID_ALREADY_EXISTS": (
        "The client Trade ID specified is already assigned to another open Trade"
    ),
    "CLOSEOUT_POSITION_DOESNT_EXIST": "The Position requested to be closed out does not exist",
    "INSUFFICIENT_MARGIN": "The Account has insufficient margin available",
    "ORDER_DOESNT_EXIST": "The Order specified does not exist",
    "PRICE_PRECISION_EXCEEDED": (
        "The price specified contains more precision than is allowed for the instrument"
    ),
    "TRADE_DOESNT_EXIST": "The Trade specified does not exist",
    "UNITS_INVALID": "Order units specified are invalid",
}


def message(reason: str) -> str:
    """Return a sentence for a reason."""
    return MESSAGES.get(reason) or reason.replace("_", " ").capitalize()


class Reject(Exception):
    """The order is refused for a reason of OANDA's list."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class BadParameter(Exception):
    """A value that cannot be read at all: 400 without a transaction."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Invalid value specified for '{name}'")


def check_order(account: Account, request: Json, now_ns: int, unique_ids: bool) -> Json:
    """Return the fields of the transaction that creates the order.

    Parameters
    ----------
    account
        For the ids in use.
    request
        The order as it was sent.
    now_ns
        The broker's time.
    unique_ids
        Refuse a client id of any order that ever was, not only of a pending one.

    Raises
    ------
    Reject
        OANDA's reason.
    BadParameter
        What cannot be read.
    """
    kind = request.get("type")
    check_mt4(account, request, "clientExtensions", "tradeClientExtensions")
    if kind not in (*ENTRIES, *DEPENDENTS):
        raise BadParameter("order.type")
    if kind in DEPENDENTS:
        fields = _dependent(account, request, kind, now_ns)
    else:
        fields = _entry(account, request, kind, now_ns)
    extensions = _extensions(request.get("clientExtensions"), "CLIENT_ORDER")
    if extensions:
        check_unused(account, extensions.get("id"), unique_ids)
        fields["clientExtensions"] = extensions
    return fields


def check_mt4(account: Account, request: Json, *names: str) -> None:
    """Refuse client extensions in an account of MT4, which "must not set, modify or delete" them.

    Raises
    ------
    Reject
        When they are there; that the reason is this one is our guess.
    """
    if account.mt4_account_id and any(request.get(name) is not None for name in names):
        raise Reject("TRADE_ON_FILL_CLIENT_EXTENSIONS_NOT_SUPPORTED")


def check_unused(account: Account, client_id: str | None, unique_ids: bool) -> None:
    """Refuse a client order id that is in use.

    Raises
    ------
    Reject
        When it is.
    """
    if client_id is None:
        return
    used = account.orders if unique_ids else account.pending
    if any(o.get("clientExtensions", {}).get("id") == client_id for o in used.values()):
        raise Reject("CLIENT_ORDER_ID_ALREADY_EXISTS")


def _entry(account: Account, request: Json, kind: str, now_ns: int) -> Json:
    instrument = _instrument(request)
    fields: Json = {"instrument": instrument.name, "units": _units(request, instrument)}
    if kind != "MARKET":
        fields["price"] = _price(instrument, request.get("price"), "PRICE")
    if request.get("priceBound") is not None:
        bound = request["priceBound"]
        fields["priceBound"] = _price(instrument, bound, "PRICE_BOUND")
    times = MARKET_TIMES if kind == "MARKET" else ENTRY_TIMES
    default = "FOK" if kind == "MARKET" else "GTC"
    fields |= _time_in_force(request, times, default, "", now_ns)
    fields["positionFill"] = request.get("positionFill", "DEFAULT")
    if fields["positionFill"] not in POSITION_FILLS:
        raise BadParameter("order.positionFill")
    if kind != "MARKET":
        fields["triggerCondition"] = _trigger(request)
    for name in ("takeProfitOnFill", "stopLossOnFill", "trailingStopLossOnFill"):
        if request.get(name) is not None:
            fields[name] = check_details(
                instrument, request[name], name, now_ns, account.guaranteed_stops
            )
    trade = _extensions(request.get("tradeClientExtensions"), "CLIENT_TRADE")
    if trade:
        if "id" in trade and account.open_by_client_id(trade["id"]):
            raise Reject("CLIENT_TRADE_ID_ALREADY_EXISTS")
        fields["tradeClientExtensions"] = trade
    return fields


def _dependent(account: Account, request: Json, kind: str, now_ns: int) -> Json:
    if request.get("tradeID") is None and request.get("clientTradeID") is None:
        raise Reject("TRADE_ID_UNSPECIFIED")
    trade = account.open.get(str(request.get("tradeID")))
    if trade is None and isinstance(request.get("clientTradeID"), str):
        trade = account.open_by_client_id(request["clientTradeID"])
    if trade is None:
        raise Reject("TRADE_DOESNT_EXIST")
    if kind in trade.orders:
        raise Reject(f"{kind}_ORDER_ALREADY_EXISTS")
    instrument = INSTRUMENTS[trade.instrument]
    fields: Json = {"tradeID": trade.id}
    if trade.client_id:
        fields["clientTradeID"] = trade.client_id
    if kind == "TRAILING_STOP_LOSS":
        fields["distance"] = _distance(instrument, request, "PRICE_")
    else:
        fields["price"] = _price(instrument, request.get("price"), "PRICE")
    fields |= _time_in_force(request, RESTING_TIMES, "GTC", "", now_ns)
    fields["triggerCondition"] = _trigger(request)
    return fields


def check_details(
    instrument: Instrument, details: Any, name: str, now_ns: int, guaranteed_stops: bool
) -> Json:
    """Return a bracket's details as a transaction carries them.

    Raises
    ------
    Reject
        OANDA's reason.
    BadParameter
        When it is no object.
    """
    if not isinstance(details, dict):
        raise BadParameter(f"order.{name}")
    kinds = {
        "takeProfitOnFill": "TAKE_PROFIT",
        "stopLossOnFill": "STOP_LOSS",
        "trailingStopLossOnFill": "TRAILING_STOP_LOSS",
    }
    prefix, trailing = f"{kinds[name]}_ON_FILL_", name == "trailingStopLossOnFill"
    fields: Json = {}
    has_distance = details.get("distance") is not None and name == "stopLossOnFill"
    if has_distance or trailing:
        if details.get("price") is not None:
            raise Reject(f"{prefix}PRICE_AND_DISTANCE_BOTH_SPECIFIED")
        fields["distance"] = _distance(
            instrument, details, f"{prefix}PRICE_" if trailing else prefix
        )
    else:
        fields["price"] = _price(instrument, details.get("price"), f"{prefix}PRICE")
    fields |= _time_in_force(details, RESTING_TIMES, "GTC", prefix, now_ns)
    if name == "stopLossOnFill" and details.get("guaranteed"):
        if not guaranteed_stops:
            raise Reject(f"{prefix}GUARANTEED_NOT_ALLOWED")
        fields["guaranteed"] = True
    extensions = _extensions(details.get("clientExtensions"), f"{prefix}CLIENT_ORDER")
    if extensions:
        fields["clientExtensions"] = extensions
    return fields


def _distance(instrument: Instrument, details: Json, prefix: str) -> str:
    if details.get("distance") is None:
        raise Reject(f"{prefix}DISTANCE_MISSING")
    distance = number(details["distance"])
    if distance is None or distance <= 0:
        raise Reject(f"{prefix}DISTANCE_INVALID")
    if decimals(distance) > instrument.precision:
        raise Reject(f"{prefix}DISTANCE_PRECISION_EXCEEDED")
    return instrument.text(distance)


def _instrument(request: Json) -> Instrument:
    found = INSTRUMENTS.get(str(request.get("instrument")))
    if found is None:
        raise BadParameter("order.instrument")
    return found


def _units(request: Json, instrument: Instrument) -> str:
    if request.get("units") is None:
        raise Reject("UNITS_MISSING")
    units = number(request["units"])
    if units is None:
        raise BadParameter("order.units")
    if units == 0:
        raise Reject("UNITS_INVALID")
    if decimals(units) > instrument.units_digits:
        raise Reject("UNITS_PRECISION_EXCEEDED")
    if abs(units) > MAXIMUM_ORDER_UNITS:
        raise Reject("UNITS_LIMIT_EXCEEDED")
    return units_text(units)


def _price(instrument: Instrument, sent: Any, prefix: str) -> str:
    if sent is None:
        raise Reject(f"{prefix}_MISSING")
    price = number(sent)
    if price is None or price <= 0:
        raise Reject(f"{prefix}_INVALID")
    if decimals(price) > instrument.precision:
        raise Reject(f"{prefix}_PRECISION_EXCEEDED")
    return instrument.text(price)


def _time_in_force(
    request: Json, allowed: tuple[str, ...], default: str, prefix: str, now_ns: int
) -> Json:
    kept = request.get("timeInForce", default)
    if kept not in ENTRY_TIMES:
        raise BadParameter("order.timeInForce")
    if kept not in allowed:
        raise Reject(f"{prefix}TIME_IN_FORCE_INVALID")
    if kept != "GTD":
        return {"timeInForce": kept}
    stem = prefix or "TIME_IN_FORCE_"
    if request.get("gtdTime") is None:
        raise Reject(f"{stem}GTD_TIMESTAMP_MISSING")
    try:
        until = parse_time(str(request["gtdTime"]))
    except ValueError:
        raise BadParameter("order.gtdTime") from None
    if until <= now_ns:
        raise Reject(f"{stem}GTD_TIMESTAMP_IN_PAST")
    return {"timeInForce": kept, "gtdTime": rfc3339(until)}


def _trigger(request: Json) -> str:
    kept = request.get("triggerCondition", "DEFAULT")
    if kept not in TRIGGERS:
        raise BadParameter("order.triggerCondition")
    return str(kept)


def _extensions(sent: Any, prefix: str) -> Json:
    if sent is None:
        return {}
    if not isinstance(sent, dict):
        raise BadParameter("order.clientExtensions")
    for name in ("id", "tag", "comment"):
        text = sent.get(name)
        if text is not None and not (isinstance(text, str) and 0 < len(text) <= LONGEST_CLIENT_ID):
            raise Reject(f"{prefix}_{name.upper()}_INVALID")
    return {k: v for k, v in sent.items() if k in ("id", "tag", "comment")}


def check_extensions(sent: Any, prefix: str) -> Json:
    """Return client extensions, checked.

    Raises
    ------
    Reject
        OANDA's reason.
    """
    found = _extensions(sent, prefix)
    if not found:
        raise Reject("CLIENT_EXTENSIONS_DATA_MISSING")
    return found


def echo(request: Json) -> Json:
    """Return of a refused request what a reject transaction can carry."""
    texts = ("instrument", "units", "price", "timeInForce", "positionFill", "tradeID")
    made: Json = {
        n: str(request[n]) for n in texts if isinstance(request.get(n), (str, int, float))
    }
    for name in ("clientExtensions", "tradeClientExtensions"):
        sent = request.get(name)
        if isinstance(sent, dict):
            kept = {k: v for k, v in sent.items() if isinstance(v, str)}
            made[name] = kept
    return made


def closing_units(sent: Any, held: Decimal) -> Decimal | None:
    """Return the units that ``ALL`` or a number asks to close; None for ``NONE``.

    Raises
    ------
    BadParameter
        When it is neither.
    """
    if sent == "NONE" or sent is None:
        return None
    if sent == "ALL":
        return held
    units = number(sent)
    if units is None or units <= 0:
        raise BadParameter("units")
    return units
