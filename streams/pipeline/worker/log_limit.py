"""Rate limit for the log lines of the client libraries while a broker is unavailable."""

from __future__ import annotations

import logging
import time

PER_SECOND = 2.0
BURST = 20.0


class RateLimit(logging.Filter):
    """Passes a burst, then a few lines per second, and reports how many lines were dropped."""

    def __init__(self, per_second: float = PER_SECOND, burst: float = BURST) -> None:
        super().__init__()
        self._rate, self._room, self._burst = per_second, burst, burst
        self._at = time.monotonic()
        self._left_out = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the line is written."""
        now = time.monotonic()
        self._room = min(self._burst, self._room + (now - self._at) * self._rate)
        self._at = now
        if self._room < 1.0:
            self._left_out += 1
            return False
        self._room -= 1.0
        if self._left_out:
            record.msg = f"{record.getMessage()} ({self._left_out} lines like it left out)"
            record.args = ()
            self._left_out = 0
        return True


def quiet_logs() -> None:
    """Limit the loggers that write thousands of lines per second while a broker is unavailable."""
    limit = RateLimit()
    for name in ("aiokafka", *sorted(logging.Logger.manager.loggerDict)):
        if name.startswith("aiokafka"):
            logger = logging.getLogger(name)
            logger.setLevel(logging.ERROR)
            logger.addFilter(limit)
