"""Clock skew between machines, and the messages about it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from streams.instants import clock

MAX_SKEW_MS: Final = 60_000
"""Brokers refuse time stamps more than an hour ahead; a live feed needs a much smaller skew."""
SECOND_MS: Final = 1_000
KAFKA, REGISTRY, VALKEY, LOG = "Kafka", "the schema registry", "Valkey", "the log"
OANDA: Final = "OANDA"
ADVICE: Final = "synchronise the clocks (NTP; timedatectl shows this machine's)"


class Skew(NamedTuple):
    """How far this machine's clock is ahead of a server's.

    Attributes
    ----------
    ahead_ms
        The value nearest to zero that the measurement allows; negative: behind.
    """

    server: str
    ahead_ms: int

    @property
    def wrong(self) -> bool:
        """Whether the skew exceeds that of synchronised clocks."""
        return abs(self.ahead_ms) > MAX_SKEW_MS


def wrong_clock(skews: Sequence[Skew], now_ms: int) -> str:
    """Return a sentence about wrong clocks; empty when all are right.

    Parameters
    ----------
    skews
        The measured skews.
    now_ms
        This machine's clock, epoch ms.
    """
    wrong = [one for one in skews if one.wrong]
    if not wrong:
        return ""
    right = [one.server for one in skews if not one.wrong and one.server != LOG]
    agree = f" ({', '.join(right)} and this machine agree)" if right else ""
    return f"this machine's clock says {clock(now_ms)} UTC, {apart(wrong)}{agree}; {ADVICE}"


def apart(skews: Sequence[Skew]) -> str:
    """Describe the skew of this machine: ``2.0 h ahead of Kafka and Valkey``."""
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
    """Format a duration, without its sign."""
    seconds = abs(ms) / SECOND_MS
    if seconds < 600:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5_400 else f"{seconds / 3_600:.1f} h"


def refusal(skews: Sequence[Skew], now_ms: int, *, by_log: bool = False) -> str:
    """Return why this clock must not be used to write records; empty when it may.

    Brokers check time stamps against their own clock. The other clocks are used when the brokers do
    not report their time.

    Parameters
    ----------
    skews, now_ms
        As in ``wrong_clock``.
    by_log
        Whether candles in the future count as a reason as well: when brokers and this program share
        a clock, only they show that it was set back.
    """
    of_brokers = [one for one in skews if one.server == KAFKA]
    deciding = [one for one in of_brokers or skews if one.server != LOG]
    if by_log or not of_brokers:
        deciding += [one for one in skews if one.server == LOG]
    wrong = any(one.wrong for one in deciding)
    return wrong_clock(skews, now_ms) if wrong else ""


def ahead_ms(before_ms: int, after_ms: int, first_ms: int, last_ms: int) -> int:
    """Return the minimum skew: positive when ahead, negative when behind, 0 when it may be zero.

    Parameters
    ----------
    before_ms, after_ms
        This machine's clock before and after the request, epoch ms.
    first_ms, last_ms
        Bounds of the server's clock when it answered, epoch ms.
    """
    if before_ms > last_ms:
        return before_ms - last_ms
    return min(0, after_ms - first_ms)


ANSWER_SEC: Final = 3.0


def now_ms() -> int:
    """Return the wall clock, epoch ms UTC."""
    return time.time_ns() // 1_000_000
