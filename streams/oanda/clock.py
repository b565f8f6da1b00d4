"""OANDA's clock, estimated from the ``Date`` of its responses and the steady clock.

So setting the wall clock, by hand or by NTP, moves no bar and no deadline.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from email.utils import parsedate_to_datetime

from streams.process.steady_clock import wall_less_steady_ms

SAMPLES = 32
DATE_STEP_MS = 1000


class BrokerClock:
    """OANDA's time from the steady clock of this machine.

    A response with ``Date`` (whole seconds), requested at ``sent`` and received at ``received``
    (both local), bounds the difference: ``Date - received <= skew < Date + 1 s - sent``. The bounds
    of the last responses are combined. A heartbeat of a stream gives a lower bound, which is close
    because its latency is short.

    Parameters
    ----------
    wall_less_steady
        Wall clock minus steady clock, ms.
    """

    def __init__(self, wall_less_steady: Callable[[], int] = wall_less_steady_ms) -> None:
        self._wall_less_steady = wall_less_steady
        self._answers: deque[tuple[int, int]] = deque(maxlen=SAMPLES)
        self._beats: deque[int] = deque(maxlen=SAMPLES)

    def note(self, date: str | None, sent_ms: int, received_ms: int) -> None:
        """Add the Date header of a response and the steady times of request and response.

        A header that is not a date is ignored.
        """
        try:
            at_ms = int(parsedate_to_datetime(date or "").timestamp() * 1000)
        except ValueError:
            return
        bounds = (at_ms - received_ms, at_ms + DATE_STEP_MS - sent_ms)
        self._answers.append(bounds)
        if self._low() > self._high():
            # OANDA's clock was set: earlier bounds are invalid
            self._answers.clear()
            self._beats.clear()
            self._answers.append(bounds)

    def note_beat(self, time_ms: int, received_ms: int) -> None:
        """Add the time of a heartbeat and the steady time of its arrival."""
        self._beats.append(time_ms - received_ms)
        if self._answers and self._low() > self._high():
            self._answers.clear()
            self._beats.clear()

    @property
    def skew_ms(self) -> float | None:
        """How far OANDA is ahead of the local wall clock, ms; None before the first response."""
        ahead_ms = self._ahead_ms()
        return None if ahead_ms is None else ahead_ms - self._wall_less_steady()

    @property
    def uncertainty_ms(self) -> float | None:
        """Uncertainty of ``skew_ms``, ms."""
        ahead_ms = self._ahead_ms()
        return None if ahead_ms is None else max(self._high() - ahead_ms, ahead_ms - self._low())

    def server_ms(self, at_ms: int) -> int:
        """Return OANDA's time at a steady time; the wall clock's before the first response."""
        ahead_ms = self._ahead_ms()
        return at_ms + (self._wall_less_steady() if ahead_ms is None else round(ahead_ms))

    def _ahead_ms(self) -> float | None:
        if not self._answers:
            return None
        # rounded down: a late request is better than one before the bar has ended
        return self._low() if self._beats else (self._low() + self._high()) / 2

    def _low(self) -> int:
        return max(*(low for low, _ in self._answers), *self._beats, -(1 << 62))

    def _high(self) -> int:
        return min(high for _, high in self._answers)
