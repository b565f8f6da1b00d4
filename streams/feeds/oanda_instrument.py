"""One instrument of a polling feed: evaluates responses and decides when to poll next.

Pure: no clock and no I/O. Times are epoch ms, the broker's. A bar is settled when its candle is
complete, or when the broker, polled late enough after the bar's end, has no candle for it. Bars
settle in order, so that an unsettled bar delays the later ones.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal, NamedTuple

from streams.candles.calendar import Calendar
from streams.candles.columns import digest
from streams.candles.rules import bar_step_ms, candle_refusal
from streams.instants import GRANULARITY_MS
from streams.oanda.shapes import BrokerCandle
from streams.records.events import Candle

POLLS_MS = (250, 500, 1000, 2000)
"""Pause before the next request after a response without news, ms."""
BARS_AFTER_CLOSE = 3
"""After the market has closed, one more request follows this many bars later."""
MOST_VERSIONS = 8
"""Maximum number of versions of a bar that are written; further revisions are only counted."""


class Settled(NamedTuple):
    """Candles to write: those of a settled bar, or late and revised candles of earlier bars.

    Attributes
    ----------
    as_of_ms
        End of the bar.
    candles
        The candles, earlier bars first; empty when the bar has no candle.
    settles_bar
        Whether this settles the bar, so that a watermark may be due.
    """

    instrument: str
    as_of_ms: int
    candles: tuple[Candle, ...]
    settles_bar: bool


class Notice(NamedTuple):
    """Something unusual about a candle, to be logged.

    Attributes
    ----------
    kind
        ``refused`` if the stages will refuse the candle; else ``revised`` or ``late``.
    detail
        The reason, if refused.
    """

    kind: Literal["revised", "late", "refused"]
    instrument: str
    bar_ms: int
    detail: str = ""


@dataclass
class Resume:
    """Resume point of an instrument.

    Attributes
    ----------
    frontier_ms
        All bars that end up to this time are settled, epoch ms.
    last_bar_ms
        Start of the last candle in the log, -1 without one.
    versions
        Of the last candles in the log: bar start -> digests of its versions.
    """

    frontier_ms: int
    last_bar_ms: int = -1
    versions: dict[int, set[int]] = field(default_factory=dict)


class InstrumentFeed:
    """State of one instrument, and its bars that wait to be written.

    Parameters
    ----------
    instrument, granularity
        The series.
    resume
        Its resume point.
    calendar
        The hours of the market.
    settle_ms, absent_after_ms, reread_bars
        As in ``FeedSettings``.

    Attributes
    ----------
    ready
        Settled bars and candles that are not written yet, in order.
    asked_ms, moved_ms
        Times of the last answered request, and of the last one that settled a bar, epoch ms; -1
        before.
    trouble
        Why the last request failed, None when it succeeded.
    """

    def __init__(
        self,
        instrument: str,
        granularity: str,
        resume: Resume,
        calendar: Calendar,
        *,
        settle_ms: int,
        absent_after_ms: int,
        reread_bars: int,
    ) -> None:
        self.instrument, self._granularity = instrument, granularity
        self._length, self._calendar = GRANULARITY_MS[granularity], calendar
        self._settle_ms, self._absent_after_ms = settle_ms, absent_after_ms
        self._reread = reread_bars
        self.frontier_ms, self.last_bar_ms = resume.frontier_ms, resume.last_bar_ms
        self._versions = dict(sorted(resume.versions.items())[-reread_bars:])
        self.ready: deque[Settled] = deque()
        self.asked_ms = self.moved_ms = -1
        self.trouble: str | None = None
        self._behind, self._tries = True, 0

    @property
    def from_ms(self) -> int:
        """Start of the first bar to request."""
        if self._versions:
            return min(self._versions)
        if self.last_bar_ms >= 0:
            return self.last_bar_ms
        return self.frontier_ms

    @property
    def next_end_ms(self) -> int:
        """End of the first unsettled bar in market hours."""
        return next_bar_end(self._calendar, self.frontier_ms, self._length)

    @property
    def due_ms(self) -> int:
        """When the next bar is due."""
        after_close = self.frontier_ms + BARS_AFTER_CLOSE * self._length
        if self.asked_ms < after_close < self.next_end_ms - self._length:
            return after_close + self._settle_ms
        return self.next_end_ms + self._settle_ms

    def overdue_ms(self, due_by_ms: int, upto_ms: int) -> int | None:
        """Return the end of the last bar that is overdue; None when none is.

        Parameters
        ----------
        due_by_ms
            The bar must have been due by this time.
        upto_ms
            Latest end.
        """
        grid = bar_step_ms(self._length)
        end_ms = min(due_by_ms - self._settle_ms, upto_ms) // grid * grid
        return end_ms if end_ms >= self.next_end_ms else None

    @property
    def ask_ms(self) -> int:
        """Time of the next request; the first is immediate, because candles may have been
        revised."""
        if self.asked_ms < 0:
            return self.frontier_ms
        if self._behind or self.asked_ms < self.due_ms:
            return self.due_ms
        return self.asked_ms + POLLS_MS[min(self._tries, len(POLLS_MS)) - 1]

    def failed(self, why: str) -> None:
        """Record that a request failed: nothing settles."""
        self.trouble = why

    def take(
        self, answer: Sequence[BrokerCandle], asked_ms: int, page: int, sure_ms: int | None = None
    ) -> list[Notice]:
        """Process the candles from ``from_ms`` on.

        Parameters
        ----------
        answer
            The candles as returned by the broker.
        asked_ms
            The broker's time of the request.
        page
            Maximum number of candles per response: in a full response nothing is known after the
            last one.
        sure_ms
            Lower bound of the broker's time of the request, used to settle bars without a candle;
            ``asked_ms`` by default.
        """
        self.trouble, self.asked_ms = None, asked_ms
        first = len(self.ready)
        self._behind = len(answer) >= page
        before_ms = self.frontier_ms
        known_ms = (asked_ms if sure_ms is None else sure_ms) - self._absent_after_ms
        if self._behind:
            known_ms = min(known_ms, max(candle.bar_ms for candle in answer))
        found = [self._candle(each) for each in answer if each.complete]
        forming = [c.bar_ms for c in answer if not c.complete and c.bar_ms > self.last_bar_ms]
        open_ms = min(forming) + self._length if forming else 1 << 62
        notices = self._repeated(found)
        by_bar: dict[int, list[Candle]] = {}
        for candle in found:
            if candle.bar_ms > self.last_bar_ms:
                by_bar.setdefault(candle.bar_ms, []).append(candle)
        self._settle(by_bar, known_ms, open_ms, notices)
        notices += [each for bar in islice(self.ready, first, None) for each in _refusals(bar)]
        moved = self.frontier_ms > before_ms
        self._tries = 0 if moved else self._tries + 1
        self.moved_ms = asked_ms if moved else self.moved_ms
        return notices

    def _repeated(self, found: Sequence[Candle]) -> list[Notice]:
        """Queue candles that were revised or arrived after newer ones."""
        notices: list[Notice] = []
        if not self._versions:
            return notices
        oldest = min(self._versions)
        for candle in sorted(found, key=lambda c: c.bar_ms):
            if oldest <= candle.bar_ms <= self.last_bar_ms:
                kind: Literal["revised", "late"] = (
                    "revised" if candle.bar_ms in self._versions else "late"
                )
                if self._remember(candle):
                    notices.append(Notice(kind, self.instrument, candle.bar_ms))
                    self._put(candle.as_of_ms, (candle,), settles_bar=False)
        return notices

    def _settle(
        self, by_bar: dict[int, list[Candle]], known_ms: int, open_ms: int, notices: list[Notice]
    ) -> None:
        waiting = deque(sorted(by_bar))
        while True:
            quiet_end = self.next_end_ms
            candle_end = waiting[0] + self._length if waiting else 1 << 62
            end_ms = min(quiet_end, candle_end)
            if end_ms >= open_ms:
                return  # the broker has an incomplete candle for that bar
            if candle_end == end_ms:
                self._arrived(by_bar[waiting.popleft()], end_ms, notices)
            elif end_ms <= known_ms:
                self._put(end_ms, (), settles_bar=True)
                self.frontier_ms = end_ms
            else:
                return

    def _arrived(self, versions: list[Candle], end_ms: int, notices: list[Notice]) -> None:
        self.last_bar_ms = versions[0].bar_ms
        new = [candle for candle in versions if self._remember(candle)]
        settles_bar = end_ms > self.frontier_ms
        if not settles_bar:
            notices.append(Notice("late", self.instrument, self.last_bar_ms))
        notices += [Notice("revised", self.instrument, self.last_bar_ms) for _ in new[1:]]
        self._put(end_ms, tuple(new), settles_bar=settles_bar)
        self.frontier_ms = max(self.frontier_ms, end_ms)

    def _put(self, as_of_ms: int, candles: tuple[Candle, ...], *, settles_bar: bool) -> None:
        self.ready.append(Settled(self.instrument, as_of_ms, candles, settles_bar))

    def _remember(self, candle: Candle) -> bool:
        """Record the digest of a candle; return whether it is new."""
        seen, mark = self._versions.setdefault(candle.bar_ms, set()), digest(candle)
        if mark in seen or len(seen) >= MOST_VERSIONS:
            return False
        seen.add(mark)
        while len(self._versions) > self._reread:
            del self._versions[min(self._versions)]
        return True

    def _candle(self, given: BrokerCandle) -> Candle:
        end_ms = given.bar_ms + self._length
        return Candle(
            self.instrument,
            self._granularity,
            given.bar_ms,
            end_ms,
            given.mid,
            given.bid,
            given.ask,
            given.mid_derived,
            given.volume,
            "oanda",
        )


def _refusals(bar: Settled) -> Iterator[Notice]:
    for candle in bar.candles:
        refusal = candle_refusal(candle, candle.instrument.encode())
        if refusal:
            yield Notice(
                "refused", candle.instrument, candle.bar_ms, f"{refusal.reason}: {refusal.detail}"
            )


def next_bar_end(calendar: Calendar, after_ms: int, length: int) -> int:
    """Return the end of the first bar in market hours that ends after ``after_ms``.

    Parameters
    ----------
    length
        Bar length in ms.
    """
    return calendar.first_bar_ms(after_ms // length * length, length) + length


def horizon_ms(feeds: Sequence[InstrumentFeed], holding: Sequence[bool]) -> int:
    """Return the bar end up to which bars may be written, so that instruments stay aligned.

    No instrument is written more than one bar ahead of an instrument that others wait for.

    Parameters
    ----------
    holding
        For each instrument, whether the others wait for it.
    """
    held = [feed.next_end_ms for feed, holds in zip(feeds, holding, strict=True) if holds]
    return min(held, default=1 << 62)


def not_waited_for(
    feeds: Sequence[InstrumentFeed], now_ms: int, *, written_ms: int, began_ms: int, wait_ms: int
) -> dict[str, int]:
    """Return the instruments that epochs no longer wait for, and the bar end up to which.

    An instrument that catches up is waited for as long as its bars arrive.

    Parameters
    ----------
    now_ms
        The broker's time.
    written_ms
        End of the newest written bar of any instrument: there is no later epoch yet.
    began_ms
        Start of polling, epoch ms.
    wait_ms
        EPOCH_MAX_WAIT_SEC.
    """
    found: dict[str, int] = {}
    for feed in feeds:
        waited_ms = now_ms - max(feed.moved_ms, began_ms)
        until_ms = feed.overdue_ms(now_ms - wait_ms, written_ms)
        if waited_ms >= wait_ms and until_ms is not None:
            found[feed.instrument] = until_ms
    return found


def take_ended_bars(feeds: Sequence[InstrumentFeed], until_ms: int) -> list[Settled]:
    """Remove and return the bars that end up to ``until_ms``, by time, ties by instrument."""
    taken: list[Settled] = []
    for feed in feeds:
        while feed.ready and feed.ready[0].as_of_ms <= until_ms:
            taken.append(feed.ready.popleft())
    return sorted(taken, key=lambda bar: (bar.as_of_ms, bar.instrument))
