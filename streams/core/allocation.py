"""Top-K selection and weights per epoch, and the weights held between epochs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.config.settings import Config
from streams.core.columns import address_of
from streams.core.layout import ENTRY_DTYPE
from streams.core.loader import core
from streams.errors import Fatal

NEVER = -(2**63)
PUBLISHED, HELD, CLEARED = 0, 1, 2
SELECTED, NONE_ELIGIBLE, HOLD_EXPIRED = 0, 1, 2


class Allocations(NamedTuple):
    """Results of consecutive epochs.

    Attributes
    ----------
    actions, reasons
        int32 [epochs]: ``PUBLISHED`` and so on, ``SELECTED`` and so on.
    held_since_ms
        int64 [epochs]: the first epoch at which the shares were held, ``NEVER`` when they are not.
    entries, ends
        Rows of ``ENTRY_DTYPE``, sorted by name within an epoch; rows of epoch e end before
        ``ends[e]``.
    """

    actions: NDArray[np.int32]
    reasons: NDArray[np.int32]
    held_since_ms: NDArray[np.int64]
    entries: NDArray[Any]
    ends: NDArray[np.int64]


class Allocator:
    """The allocator's state: the entries last published, and the epoch since which they are
    held."""

    def __init__(self) -> None:
        handle = core().make_allocator()
        if not handle:
            raise Fatal("out of memory: the allocator cannot be created")
        handle.__python_owns__ = True
        self._handle = handle

    def restore(self, entries: Sequence[tuple[int, float, float, float]], since_ms: int) -> None:
        """Restore the entries published last.

        Parameters
        ----------
        entries
            (id, score, weight, exposure), by name.
        since_ms
            First epoch at which they were held; ``NEVER`` when they are not held.
        """
        rows = np.array([tuple(entry) for entry in entries], ENTRY_DTYPE)
        self._handle.restore(address_of(rows), len(rows), since_ms)

    def run(
        self,
        epoch_ms: NDArray[np.int64],
        ids: NDArray[np.int64],
        may_open: NDArray[np.uint8],
        scores: NDArray[np.float64],
        config: Config,
    ) -> Allocations:
        """Close epochs of one universe, in order (docs/spec/trading-loop.md 4).

        Parameters
        ----------
        epoch_ms
            [epochs], ascending.
        ids
            [members]: ids of the members, sorted by name.
        may_open
            [epochs, members]: 1 where a member is eligible and not in cooldown.
        scores
            [epochs, members]; NaN for no score.
        config
            Top-K, caps and the longest hold.
        """
        rules = self._handle.rules
        rules.top_k = config.alloc_top_k
        rules.max_hold_ms = config.alloc_max_hold_sec * 1000
        rules.target_pct = config.risk_alloc_target_pct
        rules.max_position_pct = config.pm_max_per_pos_pct
        epochs, members = len(epoch_ms), len(ids)
        for matrix in (may_open, scores):
            if matrix.shape != (epochs, members) or not matrix.flags.c_contiguous:
                raise Fatal(f"the matrix of members must be contiguous, {epochs} x {members}")
        actions, reasons = np.empty(epochs, np.int32), np.empty(epochs, np.int32)
        since, ends = np.empty(epochs, np.int64), np.empty(epochs, np.int64)
        entries = np.empty(epochs * min(members, config.alloc_top_k), ENTRY_DTYPE)
        columns: tuple[NDArray[Any], ...]
        columns = (epoch_ms, ids, may_open, scores, actions, reasons, since, entries)
        addresses = [address_of(column) for column in columns]
        self._handle.run(epochs, members, *addresses, len(entries), address_of(ends))
        return Allocations(actions, reasons, since, entries[: int(ends[-1]) if epochs else 0], ends)
