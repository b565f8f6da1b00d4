"""Epochs from the decisions of many instruments, equal to those of ``streams.pipeline.weights``.

An epoch depends only on the times of decisions and watermarks, not on their order of arrival, which
is defined within one partition only. So an epoch can be allocated as soon as every member has a
decision for it or later, or is no longer waited for.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.config.settings import Config
from streams.core.allocation import Allocations, Allocator
from streams.core.layout import NEVER
from streams.pipeline.not_waited_for import NotWaitedFor
from streams.pipeline.weights import Timeline, oldest_fresh_ms
from streams.records.control import ControlLog, ControlState
from streams.records.events import Watermark

EPOCHS_AT_ONCE = 20_000


class _Decisions:
    """The decisions of one instrument that epochs still need, ascending."""

    def __init__(self) -> None:
        self.as_of_ms = np.zeros(0, np.int64)
        self.eligible = np.zeros(0, bool)
        self.cooldown = np.zeros(0, bool)
        self.score = np.zeros(0, np.float64)

    def add(self, rows: NDArray[Any]) -> None:
        as_of_ms = rows["as_of_ms"]
        self.as_of_ms = np.concatenate([self.as_of_ms, as_of_ms])
        self.eligible = np.concatenate([self.eligible, rows["reasons"] == 0])
        cooling = rows["cooldown_until_ms"] != NEVER
        self.cooldown = np.concatenate([self.cooldown, cooling])
        score = np.where(rows["has_signal"] != 0, rows["score"], np.nan)
        self.score = np.concatenate([self.score, score])

    def forget_before(self, epoch_ms: int) -> None:
        """Drop all decisions before the last one not after the epoch."""
        first = max(0, int(np.searchsorted(self.as_of_ms, epoch_ms, "right")) - 1)
        if first:
            self.as_of_ms = self.as_of_ms[first:].copy()
            self.eligible = self.eligible[first:].copy()
            self.cooldown = self.cooldown[first:].copy()
            self.score = self.score[first:].copy()


class ClosedEpochs(NamedTuple):
    """Closed epochs of one universe; ``allocations`` refers to members by their index in it."""

    epoch_ms: NDArray[np.int64]
    universe: tuple[str, ...]
    eligible: NDArray[np.uint8]
    allocations: Allocations
    state: ControlState


class Epochs:
    """The allocator over decisions that arrive instrument by instrument.

    Parameters
    ----------
    control
        ``ops.control``, read to its end.
    """

    def __init__(self, control: ControlLog) -> None:
        self._control = control
        self._timeline = Timeline([])
        self._not_waited_for = NotWaitedFor()
        self._decisions: dict[str, _Decisions] = {}
        self._allocator = Allocator()
        self._numbers: dict[str, int] = {}
        self._closed_ms = -1

    def on_watermark(self, watermark: Watermark) -> None:
        """Process a watermark: the control state from then on, and the instruments not waited for.

        All decisions of ``not_waited_for`` before it in the partition must have been added, and
        none after it.
        """
        for name in watermark.not_waited_for:
            self._decisions.setdefault(name, _Decisions())
            self._not_waited_for.add(name, watermark.as_of_ms, self._decided_ms(name))
        since_ms = self._not_waited_for.effective_ms(watermark)
        self._timeline.add(since_ms, watermark.control_offset)

    def add(self, instrument: str, decisions: NDArray[Any]) -> None:
        """Add decisions (``DECISION_DTYPE``) of an instrument, later than those added before."""
        self._decisions.setdefault(instrument, _Decisions()).add(decisions)

    def close(self, upto_ms: int) -> list[ClosedEpochs]:
        """Close every epoch up to a time that waits for no instrument, in order.

        Parameters
        ----------
        upto_ms
            All watermarks up to this time are processed, epoch ms.
        """
        closed: list[ClosedEpochs] = []
        while True:
            times = [d.as_of_ms for d in self._decisions.values() if len(d.as_of_ms)]
            if not times:
                return closed
            waiting = np.unique(np.concatenate(times))
            waiting = waiting[(waiting > self._closed_ms) & (waiting <= upto_ms)]
            made = self._close_some(waiting[:EPOCHS_AT_ONCE])
            if made is None:
                return closed
            closed += made

    def _close_some(self, waiting: NDArray[np.int64]) -> list[ClosedEpochs] | None:
        """Close epochs while universe and configuration stay the same; None without an epoch."""
        if not len(waiting):
            return None
        first_ms = int(waiting[0])
        state = self._control.state(self._timeline.offset(first_ms))
        members = state.universe.members(first_ms)
        ready = min((self._reached(name) for name in members), default=int(waiting[-1]))
        until_ms = min(ready, self._same_until(state, members, waiting))
        chosen = waiting[waiting <= until_ms]
        if not len(chosen):
            return None
        self._closed_ms = int(chosen[-1])
        config = state.config
        made: list[ClosedEpochs] = []
        if config is not None and members:
            grid = chosen[chosen % (config.alloc_interval_sec * 1000) == 0]
            made = self._allocate(grid, members, state, config)
        for name, kept in self._decisions.items():
            kept.forget_before(self._not_waited_for.counted_ms(name, self._closed_ms))
        self._timeline.forget_before(self._closed_ms)
        self._not_waited_for.forget_before(self._closed_ms)
        return made

    def _reached(self, name: str) -> int:
        return max(self._decided_ms(name), self._not_waited_for.until_ms(name))

    def _decided_ms(self, name: str) -> int:
        kept = self._decisions.get(name)
        return int(kept.as_of_ms[-1]) if kept is not None and len(kept.as_of_ms) else -1

    def _same_until(
        self, state: ControlState, members: tuple[str, ...], waiting: NDArray[np.int64]
    ) -> int:
        """Return the last waiting epoch with the same control state and universe as the first."""
        low, high = 0, len(waiting) - 1
        while low < high:  # both change at most once in the range: binary search
            middle = (low + high + 1) // 2
            at_ms = int(waiting[middle])
            same = self._timeline.offset(at_ms) == state.offset
            if same and state.universe.same(int(waiting[0]), at_ms):
                low = middle
            else:
                high = middle - 1
        return int(waiting[low])

    def _allocate(
        self,
        grid: NDArray[np.int64],
        members: tuple[str, ...],
        state: ControlState,
        config: Config,
    ) -> list[ClosedEpochs]:
        shape = (len(grid), len(members))
        may_open, eligible = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
        scores = np.full(shape, np.nan)
        exact = np.zeros(len(grid), bool)
        oldest_ms = oldest_fresh_ms(grid, config)
        for index, name in enumerate(members):
            kept = self._decisions[name]
            if not len(kept.as_of_ms):
                continue  # not waited for, and no decision yet
            counted_ms = self._not_waited_for.counted_ms(name, grid)
            latest = np.searchsorted(kept.as_of_ms, counted_ms, "right") - 1
            decided_ms = np.where(latest >= 0, kept.as_of_ms[latest], -1)
            exact |= decided_ms == grid
            fresh = (latest >= 0) & (decided_ms >= oldest_ms)
            eligible[:, index] = kept.eligible[latest] & fresh
            may_open[:, index] = eligible[:, index] & ~kept.cooldown[latest]
            scores[:, index] = kept.score[latest]
        if not exact.any():
            return []
        ids = np.array([self._number(name) for name in members], np.int64)
        allocations = self._allocator.run(
            grid[exact],
            ids,
            np.ascontiguousarray(may_open[exact]),
            np.ascontiguousarray(scores[exact]),
            config,
        )
        place_of = np.zeros(len(self._numbers), np.int64)
        place_of[ids] = np.arange(len(ids))
        allocations.entries["id"] = place_of[allocations.entries["id"]]
        return [ClosedEpochs(grid[exact], members, eligible[exact], allocations, state)]

    def _number(self, name: str) -> int:
        return self._numbers.setdefault(name, len(self._numbers))
