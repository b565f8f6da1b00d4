"""The gate of one instrument: bars in, closed trades, evaluations and gate decisions out."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.core.columns import address_of
from streams.core.gate_values import BarColumns, BarInput, Decision, Evaluation, GateEvents, Trade
from streams.core.layout import (
    BAR_STRUCT,
    DAY_ROWS,
    DECISION_DTYPE,
    DECISION_STRUCT,
    EVALUATION_DTYPE,
    EVALUATION_STRUCT,
    RULES_DTYPE,
    SAMPLE_ROWS,
    SAMPLES_OF_ROW,
    TRADE_STRUCT,
    TRADES_DTYPE,
)
from streams.core.loader import core
from streams.core.status import OK, raise_for
from streams.errors import CARRY_OVER, Fatal


class GateStream:
    """Backtest run, evaluations and gate of one instrument (docs/spec/strict-backtest.md 1 to 5).

    Parameters
    ----------
    rules
        Result of ``rules_of``.
    run_number
        Distinguishes the state rows of this run from those of earlier runs.

    Raises
    ------
    Fatal
        When the rules are out of bounds or the core cannot be loaded.
    """

    def __init__(self, rules: NDArray[Any], run_number: int = 0) -> None:
        self._adopt_handle(_new_gate())
        self._handle.set_run_number(run_number)
        self.adopt(rules)

    def _adopt_handle(self, handle: Any) -> None:
        bindings = core()
        self._handle = handle
        self._step = handle.step
        self._bar = (ctypes.c_char * BAR_STRUCT.size).from_address(
            int(bindings.bar_address(handle))
        )
        self._trade_at = _buffer(bindings.trade_address(handle), TRADE_STRUCT.size)
        self._evaluation_at = _buffer(bindings.evaluation_address(handle), EVALUATION_STRUCT.size)
        self._decision_at = _buffer(bindings.decision_address(handle), DECISION_STRUCT.size)
        self._row_address = int(bindings.gate_row_address(handle))
        self._samples_reported: int = handle.samples()
        self._dirty = False

    @property
    def run_number(self) -> int:
        """Number of the run."""
        return int(self._handle.run_number())

    @property
    def decided_ms(self) -> int:
        """``as_of_ms`` of the newest decision, -1 before the first."""
        return int(self._handle.decided_ms())

    @property
    def last_bar_ms(self) -> int:
        """Start of the newest bar, epoch ms; ``NEVER`` before the first."""
        return int(self._handle.last_bar_ms())

    def adopt(self, rules: NDArray[Any]) -> None:
        """Use ``rules`` from the next bar on; the run is not restarted.

        Raises
        ------
        Fatal
            When the rules are out of bounds.
        """
        ctypes.memmove(
            int(core().rules_address(self._handle)), rules.tobytes(), RULES_DTYPE.itemsize
        )
        if self._handle.adopt() != OK:
            raise Fatal("the gate's rules are out of bounds")

    def set_decided_ms(self, as_of_ms: int) -> None:
        """Set the instant up to which bars are already decided."""
        self._handle.set_decided_ms(as_of_ms)
        self._dirty = True

    def step(self, bar: BarInput, *, late: bool = False) -> int:
        """Process one bar; return which of ``TRADED``, ``EVALUATED``, ``DECIDED`` happened.

        Parameters
        ----------
        late
            The bar is older than the last decision and causes none.
        """
        bar_ms, as_of_ms, prices, metrics, count_1h, next_change_ms, flags = bar
        BAR_STRUCT.pack_into(
            self._bar, 0, bar_ms, as_of_ms, *prices, *metrics, count_1h, next_change_ms, flags
        )
        self._dirty = True
        return int(self._step(late))

    def decide_without_candle(
        self, bar_ms: int, as_of_ms: int, next_change_ms: int, flags: int
    ) -> bool:
        """Decide for a bar that has no candle; return False when it was decided before."""
        nothing = (0.0,) * 12, (0.0,) * 7
        BAR_STRUCT.pack_into(
            self._bar, 0, bar_ms, as_of_ms, *nothing[0], *nothing[1], 0, next_change_ms, flags
        )
        self._dirty = True
        return bool(self._handle.decide_without_candle(bar_ms, as_of_ms))

    def trade(self) -> Trade:
        """Return the trade closed by the last step."""
        return Trade(*TRADE_STRUCT.unpack_from(self._trade_at))

    def decision(self) -> Decision:
        """Return the last decision."""
        return Decision(*DECISION_STRUCT.unpack_from(self._decision_at))

    def evaluation(self) -> Evaluation:
        """Return the last evaluation."""
        return evaluation_of(EVALUATION_STRUCT.unpack_from(self._evaluation_at))

    def run(
        self,
        bars: BarColumns,
        events: GateEvents | None = None,
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Process many bars; results are bit-identical to ``step`` and ``decide_without_candle``.

        Parameters
        ----------
        bars
            The bars, in order.
        events
            Order of events; by default one bar after the other, none of them late.

        Returns
        -------
        Trades (``TRADES_DTYPE``), evaluations (``EVALUATION_DTYPE``), decisions
        (``DECISION_DTYPE``).

        Raises
        ------
        Fatal
            An array has another length or is not contiguous.
        """
        bar_ms, prices, metrics, flags, next_change_ms, granularity_ms = bars
        columns = (bar_ms, *prices, metrics, flags, next_change_ms)
        _require(columns, len(bar_ms))
        packed = struct.pack("<16Qq", *map(address_of, columns), granularity_ms)
        ctypes.memmove(int(core().columns_address(self._handle)), packed, len(packed))
        length = len(bar_ms) if events is None else len(events.places)
        # one extra row: the core writes every candidate result before it knows whether it counts
        trades = np.empty(len(bar_ms) + 1, TRADES_DTYPE)
        evaluations = np.empty(len(bar_ms) + 1, EVALUATION_DTYPE)
        decisions = np.empty(length + 1, DECISION_DTYPE)
        handle = self._handle
        out = (address_of(trades), address_of(evaluations), address_of(decisions))
        if events is None:
            handle.run(length, *out)
        else:
            _require(events, length)
            handle.run_events(length, *(address_of(column) for column in events), *out)
        self._dirty = self._dirty or length > 0
        return (
            trades[: handle.traded],
            evaluations[: handle.evaluated],
            decisions[: handle.decided],
        )

    def changed_rows(self) -> dict[str, bytes]:
        """Return the rows that changed since the last call (since it was restored, at first).

        ``head`` (about 0.7 KB) with every bar, ``dNN`` (the closed hours of a UTC day, at most 2.5
        KB) and ``fNNN`` (16 hourly samples, 0.4 KB) once an hour.
        """
        if not self._dirty:
            return {}
        self._dirty = False
        handle = self._handle
        changed = {"head": self._row(handle.write_head())}
        days, newest = handle.take_changed_days(), handle.newest_day()
        for slot in range(DAY_ROWS) if days else ():
            if days >> slot & 1:
                length = handle.write_day(newest - (newest - slot) % DAY_ROWS)
                changed[f"d{slot:02d}"] = self._row(length)
        total = handle.samples()
        if total > self._samples_reported:
            oldest = max(self._samples_reported, total - handle.kept_samples())
            for row in range(oldest // SAMPLES_OF_ROW, (total - 1) // SAMPLES_OF_ROW + 1):
                changed[f"f{row % SAMPLE_ROWS:03d}"] = self._row(handle.write_samples(row))
            self._samples_reported = total
        return changed

    def _row(self, length: int) -> bytes:
        return ctypes.string_at(self._row_address, length)

    @classmethod
    def from_rows(cls, rows: Mapping[str, bytes], rules: NDArray[Any]) -> GateStream:
        """Return the gate restored from its rows; further results are bit-identical.

        Raises
        ------
        Fatal
            Rows are missing, truncated, inconsistent, or have another layout or engine version.
        """
        if "head" not in rows:
            raise Fatal(f"the stored gate has no row head: {CARRY_OVER}")
        handle = _new_gate()
        _read(rows["head"], handle.read_head)
        for name, content in rows.items():
            if name.startswith("d"):
                _read(content, handle.read_day)
            elif name.startswith("f"):
                _read(content, handle.read_samples)
        status = handle.finish()
        if status != OK:
            raise_for(status, "gate")
        stream = cls.__new__(cls)
        stream._adopt_handle(handle)
        stream.adopt(rules)
        return stream


def evaluation_of(fields: tuple[Any, ...]) -> Evaluation:
    """Return the evaluation unpacked from ``EVALUATION_STRUCT``."""
    count, width = fields[-2], 14
    slices = tuple(fields[6 + width * i : 6 + width * (i + 1)] for i in range(count))
    bar_ms, as_of_ms, samples = fields[:3]
    return Evaluation(bar_ms, as_of_ms, samples, fields[3:6], slices, bool(fields[-1]))


def _require(columns: Sequence[NDArray[Any]], length: int) -> None:
    for column in columns:
        if len(column) != length or not column.flags.c_contiguous:
            raise Fatal(f"every column must be contiguous and have length {length}")


def _buffer(address: Any, size: int) -> Any:
    return (ctypes.c_char * size).from_address(int(address))


def _new_gate() -> Any:
    handle = core().make_gate()
    if not handle:
        raise Fatal("out of memory: the gate of another instrument cannot be created")
    handle.__python_owns__ = True
    return handle


def _read(content: bytes, call: Any) -> None:
    copy = ctypes.create_string_buffer(content, len(content))
    status = int(call(ctypes.addressof(copy), len(content)))
    if status != OK:
        raise_for(status, "gate")
