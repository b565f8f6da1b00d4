"""How far clocks are apart, and what is said of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from streams.instants import clock

MAX_SKEW_MS: Final = 60_000
"""Brokers refuse stamps more than an hour ahead; a live feed needs clocks far closer than that."""
SECOND_MS: Final = 1_000
KAFKA, REGISTRY, VALKEY, LOG = "Kafka", "the schema registry", "Valkey", "the log"
OANDA: Final = "OANDA"
ADVICE: Final = "synchronise the clocks (NTP; timedatectl shows this machine's)"


class Skew(NamedTuple):
    """How far this machine's clock is ahead of a server's.

    Attributes
    ----------
    ahead_ms
        Of the nearest value that the measurement allows; negative: behind.
    """

    server: str
    ahead_ms: int

    @property
    def wrong(self) -> bool:
        """Whether the two are further apart than clocks that somebody keeps."""
        return abs(self.ahead_ms) > MAX_SKEW_MS


def wrong_clock(skews: Sequence[Skew], now_ms: int) -> str:
    """Return what is wrong with the clocks in one sentence; empty when nothing is.

    Parameters
    ----------
    skews
        What was measured.
    now_ms
        This machine's clock.
    """
    wrong = [one for one in skews if one.wrong]
    if not wrong:
        return ""
    right = [one.server for one in skews if not one.wrong and one.server != LOG]
    agree = f" ({', '.join(right)} and this machine agree)" if right else ""
    return f"this machine's clock says {clock(now_ms)} UTC, {apart(wrong)}{agree}; {ADVICE}"


def apart(skews: Sequence[Skew]) -> str:
    """Return how far this machine's clock is from others: ``2.0 h ahead of Kafka and Valkey``."""
    servers: dict[str, list[str]] = {}
    for one in skews:
        way = "ahead of" if one.ahead_ms > 0 else "behind"
        name = "the last candle of the log" if one.server == LOG else one.server
        servers.setdefault(f"{length(one.ahead_ms)} {way}", []).append(name)
    return ", ".join(f"{how} {_listed(names)}" for how, names in servers.items())


def _listed(names: list[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def length(ms: int) -> str:
    """Return a length of time for people; its sign is left out."""
    seconds = abs(ms) / SECOND_MS
    if seconds < 600:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5_400 else f"{seconds / 3_600:.1f} h"


def refusal(skews: Sequence[Skew], now_ms: int, *, by_log: bool = False) -> str:
    """Return why nothing may be written by this clock; empty when it may.

    The brokers' time is what stamps are judged by. The others count where the brokers do not tell.

    Parameters
    ----------
    skews, now_ms
        As of ``wrong_clock``.
    by_log
        Whether a log that holds candles of the future is a reason, too: where brokers and this
        program go by the same clock, nothing else tells that it was set back.
    """
    of_brokers = [one for one in skews if one.server == KAFKA]
    deciding = [one for one in of_brokers or skews if one.server != LOG]
    if by_log or not of_brokers:
        deciding += [one for one in skews if one.server == LOG]
    wrong = any(one.wrong for one in deciding)
    return wrong_clock(skews, now_ms) if wrong else ""


def ahead_ms(before_ms: int, after_ms: int, first_ms: int, last_ms: int) -> int:
    """Return how far we are ahead at least; negative: behind at least; 0: it may be none.

    Parameters
    ----------
    before_ms, after_ms
        Our clock around the question.
    first_ms, last_ms
        Between which instants the server's clock stood when it answered.
    """
    if before_ms > last_ms:
        return before_ms - last_ms
    return min(0, after_ms - first_ms)


ANSWER_SEC: Final = 3.0


def now_ms() -> int:
    """Return the wall clock, epoch ms UTC."""
    return time.time_ns() // 1_000_000
