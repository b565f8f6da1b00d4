"""The weights published at one epoch: the core's allocator, with instrument names."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from streams.config.settings import Config
from streams.core import allocation as engine
from streams.records.events import WeightEntry, WeightsAction

ACTIONS: tuple[WeightsAction, ...] = ("published", "held", "cleared")
REASONS = ("selected", "none_eligible", "hold_expired")


class Candidate(NamedTuple):
    """A member's gate decision as used at an epoch."""

    instrument: str
    eligible: bool
    cooldown: bool
    score: float | None


class Held(NamedTuple):
    """The entries last published, and the first epoch at which they were held (None: not held)."""

    entries: tuple[WeightEntry, ...]
    since_ms: int | None


class Allocation(NamedTuple):
    """The result of an epoch."""

    entries: tuple[WeightEntry, ...]
    action: WeightsAction
    reason: str
    held: Held


def allocate(
    epoch_ms: int,
    universe: tuple[str, ...],
    candidates: list[Candidate],
    held: Held,
    config: Config,
) -> Allocation:
    """Return the weights published at an epoch (docs/spec/trading-loop.md 4).

    Selects the best ``ALLOC_TOP_K`` members by score, ties by name, among those that are eligible
    and not cooling down; a score that is missing, not finite or not positive gets no weight.
    Weights are in proportion to the scores and sum to 1; the exposure of an entry is ``min(weight *
    RISK_ALLOC_TARGET_PCT, PM_MAX_PER_POS_PCT)`` of the account. When no member can be selected, the
    entries last published are held for at most ``ALLOC_MAX_HOLD_SEC`` of event time, then cleared.
    Entries of instruments that left the universe are dropped; their weight is not redistributed.

    Parameters
    ----------
    universe
        The members, by name; ``candidates`` are the members with a decision.
    """
    names = sorted({*universe, *(entry.instrument for entry in held.entries)})
    number = {name: index for index, name in enumerate(names)}
    by_name = {candidate.instrument: candidate for candidate in candidates}
    members = sorted(universe)
    found = [by_name.get(name) for name in members]
    allocator = engine.Allocator()
    allocator.restore(
        [(number[e.instrument], *e[1:]) for e in held.entries],
        engine.NEVER if held.since_ms is None else held.since_ms,
    )
    made = allocator.run(
        np.array([epoch_ms], np.int64),
        np.array([number[name] for name in members], np.int64),
        np.array([[c is not None and c.eligible and not c.cooldown for c in found]], np.uint8),
        np.array(
            [[np.nan if c is None or c.score is None else c.score for c in found]], np.float64
        ),
        config,
    )
    entries = tuple(WeightEntry(names[id_], *rest) for id_, *rest in made.entries.tolist())
    since_ms = int(made.held_since_ms[0])
    action, reason = ACTIONS[int(made.actions[0])], REASONS[int(made.reasons[0])]
    held_since = None if since_ms == engine.NEVER else since_ms
    return Allocation(entries, action, reason, Held(entries, held_since))
