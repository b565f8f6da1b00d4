"""Fold many candles of one instrument at once: the core's ``run`` instead of its ``step``.

A fold does for arrays what the stages ``signals`` and ``gates`` do for records, with the same core,
without encoding, headers and state rows. Its output is equal bit for bit, which a test checks.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.candles.calendar import calendar_of
from streams.candles.columns import NO_VOLUME, CandleColumns
from streams.candles.sessions import session_states
from streams.config.run_parameters import params_id
from streams.config.settings import Config
from streams.core import METRICS_DTYPE, CandleStream
from streams.core.gate import GateStream
from streams.core.gate_values import BarColumns, GateEvents, Trade
from streams.core.layout import (
    DECISION_DTYPE,
    EVALUATION_DTYPE,
    MARKET_OPEN,
    NEAR_CLOSE,
    OPEN,
    QUOTED,
    TRADES_DTYPE,
    rules_of,
)
from streams.pipeline.gate_records import Scope, trade_record
from streams.pipeline.gates import HISTORY_MS
from streams.records.events import SimulatedTrade

NO_VOLUME_SAID = "without volume (ALLOW_MISSING_VOLUME=1 accepts and flags them)"
NOT_NEWER = "not newer than one before: repeated, conflicting or out of order"


class Watermarks(NamedTuple):
    """Watermarks that cover the instrument: their times, and the index of the candle after each."""

    as_of_ms: NDArray[np.int64]
    before: NDArray[np.int64]


class GateOutput(NamedTuple):
    """The output of a segment of candles."""

    signals: int
    metrics: NDArray[Any]
    trades: NDArray[Any]
    evaluations: NDArray[Any]
    decisions: NDArray[Any]


class Segment(NamedTuple):
    """The output of a segment, and the candles behind it.

    Attributes
    ----------
    derived
        The output.
    bars
        The candles with metrics.
    indices
        Their indices in the candles of the segment.
    before_ms
        Start of the accepted candle before each, epoch ms.
    late
        1 for a row that arrived after a watermark covering it.
    """

    derived: GateOutput
    bars: CandleColumns
    indices: NDArray[np.int64]
    before_ms: NDArray[np.int64]
    late: NDArray[np.uint8]


class _Bars(NamedTuple):
    """Bars with metrics, kept for a run that restarts."""

    candles: CandleColumns
    metrics: NDArray[Any]


class InstrumentFold:
    """The fold of one instrument.

    Parameters
    ----------
    instrument
        Name.
    config
        The configuration with the instrument's parameters.
    keeps_history
        Whether parameters may change later: then the bars of the last 60 days are kept.

    Attributes
    ----------
    refused
        Number of refused candles by reason.
    """

    def __init__(self, instrument: str, config: Config, *, keeps_history: bool = False) -> None:
        self.instrument = instrument
        self.refused: Counter[str] = Counter()
        self._history: deque[_Bars] | None = deque() if keeps_history else None
        self._begin(config)

    def _begin(self, config: Config) -> None:
        self.config = config
        self._stream = CandleStream(*config.window_shape)
        self._gate = GateStream(rules_of(config, self.instrument))
        self._run = params_id(config)
        self._last_bar_ms = -1
        self._watermark_ms = -1

    @property
    def params_id(self) -> str:
        """Hash of the run's parameters."""
        return self._run

    @property
    def decided_ms(self) -> int:
        """``as_of_ms`` of the newest decision."""
        return self._gate.decided_ms

    def feed(self, candles: CandleColumns, watermarks: Watermarks) -> GateOutput:
        """Fold candles and watermarks, in log order.

        Raises
        ------
        Fatal
            A candle is outside the limits of the core.
        """
        return self.segment(candles, watermarks).derived

    def segment(self, candles: CandleColumns, watermarks: Watermarks) -> Segment:
        """Fold the same; return also the candles behind the output."""
        last_bar_ms = self._last_bar_ms
        length_ms = self.config.granularity_ms
        indices = self._accepted(candles)
        taken = candles if len(indices) == len(candles.bar_ms) else candles.where(indices)
        metrics = self._metrics(taken)
        first = len(taken.bar_ms) - len(metrics)
        bars = taken.where(np.s_[first:])
        # candles and watermarks in order of arrival; a watermark is before the candle of its index
        order = np.concatenate([2 * indices[first:] + 1, 2 * watermarks.before])
        as_of_ms = np.concatenate([bars.bar_ms + length_ms, watermarks.as_of_ms])
        which = np.concatenate(
            [np.arange(len(bars.bar_ms)), np.full(len(watermarks.before), -1, np.int64)]
        )
        late_bars = self._late(bars, watermarks, indices[first:])
        late = np.concatenate([late_bars, np.zeros(len(watermarks.before), np.uint8)])
        ordered = np.argsort(order, kind="stable")
        if len(watermarks.as_of_ms):
            self._watermark_ms = max(self._watermark_ms, int(watermarks.as_of_ms.max()))
        derived = self._decide(bars, metrics, which[ordered], as_of_ms[ordered], late[ordered])
        before_ms = np.concatenate([[last_bar_ms], taken.bar_ms])[first:-1]
        return Segment(derived, bars, indices[first:], before_ms, late_bars)

    def _accepted(self, candles: CandleColumns) -> NDArray[np.int64]:
        """Return the indices of the candles that are newer than all earlier ones and complete."""
        known = candles.volume != NO_VOLUME
        usable = np.ones_like(known) if self.config.allow_missing_volume else known
        bar_ms = np.where(usable, candles.bar_ms, -1)
        before = np.maximum.accumulate(np.concatenate([[self._last_bar_ms], bar_ms]))
        accepted = np.flatnonzero(usable & (bar_ms > before[:-1]))
        self._last_bar_ms = int(before[-1])
        self.refused[NO_VOLUME_SAID] += int(np.count_nonzero(~usable))
        self.refused[NOT_NEWER] += int(np.count_nonzero(usable)) - len(accepted)
        return accepted

    def _metrics(self, candles: CandleColumns) -> NDArray[Any]:
        _, high, low, close = candles.prices[:4]
        volume = np.maximum(candles.volume, 0)
        return self._stream.run(candles.bar_ms, high, low, close, volume)

    def _late(
        self, bars: CandleColumns, watermarks: Watermarks, indices: NDArray[np.int64]
    ) -> NDArray[np.uint8]:
        watermark_ms = np.maximum.accumulate(
            np.concatenate([[self._watermark_ms], watermarks.as_of_ms])
        )
        seen = np.searchsorted(watermarks.before, indices, "right")
        return (bars.bar_ms + self.config.granularity_ms <= watermark_ms[seen]).astype(np.uint8)

    def _decide(
        self,
        bars: CandleColumns,
        metrics: NDArray[Any],
        indices: NDArray[np.int64],
        as_of_ms: NDArray[np.int64],
        late: NDArray[np.uint8],
    ) -> GateOutput:
        if self._history is not None and len(metrics):
            self._history.append(_Bars(bars, metrics))
            oldest_ms = int(bars.bar_ms[-1]) - HISTORY_MS
            while self._history[0].candles.bar_ms[-1] < oldest_ms:
                self._history.popleft()
        trades, evaluations, decisions = self._gate.run(
            _columns(bars, metrics, self.config), self._events(indices, as_of_ms, late)
        )
        return GateOutput(len(metrics), metrics, trades, evaluations, decisions)

    def _events(
        self, indices: NDArray[np.int64], as_of_ms: NDArray[np.int64], late: NDArray[np.uint8]
    ) -> GateEvents:
        minutes, calendar = self.config.session_exit_minutes, calendar_of(self.config)
        found = session_states(calendar, self.instrument, as_of_ms, minutes)
        flags = OPEN * found.open + NEAR_CLOSE * found.near_close + MARKET_OPEN * found.market_open
        return GateEvents(indices, as_of_ms, late, flags.astype(np.int32), found.next_change_ms)

    def reconfigure(self, config: Config, as_of_ms: int) -> None:
        """Switch to another configuration from a watermark at ``as_of_ms`` on."""
        if config == self.config:
            return
        if config.candle_gran != self.config.candle_gran:
            decided_ms = self._gate.decided_ms
            self._begin(config)
            self._gate.set_decided_ms(decided_ms)
            if self._history is not None:
                self._history.clear()
            return
        self._stream.reconfigure(*config.window_shape)
        self.config = config
        if params_id(config) == self._run:
            self._gate.adopt(rules_of(config, self.instrument))
        else:
            self._refold(as_of_ms)

    def _refold(self, as_of_ms: int) -> None:
        assert self._history is not None  # callers that change parameters set keeps_history
        decided_ms = self._gate.decided_ms
        self._run = params_id(self.config)
        self._gate = GateStream(rules_of(self.config, self.instrument))
        length_ms = self.config.granularity_ms
        for bars, metrics in self._history:
            ends = bars.bar_ms + length_ms
            first = int(np.searchsorted(ends, as_of_ms - HISTORY_MS, "right"))
            kept = bars.where(np.s_[first:])
            count = len(kept.bar_ms)
            indices, late = np.arange(count), np.ones(count, np.uint8)
            events = self._events(indices, np.ascontiguousarray(ends[first:]), late)
            columns = _columns(kept, np.ascontiguousarray(metrics[first:]), self.config)
            self._gate.run(columns, events)
        self._gate.set_decided_ms(decided_ms)


def _columns(bars: CandleColumns, metrics: NDArray[Any], config: Config) -> BarColumns:
    none = np.zeros(len(bars.bar_ms), np.int64)
    flags = np.where(bars.quoted, np.int32(QUOTED), np.int32(0))
    return BarColumns(
        np.ascontiguousarray(bars.bar_ms),
        list(bars.prices),
        metrics,
        flags,
        none,
        config.granularity_ms,
    )


def closed_trades(found: NDArray[Any], scope: Scope) -> Iterator[SimulatedTrade]:
    """Yield the records of closed trades (``TRADES_DTYPE``)."""
    for *fields, _unused in found.tolist():
        yield trade_record(Trade(*fields), scope)


def concatenated_outputs(parts: Iterable[GateOutput]) -> GateOutput:
    """Return the outputs of several segments of one instrument as one."""
    found = list(parts)
    if len(found) == 1:
        return found[0]
    empty = (METRICS_DTYPE, TRADES_DTYPE, EVALUATION_DTYPE, DECISION_DTYPE)
    columns = [
        np.concatenate([np.empty(0, dtype), *(part[index] for part in found)])
        for index, dtype in enumerate(empty, 1)
    ]
    return GateOutput(sum(part.signals for part in found), *columns)
