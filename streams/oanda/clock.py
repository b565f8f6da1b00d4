"""OANDA's clock, as seen from here: the ``Date`` of its answers against ours."""

from __future__ import annotations

from collections import deque
from email.utils import parsedate_to_datetime

SAMPLES = 32
DATE_STEP_MS = 1000


class BrokerClock:
    """How far OANDA's clock is ahead of this machine's.

    An answer sent at ``Date`` (whole seconds) that was asked for at ``sent`` and came at
    ``received`` (both ours) bounds the difference: ``Date - received <= skew < Date + 1 s - sent``.
    The bounds of the last answers together are narrower than any of them. A heartbeat of a stream
    bounds it from below by its whole way here, which is short.
    """

    def __init__(self) -> None:
        self._answers: deque[tuple[int, int]] = deque(maxlen=SAMPLES)
        self._beats: deque[int] = deque(maxlen=SAMPLES)

    def note(self, date: str | None, sent_ms: int, received_ms: int) -> None:
        """Take in the Date header of an answer and when, by our clock, it was asked for and came.

        A header that is no date says nothing.
        """
        try:
            at_ms = int(parsedate_to_datetime(date or "").timestamp() * 1000)
        except ValueError:
            return
        bounds = (at_ms - received_ms, at_ms + DATE_STEP_MS - sent_ms)
        self._answers.append(bounds)
        if self._low() > self._high():
            # one of the clocks was set: what was seen before no longer holds
            self._answers.clear()
            self._beats.clear()
            self._answers.append(bounds)

    def note_beat(self, time_ms: int, received_ms: int) -> None:
        """Take in the time of a heartbeat and when, by our clock, it came."""
        self._beats.append(time_ms - received_ms)
        if self._answers and self._low() > self._high():
            self._answers.clear()
            self._beats.clear()

    @property
    def skew_ms(self) -> float | None:
        """How far OANDA is ahead of us, None before the first answer."""
        if not self._answers:
            return None
        # a little too small: a bar is rather asked for late than before it has ended
        return self._low() if self._beats else (self._low() + self._high()) / 2

    @property
    def uncertainty_ms(self) -> float | None:
        """How far ``skew_ms`` may be off."""
        skew_ms = self.skew_ms
        return None if skew_ms is None else max(self._high() - skew_ms, skew_ms - self._low())

    def theirs_ms(self, ours_ms: int) -> int:
        """Return OANDA's time at an instant of our clock; ours before the first answer."""
        return ours_ms + round(self.skew_ms or 0.0)

    def _low(self) -> int:
        return max(*(low for low, _ in self._answers), *self._beats, -(1 << 62))

    def _high(self) -> int:
        return min(high for _, high in self._answers)
