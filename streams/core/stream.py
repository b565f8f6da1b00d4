"""Stream of one instrument: candles in, metrics of the window and manifold ending there out."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streams.core.columns import address_of, columns
from streams.core.layout import METRICS_DTYPE
from streams.core.loader import core
from streams.core.status import OK, WARMING, raise_for
from streams.errors import CARRY_OVER, Fatal

_MAGIC = b"QFHS\x01"
_LENGTH = struct.Struct("<I")


class BarMetrics(NamedTuple):
    """Metrics at a bar, of the window of the last 128 bits and of the manifold.

    Attributes
    ----------
    window_start_ms
        Time stamp of the window's first candle, as in the original system, epoch ms.
    coherence, stability, entropy, rupture, flip_ratio, lambda_hazard
        0..1 (docs/spec/trading-loop.md 1.3 to 1.5).
    collapsed
        ``rupture`` >= 0.5.
    signature
        ``c0.47_s0.87_e0.88`` with the stream's precision.
    count_1h, first_seen_ms
        Windows of the grid with this signature within the lookback, this one included, and the
        time stamp of the oldest of them (1.7).
    ones
        Bits set in the window, 0..128.
    sigma_eff
        Sample standard deviation of the log returns of the last ``count`` candles, per bar (1.8).
    lambda_
        1 - exp(-60 sum R / sum dt) over the grid, 0..1 (1.8).
    count, t0_ms, t1_ms
        Number of candles of the manifold, and the starts of its first and last candle, epoch ms.
    """

    window_start_ms: int
    coherence: float
    stability: float
    entropy: float
    rupture: float
    flip_ratio: float
    lambda_hazard: float
    collapsed: bool
    signature: str
    count_1h: int
    first_seen_ms: int
    ones: int
    sigma_eff: float
    lambda_: float
    count: int  # type: ignore[assignment]  # shadows tuple.count, which is not used here
    t0_ms: int
    t1_ms: int


def format_signature(c: int, s: int, e: int, precision: int) -> str:
    """Return the signature of three buckets, as ``Metrics.signature`` has it.

    Parameters
    ----------
    c, s, e
        Coherence, stability and entropy times 10**precision.
    precision
        Decimals, 0 to 6.
    """
    unit = 10**precision

    def bucket(value: int) -> str:
        whole, rest = divmod(int(value), unit)
        return f"{whole}.{rest:0{precision}d}" if precision else str(whole)

    return f"c{bucket(c)}_s{bucket(s)}_e{bucket(e)}"


class CandleStream:
    """Incremental computation for one instrument.

    docs/spec/records.md, "What a stream record equals in the batch", defines it.

    Not safe for use by several threads at once; ``run`` releases the interpreter lock, so streams
    of different instruments run side by side.

    Parameters
    ----------
    candle_count
        Number of candles in a manifold, 129 to 20000.
    lookback_minutes
        Lookback for repetitions, 1 to 1440 minutes.
    precision
        Decimals of a signature, 0 to 6.

    Raises
    ------
    Fatal
        When a parameter is out of bounds or the core cannot be loaded.
    """

    def __init__(self, candle_count: int, lookback_minutes: int, precision: int) -> None:
        handle = _new_handle()
        status = handle.open(candle_count, lookback_minutes, precision)
        if status != OK:
            raise_for(status, f"engine({candle_count}, {lookback_minutes}, {precision})")
        self._adopt(handle)

    def _adopt(self, handle: Any) -> None:
        bindings = core()
        self._handle = handle
        self._step = handle.step
        self._wire = (ctypes.c_char * 192).from_address(int(bindings.wire_address(handle)))
        self._row_address = int(bindings.row_address(handle))
        self._reported: int = (
            handle.seen()
        )  # number of candles whose rows changed_rows has returned
        self._changed: dict[str, bytes] = {}
        self._ring: int = handle.chunks()  # the largest candle_count so far
        self._follow_parameters()

    def _follow_parameters(self) -> None:
        precision = self._handle.precision()
        chars = 3 * (precision + 3 if precision else 2) + 2
        self._unpack = struct.Struct(f"<q6d?{chars}siqi2di2q").unpack_from

    @property
    def candle_count(self) -> int:
        """Number of candles in a manifold."""
        return int(self._handle.candle_count())

    @property
    def lookback_minutes(self) -> int:
        """Lookback for repetitions, minutes."""
        return int(self._handle.lookback_minutes())

    @property
    def precision(self) -> int:
        """Decimals of a signature."""
        return int(self._handle.precision())

    @property
    def seen(self) -> int:
        """Number of candles processed since the stream began."""
        return int(self._handle.seen())

    @property
    def last_bar_ms(self) -> int | None:
        """Start of the newest candle, epoch ms; None before the first."""
        return int(self._handle.last_bar_ms()) if self._handle.seen() else None

    def step(
        self, bar_ms: int, high: float, low: float, close: float, volume: int
    ) -> BarMetrics | None:
        """Process one complete candle.

        Parameters
        ----------
        bar_ms
            Start of the candle, epoch ms; greater than that of the previous candle.
        high, low, close
            Mid prices.
        volume
            Ticks.

        Returns
        -------
        The metrics of the bar, or None before the 129th candle.

        Raises
        ------
        Fatal
            ``check_candle`` refuses the candle; the stream is unchanged then.
        """
        status = self._step(bar_ms, high, low, close, volume)
        if status:
            if status == WARMING:
                return None
            raise_for(status, f"candle {bar_ms}")
        a, b, c, d, e, f, g, h, signature, i, j, k, m, n, o, p, q = self._unpack(self._wire)
        return BarMetrics(a, b, c, d, e, f, g, h, signature.decode(), i, j, k, m, n, o, p, q)

    def run(
        self,
        bar_ms: ArrayLike,
        high: ArrayLike,
        low: ArrayLike,
        close: ArrayLike,
        volume: ArrayLike,
        out: NDArray[Any] | None = None,
    ) -> NDArray[Any]:
        """Process many candles; results are bit-identical to ``step``.

        Parameters
        ----------
        bar_ms, high, low, close, volume
            Arrays [n] of the values ``step`` takes.
        out
            An array of ``METRICS_DTYPE`` with at least n rows to reuse; a new one by default.

        Returns
        -------
        Rows of ``METRICS_DTYPE`` for the bars that have metrics (all from the stream's 129th on;
        ``t1_ms`` names the bar), in order.

        Raises
        ------
        Fatal
            A candle or an array is invalid; the message names the candle, and the stream is
            unchanged.
        """
        candles = columns(bar_ms, high, low, close, volume)
        length = len(candles.bar_ms)
        if out is None:
            out = np.empty(length, METRICS_DTYPE)
        elif out.dtype != METRICS_DTYPE or len(out) < length or not out.flags.c_contiguous:
            raise Fatal(f"out must be {length} contiguous rows of METRICS_DTYPE")
        status = self._handle.run(*candles.addresses(), length, address_of(out))
        counted = int(self._handle.counted())
        if status != OK:
            raise_for(status, f"candle {counted} of {length} (bar {candles.bar_ms[counted]})")
        return out[:counted]

    def reconfigure(self, candle_count: int, lookback_minutes: int, precision: int) -> None:
        """Change the parameters: stored candles are kept, everything else is recomputed.

        With a larger ``candle_count`` the manifold grows as new candles arrive.

        Raises
        ------
        Fatal
            A parameter is out of bounds; the stream is unchanged then.
        """
        wanted = (candle_count, lookback_minutes, precision)
        if wanted == (self.candle_count, self.lookback_minutes, self.precision):
            return
        # rows written before keep their content, wherever a batch ends
        self._collect()
        status = self._handle.reconfigure(*wanted)
        if status != OK:
            raise_for(status, f"engine{wanted}")
        self._follow_parameters()
        self._ring = max(self._ring, self._handle.chunks())
        self._reported = 0  # the ring may have another length: every candle moves to another row

    def row_names(self) -> list[str]:
        """Return the names of all state rows this stream may have written."""
        return ["head", *(_row_name(slot) for slot in range(self._ring))]

    def changed_rows(self) -> dict[str, bytes]:
        """Return the rows that changed since the last call (since it was restored, at first).

        ``head``, and ``c00`` to ``cNN``: 64 candles each, in a ring that covers ``candle_count``.
        Per candle the head (80 bytes) and one row (0.4 KB on average, 1.2 KB at most) change.
        """
        self._collect()
        changed, self._changed = self._changed, {}
        return changed

    def _collect(self) -> None:
        handle = self._handle
        seen = handle.seen()
        if seen == self._reported:
            return
        self._changed["head"] = self._head()
        oldest = max(self._reported // 64, handle.oldest_kept_chunk())
        ring = handle.chunks()
        for number in range(oldest, handle.newest_chunk() + 1):
            self._changed[_row_name(number % ring)] = self._chunk(number)
        self._reported = seen

    def _head(self) -> bytes:
        return ctypes.string_at(self._row_address, self._handle.write_head())

    def _chunk(self, number: int) -> bytes:
        return ctypes.string_at(self._row_address, self._handle.write_chunk(number))

    @classmethod
    def from_rows(cls, rows: Mapping[str, bytes]) -> CandleStream:
        """Return the stream restored from its rows; further results are bit-identical.

        Raises
        ------
        Fatal
            Rows are missing, truncated, inconsistent, or have another layout or engine version.
        """
        if "head" not in rows:
            raise Fatal(f"the stored engine state has no row head: {CARRY_OVER}")
        handle = _open_head(rows["head"])
        ring, number = (
            handle.chunks(),
            handle.seen() // 64,
        )  # start position, before any candle is read
        while handle.seen() < handle.counted():
            name = _row_name(number % ring)
            if name not in rows:
                raise Fatal(f"the stored engine state has no row '{name}': {CARRY_OVER}")
            _read_chunk(handle, rows[name])
            number += 1
        stream = cls._finished(handle)
        stream._ring = max(stream._ring, len(rows) - 1)
        return stream

    def to_bytes(self) -> bytes:
        """Return the complete state as one versioned byte string (at most 1.2 KB per 64
        candles)."""
        handle = self._handle
        parts = [self._head()]
        if handle.seen():
            numbers = range(handle.oldest_chunk(), handle.newest_chunk() + 1)
            parts += [self._chunk(number) for number in numbers]
        return _MAGIC + b"".join(_LENGTH.pack(len(part)) + part for part in parts)

    @classmethod
    def from_bytes(cls, state: bytes) -> CandleStream:
        """Return the stream of ``to_bytes``.

        Raises
        ------
        Fatal
            The bytes are truncated or have another layout or engine version.
        """
        parts = _parts(state)
        handle = _open_head(next(parts, b""))
        for part in parts:
            _read_chunk(handle, part)
        if handle.seen() != handle.counted():
            raise Fatal(f"the stored engine state is cut short: {CARRY_OVER}")
        return cls._finished(handle)

    @classmethod
    def _finished(cls, handle: Any) -> CandleStream:
        status = handle.finish()
        if status != OK:
            raise_for(status, "engine")
        stream = cls.__new__(cls)
        stream._adopt(handle)
        return stream


def _new_handle() -> Any:
    handle = core().make_handle()
    handle.__python_owns__ = True
    return handle


def _row_name(slot: int) -> str:
    return f"c{slot:02d}"


def _open_head(head: bytes) -> Any:
    handle = _new_handle()
    status = _with_address(head, handle.read_head)
    if status != OK:
        raise_for(status, "engine")
    return handle


def _read_chunk(handle: Any, chunk: bytes) -> None:
    status = _with_address(chunk, handle.read_chunk)
    if status != OK:
        raise_for(status, "engine")


def _with_address(content: bytes, call: Any) -> int:
    copy = ctypes.create_string_buffer(content, len(content))
    return int(call(ctypes.addressof(copy), len(content)))


def _parts(state: bytes) -> Iterator[bytes]:
    if not state.startswith(_MAGIC):
        raise Fatal(f"the stored engine state has another layout: {CARRY_OVER}")
    at = len(_MAGIC)
    while at < len(state):
        if at + 4 > len(state):
            raise Fatal(f"the stored engine state is cut short: {CARRY_OVER}")
        (length,) = _LENGTH.unpack_from(state, at)
        part = state[at + 4 : at + 4 + length]
        if len(part) != length:
            raise Fatal(f"the stored engine state is cut short: {CARRY_OVER}")
        yield part
        at += 4 + length
