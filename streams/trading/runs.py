"""The state of each instrument's backtest run, and the current weights: folds over the log.

The executor follows the run (docs/spec/strict-backtest.md 5). It joins only at the entry of the
run, the decision at which ``position`` changes to non-zero; when the run ends, reverses or restarts
under other parameters, the joined trade is over.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from streams.instants import GRANULARITY_MS
from streams.records.events import GateDecision, WeightEntry, Weights

EPOCHS_KEPT = 64


class JoinedTrade(NamedTuple):
    """A joined trade: its direction, and ``as_of`` of the entry decision."""

    direction: int
    entry_ms: int


class SourceSpan(NamedTuple):
    """An offset range of a partition of ``sep.manifolds``: [start, end]."""

    partition: int
    start: int
    end: int


class Entry(NamedTuple):
    """A run's entry that can be joined until the instrument's next decision.

    Attributes
    ----------
    late_span
        Range that may contain a late candle, after which this decision would not be the entry (the
        run was already in the position); None when there cannot be one.
    """

    direction: int
    decision: GateDecision
    late_span: SourceSpan | None


class RunState(NamedTuple):
    """An instrument's run at its latest decision.

    Attributes
    ----------
    since_ms
        ``as_of`` of the decision that began the current position; None without a position, or if
        its beginning was not read.
    entry
        The entry, if the latest decision is one.
    """

    decision: GateDecision
    source: str
    since_ms: int | None
    entry: Entry | None

    def follows(self, joined: JoinedTrade) -> bool:
        """Return whether the run is still in the trade that was joined."""
        return self.decision.position == joined.direction and self.since_ms == joined.entry_ms

    @property
    def candle_end_ms(self) -> int:
        """End of the last candle of the run; 0 before the first."""
        bar_ms = self.decision.signal_bar_ms
        return 0 if bar_ms is None else bar_ms + GRANULARITY_MS[self.decision.granularity]


class Runs:
    """The fold over ``opt.gates``.

    Parameters
    ----------
    joined
        The trades joined before the first decision to be applied; the decisions since their entries
        must be applied.
    """

    def __init__(self, joined: Mapping[str, JoinedTrade] | None = None) -> None:
        self._joined = dict(joined or {})
        self._states: dict[str, RunState] = {}

    def take(self, decision: GateDecision, source: str) -> bool:
        """Apply a decision, in log order; return whether it is new.

        Parameters
        ----------
        source
            The record's ``source`` header: ``topic-partition-offset`` of its input.
        """
        name = decision.instrument
        before = self._states.get(name)
        if before is not None and decision.as_of_ms <= before.decision.as_of_ms:
            return False
        since_ms, entry = self._position(before, decision, source)
        self._states[name] = RunState(decision, source, since_ms, entry)
        return True

    def _position(
        self, before: RunState | None, decision: GateDecision, source: str
    ) -> tuple[int | None, Entry | None]:
        position, at_ms = decision.position, decision.as_of_ms
        if position == 0:
            return None, None
        if before is None:
            known = self._joined.get(decision.instrument)
            begun = known is not None and known == (position, at_ms)
            return (at_ms if begun else None), None
        same_run = (before.decision.params_id, before.decision.granularity) == (
            decision.params_id,
            decision.granularity,
        )
        if not same_run:
            return None, None
        if before.decision.position == position:
            return before.since_ms, None
        # without a candle the run cannot have decided at this bar: a late candle arrived in between
        entry = None if decision.no_candle else _entry(before, decision, source)
        return at_ms, entry

    def of(self, instrument: str) -> RunState | None:
        """Return the state of the run; None before the first decision."""
        return self._states.get(instrument)

    def entries(self) -> dict[str, Entry]:
        """Return the entries that can be joined now, by instrument."""
        return {n: s.entry for n, s in sorted(self._states.items()) if s.entry is not None}

    def decided(self) -> dict[str, int]:
        """Return ``as_of`` of the latest decision by instrument."""
        return {name: s.decision.as_of_ms for name, s in sorted(self._states.items())}


def _entry(before: RunState, decision: GateDecision, source: str) -> Entry:
    span = None
    if before.decision.no_candle:
        start, end = _place(before.source), _place(source)
        same = start is not None and end is not None and start[0] == end[0]
        span = SourceSpan(end[0], start[1], end[1]) if same and start and end else _UNKNOWN_SPAN
    return Entry(decision.position, decision, span)


_UNKNOWN_SPAN = SourceSpan(-1, 0, 0)


def _place(source: str) -> tuple[int, int] | None:
    parts = source.rsplit("-", 2)
    if len(parts) != 3 or not (parts[1].isdigit() and parts[2].isdigit()):
        return None
    return int(parts[1]), int(parts[2])


class WeightsHistory:
    """The fold over ``risk.weights``: the newest epochs."""

    def __init__(self) -> None:
        self._epochs: dict[int, Weights] = {}
        self._newest_ms = -1

    @property
    def newest_ms(self) -> int:
        """The newest epoch; -1 before the first."""
        return self._newest_ms

    @property
    def newest(self) -> Weights | None:
        """The weights of the newest epoch."""
        return self._epochs.get(self._newest_ms)

    def take(self, weights: Weights) -> None:
        """Apply the weights of an epoch."""
        self._epochs[weights.epoch_ms] = weights
        self._newest_ms = max(self._newest_ms, weights.epoch_ms)
        for epoch_ms in sorted(self._epochs)[:-EPOCHS_KEPT]:
            del self._epochs[epoch_ms]

    def awaited(self, as_of_ms: int, interval_ms: int) -> bool:
        """Return whether the epoch of ``as_of_ms`` is still open."""
        return self._newest_ms < as_of_ms - as_of_ms % interval_ms

    def at(self, as_of_ms: int) -> Weights | None:
        """Return the weights of the last epoch up to ``as_of_ms``; None when unknown."""
        known = [epoch_ms for epoch_ms in self._epochs if epoch_ms <= as_of_ms]
        return self._epochs[max(known)] if known else None


def entry_of(weights: Weights | None, instrument: str) -> WeightEntry | None:
    """Return the instrument's entry in the weights of an epoch; None when it is not selected."""
    if weights is None:
        return None
    return next((e for e in weights.entries if e.instrument == instrument), None)
