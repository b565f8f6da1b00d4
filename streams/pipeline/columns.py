"""The chain over columns of candles: one fold per instrument, epochs for the allocator.

The input is a log, partition by partition; the output are arrays of trades, evaluations, decisions
and allocations, for summaries and reports over millions of candles.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from streams.candles.columns import CandleColumns
from streams.pipeline.epochs import ClosedEpochs, Epochs
from streams.pipeline.gate_records import Scope, scope_of
from streams.pipeline.instrument_fold import GateOutput, InstrumentFold, Watermarks
from streams.records.control import ControlLog, ControlState
from streams.records.events import Watermark

CHUNK_BARS = 4_096
NO_CONFIG = "before any configuration"


class Sink(Protocol):
    """Receives the output of a replay."""

    def derived(self, scope: Scope, found: GateOutput) -> None:
        """Receive the output of a segment of an instrument's candles."""
        ...

    def closed(self, epochs: ClosedEpochs) -> None:
        """Receive closed epochs."""
        ...


class TakesDecisions(Protocol):
    """Closes epochs, in this process or in another one."""

    def on_watermark(self, watermark: Watermark) -> None:
        """Process a watermark."""
        ...

    def add(self, instrument: str, decisions: NDArray[Any]) -> None:
        """Process decisions of an instrument."""
        ...

    def close(self, upto_ms: int) -> list[ClosedEpochs]:
        """Close all epochs that wait for no instrument; all watermarks up to ``upto_ms`` are
        processed."""
        ...


class CandleSegment(NamedTuple):
    """A segment of one instrument's candles, with the watermarks between them.

    Attributes
    ----------
    at, watermarks_at
        Indices of candles and watermarks in their batch; None when they do not come from a log.
    """

    instrument: str
    candles: CandleColumns
    watermarks: Watermarks
    at: NDArray[np.int64] | None = None
    watermarks_at: NDArray[np.int64] | None = None


class ColumnarReplay:
    """The chain under one ``ops.control``.

    Parameters
    ----------
    control
        ``ops.control``, read to its end.
    sink
        Receives the derived rows.
    epochs
        Closes the epochs; by default in this process.
    """

    def __init__(
        self, control: ControlLog, sink: Sink, epochs: TakesDecisions | None = None
    ) -> None:
        self._control, self._sink = control, sink
        self._folds: dict[str, InstrumentFold] = {}
        self._epochs: TakesDecisions = Epochs(control) if epochs is None else epochs
        changing = {"config", "params"}
        later = [record for _, record in control.records if record.kind in changing]
        self._keeps_history = len(later) > 1
        self.candles = self.signals = 0
        self._refused: Counter[str] = Counter()

    def feed(self, state: ControlState, segment: CandleSegment) -> None:
        """Process a segment of an instrument under the control state ``state``.

        The candles have the granularity in force.

        Raises
        ------
        Fatal
            A candle is outside the limits of the core.
        """
        config = state.config_of(segment.instrument)
        if config is None:
            self.refuse(NO_CONFIG, len(segment.candles.bar_ms))
            return
        fold = self._fold(segment.instrument, state)
        found = fold.feed(segment.candles, segment.watermarks)
        self.candles += len(segment.candles.bar_ms)
        self.signals += found.signals
        scope = scope_of(
            segment.instrument, fold.config, state.config_id, state.offset, fold.params_id
        )
        self._epochs.add(segment.instrument, found.decisions)
        self._sink.derived(scope, found)

    def on_watermark(self, watermark: Watermark) -> None:
        """Process a watermark for the epochs."""
        self._epochs.on_watermark(watermark)

    def switch(self, state: ControlState, instruments: Sequence[str], as_of_ms: int) -> None:
        """Switch the folds to ``state``, which takes effect with a watermark at ``as_of_ms``."""
        for name in instruments:
            config = state.config_of(name)
            if name in self._folds and config is not None:
                self._folds[name].reconfigure(config, as_of_ms)

    def close(self, upto_ms: int) -> None:
        """Close the epochs that wait for no instrument; all watermarks up to ``upto_ms`` are
        known."""
        for epochs in self._epochs.close(upto_ms):
            self._sink.closed(epochs)

    def refuse(self, what: str, count: int) -> None:
        """Count refused records by reason."""
        self._refused[what] += count

    @property
    def refused(self) -> Counter[str]:
        """Number of refused records by reason."""
        return sum((fold.refused for fold in self._folds.values()), +self._refused)

    def _fold(self, name: str, state: ControlState) -> InstrumentFold:
        if name not in self._folds:
            config = state.config_of(name)
            assert config is not None  # called by feed only
            self._folds[name] = InstrumentFold(name, config, keeps_history=self._keeps_history)
        return self._folds[name]


def replay_series(
    replay: ColumnarReplay, control: ControlLog, series: Mapping[str, CandleColumns]
) -> Iterator[int]:
    """Replay whole series, sorted by time, in the order in which a load writes the log.

    Parameters
    ----------
    control
        Its last state is in force from the first bar on; one granularity.

    Yields
    ------
    int
        Candles processed since the previous value.
    """
    state = control.state(control.end)
    config = state.config
    assert config is not None
    length_ms = config.granularity_ms
    bars = [one.bar_ms for one in series.values() if len(one.bar_ms)]
    if not bars:
        return
    begin_ms = min(int(bar_ms[0]) for bar_ms in bars)
    end_ms = max(int(bar_ms[-1]) for bar_ms in bars)
    names = tuple(sorted(series))
    replay.on_watermark(Watermark(begin_ms, config.candle_gran, control.end, names))
    indices = dict.fromkeys(series, 0)
    start_ms = begin_ms
    while start_ms <= end_ms:
        until_ms = start_ms + CHUNK_BARS * length_ms
        taken: dict[str, CandleColumns] = {}
        for name, columns in series.items():
            end = int(np.searchsorted(columns.bar_ms, until_ms))
            taken[name] = columns.where(np.s_[indices[name] : end])
            indices[name] = end
        count = sum(len(columns.bar_ms) for columns in taken.values())
        if count:
            grid = np.unique(np.concatenate([c.bar_ms for c in taken.values()])) + length_ms
            if start_ms == begin_ms:
                grid = np.concatenate([[begin_ms], grid])
            for name in sorted(series):
                watermarks = _watermarks(grid, taken[name].bar_ms + length_ms)
                replay.feed(state, CandleSegment(name, taken[name], watermarks))
            replay.close(int(grid[-1]))
            yield count
        start_ms = _next_start(series, indices, until_ms)


def _watermarks(grid: NDArray[np.int64], ends: NDArray[np.int64]) -> Watermarks:
    """Return a watermark after every bar of the grid; it has no effect where there is a candle."""
    return Watermarks(grid, np.searchsorted(ends, grid, "right"))


def _next_start(
    series: Mapping[str, CandleColumns], indices: Mapping[str, int], until_ms: int
) -> int:
    """Return the start of the next candle, across gaps of any length."""
    left = [
        int(columns.bar_ms[indices[name]])
        for name, columns in series.items()
        if indices[name] < len(columns.bar_ms)
    ]
    return max(until_ms, min(left)) if left else 1 << 62
