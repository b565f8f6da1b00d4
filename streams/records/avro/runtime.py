"""Run-time functions of the generated encoders and decoders.

Instants, instruments, signatures and configuration ids repeat between records, so their bytes are
kept in bounded caches. A cache does not change results: its keys are the exact bytes or values.
"""

from __future__ import annotations

import operator
import struct
from collections.abc import Callable
from typing import Any, Final, Literal, NoReturn

_CACHE_LIMIT: Final = 16_384
_CACHED_TEXT_BYTES: Final = 64
_CACHED_TEXTS: Final = 16
_LONG_MIN: Final = -(1 << 63)
_LONG_MAX: Final = (1 << 63) - 1
MILLIS_BYTES: Final = 6  # length of the zigzag varint of any instant between 1970-07 and 2039-09


MalformedReason = Literal["truncated", "trailing_bytes", "invalid_value"]


class Malformed(Exception):
    """The bytes are not a record of the schema.

    Attributes
    ----------
    reason
        ``truncated``, ``trailing_bytes`` or ``invalid_value``.
    """

    def __init__(self, reason: MalformedReason, detail: str) -> None:
        super().__init__(detail)
        self.reason: MalformedReason = reason


# -- run-time support of the generated encoders --------------------------------------------------

_text_bytes: dict[str, bytes] = {}
_texts_bytes: dict[tuple[str, ...], bytes] = {}
_long_bytes: dict[int, bytes] = {}


def _varint(number: int) -> bytes:
    rest = (number << 1) ^ (number >> 63)
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


def _put_long(value: object) -> bytes:
    number = operator.index(value)  # type: ignore[arg-type]
    if not _LONG_MIN <= number <= _LONG_MAX:
        raise ValueError(f"{number} does not fit a long")
    encoded = _varint(number)
    if len(_long_bytes) >= _CACHE_LIMIT:
        _long_bytes.clear()
    _long_bytes[number] = encoded
    return encoded


def _put_optional_long(value: object) -> bytes:
    if value is None:
        return b"\0"
    number = operator.index(value)  # type: ignore[arg-type]
    return b"\2" + (_long_bytes.get(number) or _put_long(number))


def _put_text(value: object) -> bytes:
    if not isinstance(value, str):
        raise TypeError(f"expected text, got {value!r}")
    raw = value.encode()
    encoded = _varint(len(raw)) + raw
    if len(encoded) <= _CACHED_TEXT_BYTES:
        if len(_text_bytes) >= _CACHE_LIMIT:
            _text_bytes.clear()
        _text_bytes[value] = encoded
    return encoded


def _put_bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError(f"expected bytes, got {value!r}")
    return _varint(len(value)) + value


def _put_array(items: tuple[Any, ...], put: Callable[[Any], bytes]) -> bytes:
    if not items:
        return b"\0"
    return b"".join((_put_long(len(items)), *map(put, items), b"\0"))


def _put_texts(items: tuple[str, ...]) -> bytes:
    encoded = _texts_bytes.get(items)
    if encoded is None:
        encoded = _put_array(items, _put_text)
        if len(encoded) <= _CACHED_TEXT_BYTES * _CACHED_TEXTS:
            if len(_texts_bytes) >= _CACHE_LIMIT:
                _texts_bytes.clear()
            _texts_bytes[items] = encoded
    return encoded


def _refuse_infinite(*doubles: tuple[str, float]) -> None:
    for name, value in doubles:
        if value - value != 0.0:
            raise ValueError(f"{name} is {value}")


_put_double_raw = struct.Struct("<d").pack


def _put_double(value: float) -> bytes:
    if value - value != 0.0:
        raise ValueError(f"a number is {value}")
    return _put_double_raw(value)


_put_some_double_raw = struct.Struct("<bd").pack
_SOME: Final = 2  # union branch of a present optional value


def _put_optional_double(value: float | None) -> bytes:
    if value is None:
        return b"\0"
    if value - value != 0.0:
        raise ValueError(f"a number is {value}")
    return _put_some_double_raw(_SOME, value)


# -- run-time support of the generated decoders --------------------------------------------------

_texts: dict[bytes, str] = {}
_millis: dict[bytes, int] = {}
_SMALL: Final = tuple((n >> 1) ^ -(n & 1) for n in range(128))


def _get_long(data: bytes, at: int) -> tuple[int, int]:
    shift = number = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift > 63:
            raise Malformed("invalid_value", f"a number at byte {at} is longer than 10 bytes")
    if number >> 64:
        raise Malformed("invalid_value", f"a number at byte {at} does not fit a long")
    return (number >> 1) ^ -(number & 1), at


def _get_millis(data: bytes, at: int) -> tuple[int, int]:
    value, end = _get_long(data, at)
    if end - at == MILLIS_BYTES:
        if len(_millis) >= _CACHE_LIMIT:
            _millis.clear()
        _millis[data[at:end]] = value
    return value, end


def _get_length(data: bytes, at: int) -> tuple[int, int]:
    length, at = _get_long(data, at)
    if length < 0:
        raise Malformed("invalid_value", f"a length at byte {at} is negative")
    if length > len(data) - at:
        raise Malformed(
            "truncated", f"{length} bytes are announced at byte {at}, {len(data) - at} follow"
        )
    return length, at


def _get_count(data: bytes, at: int) -> tuple[int, int]:
    count, at = _get_long(data, at)
    if count < 0:  # a block with its size in bytes
        _, at = _get_long(data, at)
        count = -count
    return count, at


def _get_text(raw: bytes, length: int) -> str:
    if len(raw) != length:
        raise Malformed("truncated", f"a text of {length} bytes has {len(raw)}")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise Malformed("invalid_value", f"a text is not UTF-8: {raw[:64]!r}") from error
    if length <= _CACHED_TEXT_BYTES:
        if len(_texts) >= _CACHE_LIMIT:
            _texts.clear()
        _texts[raw] = text
    return text


def _bad(what: str, value: object, at: int) -> NoReturn:
    raise Malformed("invalid_value", f"{what} is {value} at byte {at}")


def _check_doubles(*doubles: tuple[str, float]) -> None:
    for name, value in doubles:
        if value - value != 0.0:
            raise Malformed("invalid_value", f"{name} is {value}")


def check_end(at: int, size: int) -> None:
    """Raise `Malformed` when reading ended at byte ``at`` of ``size`` and the two differ."""
    if at > size:
        raise Malformed("truncated", f"{at - size} bytes are missing at the end")
    if at < size:
        raise Malformed("trailing_bytes", f"{size - at} bytes stand behind the record")


ENCODER_GLOBALS: Final[dict[str, Any]] = {
    "LG": _long_bytes.get, "L": _put_long, "OL": _put_optional_long,
    "TG": _text_bytes.get, "T": _put_text, "Y": _put_bytes, "D": _put_double,
    "OD": _put_optional_double, "A": _put_array, "AT": _put_texts,
    "B": {True: b"\1", False: b"\0"}, "F": _refuse_infinite, "J": b"".join,
}  # fmt: skip
DECODER_GLOBALS: Final[dict[str, Any]] = {
    "SMALL": _SMALL, "long": _get_long, "millis": _get_millis, "MG": _millis.get,
    "length": _get_length, "count": _get_count, "text": _get_text, "TG": _texts.get,
    "bad": _bad, "doubles": _check_doubles, "end": check_end, "new": tuple.__new__,
}  # fmt: skip
