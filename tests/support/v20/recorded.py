"""Of OANDA's recorded answers only the form counts: they are older than its description.

A field that an answer of ours and the recorded one of the same endpoint both have must be of one
JSON type, and a number or a time in a string if it is one there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

DECIMAL = r"^-?[0-9]+(\.[0-9]+)?$"
TIME = r"^([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})|[0-9.]+)$"

NAMES = {
    "instruments/{instrument}/candles": {"GET": "instruments.v3_instruments_instrument_candles"},
    "accounts": {"GET": "accounts.v3_accounts"},
    "accounts/{accountID}": {"GET": "accounts.v3_account_by_accountID"},
    "accounts/{accountID}/summary": {"GET": "accounts.v3_account_by_accountID_summary"},
    "accounts/{accountID}/instruments": {"GET": "accounts.v3_account_by_accountID_instruments"},
    "accounts/{accountID}/configuration": {
        "PATCH": "accounts.v3_accounts_accountID_account_config"
    },
    "accounts/{accountID}/changes": {"GET": "accounts.v3_accounts_accountID_account_changes"},
    "accounts/{accountID}/orders": {
        "POST": "orders.v3_accounts_accountID_orders_create",
        "GET": "orders.v3_accounts_accountID_orders_list",
    },
    "accounts/{accountID}/pendingOrders": {"GET": "orders.v3_accounts_accountID_orders_pending"},
    "accounts/{accountID}/orders/{orderSpecifier}": {
        "GET": "orders.v3_accounts_accountID_order_details",
        "PUT": "orders.v3_accounts_accountID_order_replace",
    },
    "accounts/{accountID}/orders/{orderSpecifier}/cancel": {
        "PUT": "orders.v3_accounts_accountID_order_cancel"
    },
    "accounts/{accountID}/orders/{orderSpecifier}/clientExtensions": {
        "PUT": "orders.v3_accounts_accountID_order_clientextensions"
    },
    "accounts/{accountID}/positions": {"GET": "positions.v3_accounts_accountID_positions"},
    "accounts/{accountID}/openPositions": {"GET": "positions.v3_accounts_accountID_openpositions"},
    "accounts/{accountID}/positions/{instrument}": {
        "GET": "positions.v3_accounts_accountID_positiondetails"
    },
    "accounts/{accountID}/positions/{instrument}/close": {
        "PUT": "positions.v3_accounts_accountID_position_close"
    },
    "accounts/{accountID}/pricing": {"GET": "pricing.v3_accounts_accountID_pricing"},
    "accounts/{accountID}/trades": {"GET": "trades.v3_accounts_accountID_trades"},
    "accounts/{accountID}/openTrades": {"GET": "trades.v3_accounts_accountID_opentrades"},
    "accounts/{accountID}/trades/{tradeSpecifier}": {
        "GET": "trades.v3_account_accountID_trades_details"
    },
    "accounts/{accountID}/trades/{tradeSpecifier}/close": {
        "PUT": "trades.v3_account_accountID_trades_close"
    },
    "accounts/{accountID}/trades/{tradeSpecifier}/clientExtensions": {
        "PUT": "trades.v3_account_accountID_trades_cltext"
    },
    "accounts/{accountID}/trades/{tradeSpecifier}/orders": {
        "PUT": "trades.v3_account_accountID_trades_crcdo"
    },
    "accounts/{accountID}/transactions": {"GET": "transactions.v3_accounts_accountID_transactions"},
    "accounts/{accountID}/transactions/{transactionID}": {
        "GET": "transactions.v3_accounts_transaction_details"
    },
    "accounts/{accountID}/transactions/idrange": {
        "GET": "transactions.v3_accounts_transaction_idrange"
    },
    "accounts/{accountID}/transactions/sinceid": {
        "GET": "transactions.v3_accounts_transaction_sinceid"
    },
}
"""Path -> method -> name of the recorded answer."""

LINES = {
    "pricing/stream": "pricing.v3_accounts_accountID_pricing_stream",
    "transactions/stream": "transactions.v3_accounts_transactions_stream",
}
"""Stream -> name of its recorded lines."""

ALL_UNITS = ("ALL", "NONE")
"""What may stand for a number of units."""

REDACTED = ("<ACCOUNT>", "<USERID>")
"""What stands in a recording where a value was taken out."""


Form = dict[str, set[str]]


def form_of(value: Any) -> Form:
    """Return the kinds of value at each place; places in lists are one, types are apart."""
    found: Form = {}

    def look(inner: Any, place: str) -> None:
        if isinstance(inner, dict):
            kind = inner.get("type")
            here = f"{place}<{kind}>" if isinstance(kind, str) and kind.isupper() else place
            found.setdefault(place, set()).add("object")
            for name, each in inner.items():
                look(each, f"{here}.{name}")
        elif isinstance(inner, list):
            found.setdefault(place, set()).add("list")
            for each in inner:
                look(each, f"{place}[]")
        elif inner not in REDACTED:
            found.setdefault(place, set()).add(_kind(inner))

    look(value, "")
    return found


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    if value is None:
        return "null"
    if value in ALL_UNITS or re.fullmatch(DECIMAL, value):
        return "number in a string"
    return "time" if re.fullmatch(TIME, value) else "text"


def form_faults(recorded: Form, ours: Form) -> Iterator[str]:
    """Yield where our form differs from the recorded one at a place that both have."""
    for place, kinds in ours.items():
        known = recorded.get(place)
        if known is not None and not kinds <= known:
            yield f"{place or 'body'}: {sorted(kinds - known)} where {sorted(known)} was recorded"
