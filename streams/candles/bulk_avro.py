"""Bulk decoding of ``md.candles`` frames into columns.

This is a fast path: frames that are certainly valid candles are decoded here. All other frames are
marked ``SLOW``; the codec and ``candles.rules`` decide about them.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from streams.core.columns import address_of
from streams.core.loader import core
from streams.errors import Fatal
from streams.instants import EARLIEST_MS, GRANULARITY_MS, HOUR_MS, LATEST_MS
from streams.records import schemas
from streams.records.avro.schema import kind_of, named_records
from streams.records.events import CandleSource

PLAIN, SLOW = 0, 1
"""Status of a frame: a valid candle, or left to the codec."""
GRANULARITIES: Final = tuple(GRANULARITY_MS)
SOURCES: Final[tuple[CandleSource, ...]] = get_args(CandleSource)
_OHLC: Final = tuple((name, "double") for name in ("open", "high", "low", "close"))
_LAYOUT: Final = (
    *(("instrument", "string"), ("granularity", "string")),
    *(("bar_ms", "timestamp-millis"), ("as_of_ms", "timestamp-millis")),
    *(("mid", "record"), ("bid", "optional manifold.Ohlc"), ("ask", "optional manifold.Ohlc")),
    *(("mid_derived", "boolean"), ("volume", "optional long")),
    *(("source", "string"), ("complete", "boolean")),
)
"""Fields read by cpp/io/candle_frames.hpp, in order."""


class FrameColumns(NamedTuple):
    """Columns with one element per frame; where ``status`` is ``SLOW`` the others are undefined.

    Attributes
    ----------
    status
        ``PLAIN`` or ``SLOW``.
    bar_ms, as_of_ms
        Start and end of the bar, epoch ms.
    prices
        float64 [12, n]: mid, bid, ask; open, high, low, close each. NaN where a side is absent.
    volume
        Ticks, -1 where null.
    mid_derived
        Whether mid was computed from bid and ask.
    instrument
        Index into ``instruments``.
    granularity
        Index into ``GRANULARITIES``.
    source
        Index into ``SOURCES``.
    instruments
        Distinct instruments of the ``PLAIN`` frames, in order of first occurrence.
    """

    status: NDArray[np.uint8]
    bar_ms: NDArray[np.int64]
    as_of_ms: NDArray[np.int64]
    prices: NDArray[np.float64]
    volume: NDArray[np.int64]
    mid_derived: NDArray[np.bool_]
    instrument: NDArray[np.int32]
    granularity: NDArray[np.uint8]
    source: NDArray[np.uint8]
    instruments: list[bytes]


class BulkCandles:
    """Decodes candle frames written with the newest schema.

    Parameters
    ----------
    schema_id
        ``Codec.schema_id("md.candles", "Candle")``.

    Raises
    ------
    Fatal
        The core cannot be loaded, or does not support the newest schema.
    """

    def __init__(self, schema_id: int) -> None:
        _check_layout()
        self._handle = core().make_frames()
        if not self._handle:
            raise Fatal("out of memory: candles cannot be decoded in bulk")
        self._handle.__python_owns__ = True
        prefix = np.frombuffer(b"\0" + schema_id.to_bytes(4, "big"), np.uint8)
        self._handle.expect(address_of(prefix), HOUR_MS, EARLIEST_MS, LATEST_MS)
        known = True
        for name, length_ms in GRANULARITY_MS.items():
            word = np.frombuffer(name.encode(), np.uint8)
            known &= self._handle.add_granularity(address_of(word), len(word), length_ms)
        for source in SOURCES:
            word = np.frombuffer(source.encode(), np.uint8)
            known &= self._handle.add_source(address_of(word), len(word))
        if not known:
            raise Fatal("the core supports fewer granularities or sources than there are")

    def read(self, data: bytes, offsets: NDArray[np.int64]) -> FrameColumns:
        """Decode concatenated frames.

        Parameters
        ----------
        data
            The concatenated frames.
        offsets
            Start of each frame and end of the last: n + 1 ascending offsets within ``data``.

        Raises
        ------
        Fatal
            The offsets are not ascending or outside ``data``.
        """
        offsets = np.ascontiguousarray(offsets, np.int64)
        n = len(offsets) - 1
        if n < 0 or offsets[0] < 0 or offsets[-1] > len(data) or (np.diff(offsets) < 0).any():
            raise Fatal("the offsets of frames are not ascending or not within their bytes")
        found = _empty(n)
        candles = core().candle_columns(
            *(address_of(found.bar_ms), address_of(found.prices), n, address_of(found.volume)),
            *(address_of(found.mid_derived), address_of(found.status)),
        )
        self._handle.fill(
            candles,
            *(address_of(found.as_of_ms), address_of(found.instrument)),
            *(address_of(found.granularity), address_of(found.source)),
        )
        held = np.frombuffer(data or b"\0", np.uint8)
        self._handle.read(address_of(held), address_of(offsets), n)
        return found._replace(instruments=_instruments(self._handle))


def concatenated(values: list[bytes | None]) -> tuple[bytes, NDArray[np.int64]]:
    """Concatenate record values for ``BulkCandles.read``; None becomes an empty frame.

    An empty frame is never ``PLAIN``, so the codec still distinguishes the two.
    """
    offsets = np.zeros(len(values) + 1, np.int64)
    np.cumsum([len(value or b"") for value in values], out=offsets[1:])
    return b"".join([value or b"" for value in values]), offsets


def _empty(n: int) -> FrameColumns:
    return FrameColumns(
        np.empty(n, np.uint8),
        np.empty(n, np.int64),
        np.empty(n, np.int64),
        np.empty((12, n), np.float64),
        np.empty(n, np.int64),
        np.empty(n, np.bool_),
        np.empty(n, np.int32),
        np.empty(n, np.uint8),
        np.empty(n, np.uint8),
        [],
    )


def _instruments(handle: Any) -> list[bytes]:
    return [
        ctypes.string_at(
            int(handle.instrument_address(place)), int(handle.instrument_length(place))
        )
        for place in range(int(handle.instruments()))
    ]


def _check_layout() -> None:
    schema = schemas.newest("Candle")
    found = tuple((field["name"], _kind(field["type"])) for field in schema["fields"])
    ohlc = named_records(schema)["manifold.Ohlc"]["fields"]
    if found != _LAYOUT or tuple((f["name"], f["type"]) for f in ohlc) != _OHLC:
        raise Fatal("cpp/io/candle_frames.hpp does not read the newest schema of Candle")


def _kind(schema: Any) -> str:
    kind = kind_of(schema)
    return f"optional {kind_of(schema[1])}" if kind == "optional" else kind
