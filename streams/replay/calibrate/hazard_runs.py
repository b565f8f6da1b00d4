"""Run candles through the whole chain under different scores, and keep the results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.candles.columns import NO_VOLUME, CandleColumns, SeriesKey
from streams.candles.series import Series
from streams.config.settings import Config
from streams.errors import Fatal
from streams.instants import GRANULARITY_MS
from streams.pipeline.columns import ColumnarReplay, replay_series
from streams.pipeline.epochs import ClosedEpochs
from streams.pipeline.gate_records import Scope
from streams.pipeline.instrument_fold import GateOutput
from streams.replay.files import control_of

Floats = NDArray[np.float64]


class GranularityCandles(NamedTuple):
    """The candles of one bar length.

    Attributes
    ----------
    series
        Instrument -> its candles, ascending.
    config
        The settings in force for them.
    notes
        Notes for the reader, as sentences.
    """

    series: dict[str, CandleColumns]
    config: Config
    notes: tuple[str, ...]


class ChainRun(NamedTuple):
    """The output of the chain for candles.

    Attributes
    ----------
    names
        The instruments, in column order.
    epoch_ms
        int64 [epochs].
    weights, exposure
        float64 [epochs, instruments]: shares of the selection, and of the account.
    decisions
        Instrument -> rows of ``DECISION_DTYPE``, ascending.
    """

    names: tuple[str, ...]
    epoch_ms: NDArray[np.int64]
    weights: Floats
    exposure: Floats
    decisions: dict[str, NDArray[Any]]


class _Kept:
    """Keeps decisions and epochs; satisfies ``streams.pipeline.columns.Sink``."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.decisions: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
        self.epochs: list[NDArray[np.int64]] = []
        self.shares: list[Floats] = []

    def derived(self, scope: Scope, found: GateOutput) -> None:
        """Receive the output of a segment of an instrument's candles."""
        self.decisions[scope.instrument].append(found.decisions.copy())

    def closed(self, epochs: ClosedEpochs) -> None:
        """Receive closed epochs."""
        made = epochs.allocations
        shares = np.zeros((2, len(epochs.epoch_ms), len(self.names)))
        rows = np.repeat(np.arange(len(epochs.epoch_ms)), np.diff(made.ends, prepend=0))
        places = np.array([self.names.index(name) for name in epochs.universe], np.int64)
        columns = places[made.entries["id"]]
        shares[0, rows, columns] = made.entries["weight"]
        shares[1, rows, columns] = made.entries["exposure"]
        self.epochs.append(epochs.epoch_ms)
        self.shares.append(shares)


def by_bar_length(
    found: Mapping[SeriesKey, Series], config: Config
) -> dict[str, GranularityCandles]:
    """Return the candles of each bar length with the settings in force for them.

    If no candle of an instrument has a volume, it counts as 0, which is noted.

    Raises
    ------
    Fatal
        A bar length has fewer than two instruments, so there is nothing to select from.
    """
    lengths = sorted({key.granularity for key in found}, key=lambda name: GRANULARITY_MS[name])
    made: dict[str, GranularityCandles] = {}
    for length in lengths:
        keys = sorted(key for key in found if key.granularity == length)
        series = {key.instrument: found[key].columns() for key in keys}
        if len(series) < 2:
            raise Fatal(
                f"only {keys[0].instrument} has candles of {length}: name files of two or more "
                "instruments, because selection needs at least two"
            )
        settings, notes = replace(config, candle_gran=length), []
        without = [n for n, one in series.items() if (one.volume == NO_VOLUME).all()]
        if without and not settings.allow_missing_volume:
            settings = replace(settings, allow_missing_volume=True)
            notes.append(f"{', '.join(without)} have no volume at all: it counts as 0.")
        most = len(series) - 1
        if settings.alloc_top_k > most:
            notes.append(
                f"ALLOC_TOP_K is {most} here, not {settings.alloc_top_k}: otherwise all "
                f"{len(series)} instruments could have weight, and nothing would be selected."
            )
            settings = replace(settings, alloc_top_k=most)
        made[length] = GranularityCandles(series, settings, tuple(notes))
    return made


def guards_open(config: Config) -> Config:
    """Return the settings with a gate that every signal in session passes."""
    return replace(
        config,
        gate_mode="static",
        auto_min_coherence=0.0,
        guard_min_stability=0.0,
        auto_max_entropy=1.0,
        auto_max_rupture=1.0,
        auto_max_hazard=None,
        session_pattern_min_occurrences=1,
    )


def run_chain(candles: GranularityCandles, config: Config) -> ChainRun:
    """Run the chain over candles."""
    names = tuple(sorted(candles.series))
    bars = [one.bar_ms for one in candles.series.values()]
    first_ms = min(int(one[0]) for one in bars)
    last_ms = max(int(one[-1]) for one in bars) + config.granularity_ms
    control = control_of(config, names, first_ms, last_ms)
    kept = _Kept(names)
    for _ in replay_series(ColumnarReplay(control, kept), control, candles.series):
        pass
    if not kept.epochs:
        raise Fatal(f"no epoch in the candles of {config.candle_gran}; load more of them")
    shares = np.concatenate(kept.shares, axis=1)
    decisions = {name: np.concatenate(rows) for name, rows in kept.decisions.items()}
    return ChainRun(names, np.concatenate(kept.epochs), shares[0], shares[1], decisions)
