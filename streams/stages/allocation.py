"""Top-K selection and weights of one epoch, and what is held (core-trading-loop.md 4)."""

from __future__ import annotations

from math import isfinite
from typing import NamedTuple

from streams.events import WeightEntry, WeightsAction
from streams.settings import Config

SELECTED, NONE_ELIGIBLE, HOLD_EXPIRED = "selected", "none_eligible", "hold_expired"


class Candidate(NamedTuple):
    """A member's gate as it counts at an epoch."""

    instrument: str
    eligible: bool
    cooldown: bool
    score: float | None


class Held(NamedTuple):
    """The entries last published, and the first epoch at which they were held (None: not yet)."""

    entries: tuple[WeightEntry, ...]
    since_ms: int | None


class Allocation(NamedTuple):
    """The outcome of an epoch."""

    entries: tuple[WeightEntry, ...]
    action: WeightsAction
    reason: str
    held: Held


def ranked(candidates: list[Candidate]) -> list[tuple[str, float]]:
    """Return (instrument, score) of those that may get weight, best first, ties by name.

    A score that is missing, not finite or not positive gets none.
    """
    kept = [
        (c.instrument, c.score)
        for c in candidates
        if c.eligible and not c.cooldown and c.score is not None and isfinite(c.score)
    ]
    return sorted(((n, s) for n, s in kept if s > 0.0), key=lambda pair: (-pair[1], pair[0]))


def weighted(selected: list[tuple[str, float]], config: Config) -> tuple[WeightEntry, ...]:
    """Return the entries of the selected, by instrument.

    Weights are proportional to the scores and sum to 1; the exposure of an entry is
    ``min(weight * RISK_ALLOC_TARGET_PCT, PM_MAX_PER_POS_PCT)`` of the account.
    """
    total = 0.0
    for _, points in selected:
        total += points
    entries = []
    for name, points in sorted(selected):
        weight = points / total
        exposure = min(weight * config.risk_alloc_target_pct, config.pm_max_per_pos_pct)
        entries.append(WeightEntry(name, points, weight, exposure))
    return tuple(entries)


def allocate(
    epoch_ms: int,
    universe: tuple[str, ...],
    candidates: list[Candidate],
    held: Held,
    config: Config,
) -> Allocation:
    """Return what is published at an epoch.

    With nobody to select, the entries last published are held for at most ``ALLOC_MAX_HOLD_SEC``
    of event time (those of instruments that left the universe are dropped, without sharing out
    their weight), then cleared.
    """
    selected = ranked(candidates)[: config.alloc_top_k]
    if selected:
        entries = weighted(selected, config)
        return Allocation(entries, "published", SELECTED, Held(entries, None))
    entries = tuple(entry for entry in held.entries if entry.instrument in universe)
    if not entries:
        return Allocation((), "cleared", NONE_ELIGIBLE, Held((), None))
    since_ms = epoch_ms if held.since_ms is None else held.since_ms
    if epoch_ms - since_ms >= config.alloc_max_hold_sec * 1000:
        return Allocation((), "cleared", HOLD_EXPIRED, Held((), None))
    return Allocation(entries, "held", NONE_ELIGIBLE, Held(entries, since_ms))
