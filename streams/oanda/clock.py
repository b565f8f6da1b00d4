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
    The bounds of the last answers together are narrower than any of them.
    """

    def __init__(self) -> None:
        self._bounds: deque[tuple[int, int]] = deque(maxlen=SAMPLES)

    def note(self, date: str | None, sent_ms: int, received_ms: int) -> None:
        """Take in the Date header of an answer and when, by our clock, it was asked for and came.

        A header that is no date says nothing.
        """
        try:
            at_ms = int(parsedate_to_datetime(date or "").timestamp() * 1000)
        except ValueError:
            return
        bounds = (at_ms - received_ms, at_ms + DATE_STEP_MS - sent_ms)
        self._bounds.append(bounds)
        if self._low() > self._high():
            # one of the clocks was set: what was seen before no longer holds
            self._bounds.clear()
            self._bounds.append(bounds)

    @property
    def skew_ms(self) -> float | None:
        """How far OANDA is ahead of us, None before the first answer."""
        if not self._bounds:
            return None
        return (self._low() + self._high()) / 2

    @property
    def uncertainty_ms(self) -> float | None:
        """How far ``skew_ms`` may be off, either way."""
        if not self._bounds:
            return None
        return (self._high() - self._low()) / 2

    def theirs_ms(self, ours_ms: int) -> int:
        """Return OANDA's time at an instant of our clock; ours before the first answer."""
        return ours_ms + round(self.skew_ms or 0.0)

    def _low(self) -> int:
        return max(low for low, _ in self._bounds)

    def _high(self) -> int:
        return min(high for _, high in self._bounds)
