"""Numbers and times as OANDA writes them: decimal strings, RFC 3339 or UNIX seconds."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Any

NS = 1_000_000_000
MONEY = Decimal("0.0001")
RATIO = Decimal("0.00001")
ZERO = Decimal(0)

_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(Z|z|[+-]\d\d:\d\d)\Z"
)
_UNIX = re.compile(r"(\d{1,12})(?:\.(\d{1,9})\d*)?\Z")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)\Z")

TIME_FIELDS = frozenset(
    {
        *("time", "timestamp", "openTime", "closeTime", "createTime", "filledTime", "from", "to"),
        *("cancelledTime", "createdTime", "gtdTime", "lastOrderFillTimestamp", "resettablePLTime"),
    }
)
"""Names of the fields that hold an instant."""


def rfc3339(ns: int) -> str:
    """Write an instant as OANDA does: UTC, nine digits of a second."""
    seconds, rest = divmod(ns, NS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def unix(ns: int) -> str:
    """Write an instant as seconds since 1970 with nine decimal places."""
    seconds, rest = divmod(ns, NS)
    return f"{seconds}.{rest:09d}"


def parse_time(text: str) -> int:
    """Read an instant in either form.

    Raises
    ------
    ValueError
        When it is neither.
    """
    if found := _UNIX.match(text):
        return int(found[1]) * NS + int((found[2] or "").ljust(9, "0"))
    found = _RFC3339.match(text)
    if not found:
        raise ValueError(f"not a time: {text!r}")
    zone = "+00:00" if found[4] in "Zz" else found[4]
    whole = int(datetime.fromisoformat(f"{found[1]}T{found[2]}{zone}").timestamp())
    return whole * NS + int((found[3] or "").ljust(9, "0"))


def with_unix_times(value: Any, name: str = "") -> Any:
    """Return a JSON value with its instants written as UNIX seconds."""
    if isinstance(value, dict):
        return {key: with_unix_times(inner, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [with_unix_times(inner, name) for inner in value]
    if name in TIME_FIELDS and isinstance(value, str):
        return unix(parse_time(value))
    return value


def money(value: Decimal) -> str:
    """Write an amount of the account's currency: four decimal places."""
    return str(rounded(value))


def rounded(value: Decimal) -> Decimal:
    """Round to what an account keeps, and never to a negative zero."""
    return value.quantize(MONEY, ROUND_HALF_EVEN) + ZERO


def ratio(value: Decimal) -> str:
    """Write a share, five decimal places."""
    return str(value.quantize(RATIO, ROUND_HALF_EVEN) + ZERO)


def factor(value: Decimal) -> str:
    """Write a conversion factor: twelve decimal places at most, no zeros behind."""
    text = f"{value.quantize(Decimal('1e-12'), ROUND_HALF_EVEN):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def number(value: Any) -> Decimal | None:
    """Read a number that a client sent, as a string or as a number; None when it is none."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    text = str(value).strip()
    if not _NUMBER.match(text):
        return None
    try:
        return Decimal(text)
    except InvalidOperation:
        return None


def decimals(value: Decimal) -> int:
    """Return how many decimal places a number needs."""
    exponent = value.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def units_text(value: Decimal) -> str:
    """Write units without an exponent or zeros behind."""
    return f"{value.normalize():f}" if value else "0"
