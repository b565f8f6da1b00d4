"""What a failure signal is, and the words and limits that all of them share."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from streams.candles.calendar import Calendar, calendar_of
from streams.candles.freshness import SETTLE_MS, fresh_for_ms
from streams.candles.market_clock import Market, market_at, open_ms_between
from streams.config.settings import Config
from streams.monitoring.facts import LiveFacts, Source

State = Literal["ok", "quiet", "warn", "fail", "unknown"]
SEVERITY: Final[dict[State, int]] = {"unknown": -1, "ok": 0, "quiet": 0, "warn": 1, "fail": 2}
"""State -> the value of ``sep_failure_signal``."""

SECOND_MS: Final = 1_000
MINUTE_MS: Final = 60_000
NAMED: Final = 3


class FailureSignal(NamedTuple):
    """One thing that tells whether the live loop does its work.

    Attributes
    ----------
    state
        ``ok``; ``warn``; ``fail``; ``quiet``: it cannot be judged now and need not (the market is
        closed, the deployment has no such part); ``unknown``: it could not be looked at.
    detail
        What was found, in words.
    since_ms
        Since when it is so, epoch ms; None when that is not known.
    action
        What to do; empty when there is nothing to do.
    """

    name: str
    state: State
    detail: str
    since_ms: int | None = None
    action: str = ""


class Limits(NamedTuple):
    """From when on something is a failure (docs/spec/trading-loop.md 5.7 and 8.1).

    ``settle_ms`` is FEED_SETTLE_MS: how old values may be follows from it and the bar's length.
    ``kill_switch_sec`` is open-market time. Margins are used / (used + available).
    """

    settle_ms: int = SETTLE_MS
    stream_silent_sec: int = 30
    eligible_least: int = 3
    eligible_for_sec: int = 600
    cooling_most: int = 4
    lag_records_per_pair: int = 10
    standing_sec: int = 30
    kill_switch_sec: int = 3_600
    cycle_sec: int = 30
    margin_entries: float = 0.30
    margin_overload: float = 0.80
    skew_ms: int = 2_000


class Judged(NamedTuple):
    """What every rule is given.

    Attributes
    ----------
    market
        Of ``now_ms``, for all pairs.
    calendar
        The hours of the market.
    """

    facts: LiveFacts
    now_ms: int
    config: Config
    limits: Limits
    market: Market
    calendar: Calendar

    @property
    def fresh_ms(self) -> int:
        """How old the last value of an instrument may be, in open-market time."""
        return fresh_for_ms(self.config.granularity_ms, self.limits.settle_ms)

    def age_ms(self, at_ms: int, instrument: str = "") -> int:
        """Return the open-market time from ``at_ms`` to now, by an instrument's own pauses."""
        return open_ms_between(self.calendar, at_ms, self.now_ms, instrument)

    def unjudged(self, name: str, source: Source) -> FailureSignal:
        """Return the signal of a source of which nothing is known."""
        if source in self.facts.unused:
            return FailureSignal(name, "quiet", f"{WORDS[source]} is not part of this deployment")
        why = self.facts.away.get(source, "it was not asked")
        return FailureSignal(
            name,
            "unknown",
            f"{WORDS[source]} cannot be asked: {why}",
            action=f"make {WORDS[source]} answer; until then take it as failed",
        )

    def closed(self, name: str) -> FailureSignal:
        """Return the signal of something that only moves while the market is open."""
        return FailureSignal(
            name, "quiet", f"the market is closed ({self.market.closed_for}), nothing is due"
        )


WORDS: Final[dict[Source, str]] = {
    "log": "the log",
    "valkey": "Valkey",
    "kill_switch": "the kill switch",
    "executor": "the executor",
    "feed": "the OANDA feed",
    "workers": "a worker",
}


def judged(facts: LiveFacts, now_ms: int, config: Config, limits: Limits) -> Judged:
    """Return what the rules go by."""
    calendar = calendar_of(config)
    return Judged(facts, now_ms, config, limits, market_at(calendar, now_ms), calendar)


def span(ms: int) -> str:
    """Return a length of time for people."""
    seconds = ms / SECOND_MS
    if seconds < 600:
        return f"{seconds:.0f} s"
    if seconds < 7_200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3_600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"


def several(parts: list[str]) -> str:
    """Return the first parts, and how many more there are."""
    more = len(parts) - NAMED
    return ", ".join(parts[:NAMED]) + (f" and {more} more" if more > 0 else "")
