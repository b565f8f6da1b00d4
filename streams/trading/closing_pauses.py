"""When a failed closing is retried, and its description until then. Pure.

The pause doubles with every attempt. While the market is closed, the next attempt is when it opens:
by the market calendar, or when the venue reports a halted instrument as tradeable.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from streams.candles.calendar import FX, Calendar
from streams.candles.market_clock import market_at
from streams.instants import clock as instant_text

FIRST_PAUSE_S: Final = 0.5
NO_ANSWER_MOST_S: Final = 30.0
"""Maximum pause in s after an order that did not reach the venue, or whose answer was lost."""
REFUSED_MOST_S: Final = 900.0
"""Maximum pause in s after a refusal of the venue, including a halt while the market is open."""
AFTER_FILL_S: Final = 0.5
CANNOT_CLOSE: Final = "cannot close"
"""Prefix of the description of a failed closing."""
HALTED: Final = ("MARKET_HALTED",)

Subject = tuple[str, str]
"""An instrument, and the part to close: a trade, or the position opened by an order."""


class RetriedClosing(NamedTuple):
    """A closing that is retried.

    Attributes
    ----------
    since_ms
        Venue's time of the first of consecutive refusals.
    tries
        How many in a row.
    not_before
        Monotonic seconds of the earliest retry.
    opens_ms
        Venue's time before which the market is closed; 0 when it is open.
    reached
        Whether the venue has refused it; else it was not sent, or the result is unknown.
    seen_closed
        Whether the venue has since reported the instrument as not tradeable.
    """

    reason: str
    since_ms: int
    tries: int
    not_before: float
    opens_ms: int
    reached: bool
    seen_closed: bool = False

    def held_back(self, now: float, now_ms: int) -> bool:
        """Return whether it is too early for a retry."""
        return now < self.not_before or now_ms < self.opens_ms

    @property
    def words(self) -> str:
        """The reason, and the time of the retry."""
        times = "once" if self.tries == 1 else f"{self.tries} times"
        said = f"{self.reason} (tried {times} since {instant_text(self.since_ms)} UTC"
        if self.opens_ms:
            said += f"; the market opens at {instant_text(self.opens_ms)} UTC"
        return f"{said})"


class ClosingPauses:
    """The failed closings, by subject.

    Parameters
    ----------
    calendar
        Returns the current market calendar.
    """

    def __init__(self, calendar: Callable[[], Calendar] = lambda: FX) -> None:
        self._calendar = calendar
        self._refusals: dict[Subject, RetriedClosing] = {}
        self._resting: dict[Subject, float] = {}

    def refused(
        self, subject: Subject, reason: str, now: float, now_ms: int, *, reached: bool
    ) -> RetriedClosing:
        """Record a failed closing.

        Parameters
        ----------
        reason
            The venue's reason, or why it was not sent.
        now, now_ms
            Monotonic seconds; the venue's time.
        reached
            Whether the venue has refused it.
        """
        key = _key(subject, reason)
        before = self._refusals.get(key)
        tries = 1 if before is None else before.tries + 1
        most_s = REFUSED_MOST_S if reached else NO_ANSWER_MOST_S
        pause_s = min(FIRST_PAUSE_S * 2.0 ** min(tries - 1, 30), most_s)
        market = market_at(self._calendar(), now_ms, subject[0])
        halted = reason in HALTED and not market.open
        opens_ms = market.next_change_ms or 0 if halted else 0
        since_ms = now_ms if before is None else before.since_ms
        made = RetriedClosing(reason, since_ms, tries, now + pause_s, opens_ms, reached)
        self._refusals[key] = made
        return made

    def worked(self, subject: Subject, now: float) -> None:
        """Record a fill; the rest of the same subject is checked a little later."""
        for key in (subject, (subject[0], "*")):
            self._refusals.pop(key, None)
        self._resting[subject] = now + AFTER_FILL_S

    def answering(self) -> None:
        """Record that the venue answers again: closings that did not reach it are retried at
        once."""
        for key, one in self._refusals.items():
            if not one.reached:
                self._refusals[key] = one._replace(not_before=0.0)

    def saw(self, instrument: str, tradeable: bool) -> None:
        """Record whether the venue reports a halted instrument as tradeable."""
        key = (instrument, "*")
        found = self._refusals.get(key)
        if found is None:
            return
        if not tradeable:
            self._refusals[key] = found._replace(seen_closed=True)
        elif not found.seen_closed:
            # closed by the calendar, open at the venue: only the pauses count
            self._refusals[key] = found._replace(opens_ms=0)
        else:
            # once per halt: a venue that reports tradeable and still refuses is not retried each
            # time
            self._refusals[key] = found._replace(not_before=0.0, opens_ms=0, seen_closed=False)

    @property
    def halted(self) -> list[str]:
        """Instruments whose closing was refused by a trading halt."""
        return sorted(name for name, about in self._refusals if about == "*")

    def held_back(self, subject: Subject, now: float, now_ms: int) -> bool:
        """Return whether a closing must not be tried now."""
        if now < self._resting.get(subject, 0.0):
            return True
        found = (self._refusals.get(key) for key in (subject, (subject[0], "*")))
        return any(one is not None and one.held_back(now, now_ms) for one in found)

    def next_try_s(self, now: float, now_ms: int) -> float | None:
        """Return the seconds until the next retry; None when none waits."""
        left = [at - now for at in self._resting.values() if at > now]
        for one in self._refusals.values():
            if one.held_back(now, now_ms):
                left.append(max(one.not_before - now, (one.opens_ms - now_ms) / 1000))
        return min(left) if left else None

    def reason_of(self, subject: Subject) -> str:
        """Return why a closing fails, as text; empty without a failure."""
        found = self._refusals.get((subject[0], "*")) or self._refusals.get(subject)
        return "" if found is None else found.words

    def clear(self) -> None:
        """Clear all: a new command was given."""
        self._refusals.clear()
        self._resting.clear()

    def keep(self, subjects: set[Subject]) -> None:
        """Remove failures of closings that are no longer wanted."""
        names = {name for name, _ in subjects}
        self._refusals = {
            key: one
            for key, one in self._refusals.items()
            if key in subjects or (key[1] == "*" and key[0] in names)
        }


def _key(subject: Subject, reason: str) -> Subject:
    """A halt applies to the instrument, whichever trade it was found with."""
    return (subject[0], "*") if reason in HALTED else subject
