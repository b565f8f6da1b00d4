"""Thresholds for a target pass rate: all guards at the same quantile, found by bisection.

The tightest threshold of four decimals that at least ``m`` windows pass is the quantile of ``m``,
rounded in the permissive direction. A profile uses one ``m`` for all guards: the smallest with
which the target share passes all of them together.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.pipeline.limits import GuardLimit
from streams.replay.calibrate.windows import COUNT, STEPS, ActiveGuard, WindowChunk, Windows


class Suggestion(NamedTuple):
    """Thresholds for a target pass rate.

    Attributes
    ----------
    settings
        Setting (upper case) -> its value in the format of a settings file.
    windows, passed, in_session, passed_in_session
        Number of windows; of those that pass, of those in session, and of both.
    quantile
        Share of the windows that fail each guard alone, before rounding.
    """

    settings: dict[str, str]
    windows: int
    passed: int
    in_session: int
    passed_in_session: int
    quantile: float


class _Thresholds:
    """The thresholds for a number of windows that pass each guard."""

    def __init__(self, windows: Sequence[Windows], guards: Sequence[ActiveGuard]) -> None:
        self.rules = [guard.rule for guard in guards if guard.rule.metric != COUNT]
        self._reached = {rule.metric: _count_passing(windows, rule) for rule in self.rules}

    def at(self, least: int) -> dict[str, int]:
        """Return metric -> the tightest step that ``least`` windows pass."""
        found = {}
        for rule in self.rules:
            place = int(np.searchsorted(self._reached[rule.metric], least))
            found[rule.metric] = STEPS - place if rule.relation == ">=" else place
        return found

    def passes(self, chunk: WindowChunk, steps: dict[str, int]) -> NDArray[np.bool_]:
        together = np.ones(len(chunk.counts), bool)
        for rule in self.rules:
            found, limit = chunk.steps[rule.metric], steps[rule.metric]
            together &= found >= limit if rule.relation == ">=" else found <= limit
        return together


def _count_passing(windows: Sequence[Windows], rule: GuardLimit) -> NDArray[np.int64]:
    """Return how many windows pass each step, from the tightest to the loosest."""
    found = np.zeros(STEPS + 1, np.int64)
    for one in windows:
        for chunk in one.chunks:
            found += np.bincount(chunk.steps[rule.metric], minlength=STEPS + 1)
    return np.cumsum(found[::-1] if rule.relation == ">=" else found)


def suggest(
    windows: Sequence[Windows], guards: Sequence[ActiveGuard], pass_rate: float
) -> Suggestion | None:
    """Return the tightest thresholds that the target share of windows passes.

    Parameters
    ----------
    windows
        The windows of all instruments.
    guards
        The guards to calibrate; the limit of the repetition guard is the largest value tried.
    pass_rate
        Target share of windows that pass all guards together, above 0, at most 1.

    Returns
    -------
    The suggestion, or None without windows.
    """
    total = sum(one.total for one in windows)
    if not total:
        return None
    need = max(1, -(-Fraction(repr(pass_rate)) * total // 1))
    repeated = next((guard for guard in guards if guard.rule.metric == COUNT), None)
    repetitions = 1 if repeated is None else _repetitions(windows, int(repeated.limit), int(need))
    thresholds = _Thresholds(windows, guards)
    repeating = [_repeating(chunk, repetitions) for one in windows for chunk in one.chunks]
    low, high = 1, total
    while low < high:
        middle = (low + high) // 2
        steps = thresholds.at(middle)
        if sum(int(thresholds.passes(chunk, steps).sum()) for chunk in repeating) >= need:
            high = middle
        else:
            low = middle + 1
    steps = thresholds.at(low)
    settings = {
        rule.setting.upper(): f"{steps[rule.metric] / STEPS:.4f}" for rule in thresholds.rules
    }
    if repeated is not None:
        settings[repeated.rule.setting.upper()] = str(repetitions)
    passing = [thresholds.passes(chunk, steps) for chunk in repeating]
    return Suggestion(
        settings,
        total,
        sum(int(found.sum()) for found in passing),
        sum(one.in_session for one in windows),
        sum(int((f & c.in_session).sum()) for f, c in zip(passing, repeating, strict=True)),
        1 - low / total,
    )


def passed_by(one: Windows, settings: dict[str, str], guards: Sequence[ActiveGuard]) -> int:
    """Return how many windows of an instrument pass the suggested thresholds."""
    thresholds = _Thresholds([one], guards)
    steps = {
        rule.metric: round(float(settings[rule.setting.upper()]) * STEPS)
        for rule in thresholds.rules
    }
    counted = [guard.rule.setting.upper() for guard in guards if guard.rule.metric == COUNT]
    least = int(settings[counted[0]]) if counted else 1
    chunks = (_repeating(chunk, least) for chunk in one.chunks)
    return sum(int(thresholds.passes(chunk, steps).sum()) for chunk in chunks)


def _repetitions(windows: Sequence[Windows], most: int, need: int) -> int:
    """Return the largest number of repetitions, up to ``most``, that enough windows reach."""
    histograms = [one.histogram(COUNT) for one in windows]
    for least in range(min(most, max(map(len, histograms))), 1, -1):
        if sum(int(found[least:].sum()) for found in histograms) >= need:
            return least
    return 1


def _repeating(chunk: WindowChunk, least: int) -> WindowChunk:
    """Return the windows of a chunk that repeat often enough."""
    if least <= 1:
        return chunk
    chosen = chunk.counts >= least
    steps = {metric: found[chosen] for metric, found in chunk.steps.items()}
    return WindowChunk(steps, chunk.counts[chosen], chunk.in_session[chosen])
