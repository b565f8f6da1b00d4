"""The failure signal type, and the texts and thresholds shared by all rules."""

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
    """The state of one part of the live loop.

    Attributes
    ----------
    state
        ``ok``; ``warn``; ``fail``; ``quiet``: not applicable now (the market is closed, or the
        deployment has no such part); ``unknown``: it could not be probed.
    detail
        Finding as text.
    since_ms
        Start of the state, epoch ms; None when not known.
    action
        The fix; empty when none is needed.
    """

    name: str
    state: State
    detail: str
    since_ms: int | None = None
    action: str = ""


class Limits(NamedTuple):
    """Thresholds of the failure signals (docs/spec/trading-loop.md 5.7 and 8.1).

    ``restarts_warn`` and ``restarts_fail`` are restarts of one process within
    ``restart_window_sec``. An invalid record is reported for ``invalid_for_sec`` after it arrived
    (wall-clock time).
    ``settle_ms`` is FEED_SETTLE_MS: the maximum age of values follows from it and the bar length.
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
    restart_window_sec: int = 600
    restarts_warn: int = 2
    restarts_fail: int = 4
    invalid_for_sec: int = 3_600


class Judged(NamedTuple):
    """The input of every rule.

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
        """Maximum age of an instrument's last value, in open-market ms."""
        return fresh_for_ms(self.config.granularity_ms, self.limits.settle_ms)

    def age_ms(self, at_ms: int, instrument: str = "") -> int:
        """Return the open-market ms from ``at_ms`` to now, with the instrument's own trading
        pauses."""
        return open_ms_between(self.calendar, at_ms, self.now_ms, instrument)

    def unjudged(self, name: str, source: Source) -> FailureSignal:
        """Return the signal for an unavailable source."""
        if source in self.facts.unused:
            return FailureSignal(name, "quiet", f"{WORDS[source]} is not part of this deployment")
        why = self.facts.away.get(source, "it was not queried")
        return FailureSignal(
            name,
            "unknown",
            f"{WORDS[source]} is unavailable: {why}",
            action=f"make {WORDS[source]} available; until then treat it as failed",
        )

    def closed(self, name: str) -> FailureSignal:
        """Return the signal of a part that only changes while the market is open."""
        return FailureSignal(
            name, "quiet", f"the market is closed ({self.market.closed_for}), no data is due"
        )


WORDS: Final[dict[Source, str]] = {
    "log": "the log",
    "valkey": "Valkey",
    "kill_switch": "the kill switch",
    "executor": "the executor",
    "feed": "the OANDA feed",
    "workers": "a worker",
}


def rule_input(facts: LiveFacts, now_ms: int, config: Config, limits: Limits) -> Judged:
    """Return the input of the rules."""
    calendar = calendar_of(config)
    return Judged(facts, now_ms, config, limits, market_at(calendar, now_ms), calendar)


def span(ms: int) -> str:
    """Format a duration."""
    seconds = ms / SECOND_MS
    if seconds < 600:
        return f"{seconds:.0f} s"
    if seconds < 7_200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3_600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"


def several(parts: list[str]) -> str:
    """Join the first parts, followed by the number of further ones."""
    more = len(parts) - NAMED
    return ", ".join(parts[:NAMED]) + (f" and {more} more" if more > 0 else "")
