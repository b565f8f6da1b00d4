"""An independent reading of sessions, gates and weights, in the plainest Python there is.

Nothing of the stages is used: sessions are asked minute by minute in local time, gates are decided
from the whole past at every bar, and every epoch is allocated from all decisions at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

MINUTE_MS = 60_000
LOCAL_HOURS = {
    "London": ("Europe/London", 8, 16),
    "New York": ("America/New_York", 8, 17),
    "Tokyo": ("Asia/Tokyo", 8, 16),
    "Sydney": ("Australia/Sydney", 7, 15),
}
HOME = {
    **dict.fromkeys(("EUR", "GBP", "CHF"), ("London",)),
    **dict.fromkeys(("USD", "CAD"), ("New York",)),
    **dict.fromkeys(("AUD", "NZD"), ("Sydney",)),
    "JPY": ("Tokyo",),
}
ELSEWHERE = ("London", "New York")


def local(at_ms: int, zone: str) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(ZoneInfo(zone))


def in_market(at_ms: int, *, continuous: bool = False) -> bool:
    """Sunday 17:05 to Friday 16:59 New York; not from 16:59 before a holiday to 17:05 on it."""
    if continuous:
        return True
    here = local(at_ms, "America/New_York")
    minutes = here.hour * 60 + here.minute
    day = here.isoweekday() % 7  # Sunday is 0
    if (here.month, here.day) in ((12, 24), (12, 31)) and minutes >= 16 * 60 + 59:
        return False
    if (here.month, here.day) in ((12, 25), (1, 1)) and minutes < 17 * 60 + 5:
        return False
    if day == 0:
        return minutes >= 17 * 60 + 5
    if day == 5:
        return minutes < 16 * 60 + 59
    return day < 5


def in_session(instrument: str, at_ms: int, *, continuous: bool = False) -> bool:
    """Open in the union of the two currencies' sessions while the market is."""
    if not in_market(at_ms, continuous=continuous):
        return False
    for currency in instrument.split("_"):
        for session in HOME.get(currency, ELSEWHERE):
            zone, opens, closes = LOCAL_HOURS[session]
            if opens <= local(at_ms, zone).hour < closes:
                return True
    return False


def next_change_ms(instrument: str, at_ms: int, *, continuous: bool = False) -> int:
    """The first minute after ``at_ms`` at which open turns to closed or the other way round."""
    now = in_session(instrument, at_ms, continuous=continuous)
    later = at_ms - at_ms % MINUTE_MS + MINUTE_MS
    while in_session(instrument, later, continuous=continuous) == now:
        later += MINUTE_MS
    return later


def near_close(instrument: str, at_ms: int, exit_minutes: int, *, continuous: bool = False) -> bool:
    """Open, and closed within the exit minutes."""
    if not in_session(instrument, at_ms, continuous=continuous):
        return False
    return (
        next_change_ms(instrument, at_ms, continuous=continuous) - at_ms <= exit_minutes * MINUTE_MS
    )


def missing_bars(
    before_ms: int, bar_ms: int, granularity_ms: int, *, continuous: bool = False
) -> int:
    """Bars that start while the market is open between two candles, both excluded."""
    starts = range(before_ms + granularity_ms, bar_ms, granularity_ms)
    return sum(in_market(start, continuous=continuous) for start in starts)


def ms(year: int, month: int, day: int, hour: int = 0, minute: int = 0, zone: str = "UTC") -> int:
    """A local time as epoch milliseconds."""
    made = datetime(year, month, day, hour, minute, tzinfo=ZoneInfo(zone))
    return (made - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


class Seen(NamedTuple):
    """A signal as gates see it."""

    as_of_ms: int
    bar_ms: int
    metrics: Mapping[str, float]


def score(metrics: Mapping[str, float], env: Mapping[str, Any]) -> float:
    total = (
        env.get("w_c", 0.60) * metrics["coherence"]
        + env.get("w_stab", 0.20) * metrics["stability"]
        + env.get("w_rup", 0.15) * (1 - metrics["rupture"])
        + env.get("w_ent", 0.05) * (1 - metrics["entropy"])
    )
    return total - env.get("w_haz", 0.0) * metrics[env.get("hazard", "lambda_")]


def gate_reasons(
    instrument: str, at_ms: int, last: Seen | None, limits: Mapping[str, Any]
) -> list[str]:
    """Every reason against an instrument at an instant (static and echo mode)."""
    found = []
    if limits["sessions"]:
        if not in_market(at_ms):
            found.append("market_closed")
        if not in_session(instrument, at_ms):
            found.append("session_closed")
        if near_close(instrument, at_ms, limits["exit_minutes"]):
            found.append("session_near_close")
    if last is None:
        return sorted([*found, "warming"])
    m = last.metrics
    if limits["mode"] == "echo":
        checks = [
            ("repetitions_short", m["count_1h"] >= limits["echo_repetitions"]),
            ("hazard_above_max", m["lambda_hazard"] <= limits["echo_hazard"]),
        ]
    else:
        hazard = limits["max_hazard"]
        checks = [
            ("coherence_below_min", m["coherence"] >= limits["min_coherence"]),
            ("stability_below_min", m["stability"] >= limits["min_stability"]),
            ("entropy_above_max", m["entropy"] <= limits["max_entropy"]),
            ("rupture_above_max", m["rupture"] <= limits["max_rupture"]),
            ("hazard_above_max", hazard is None or m["lambda_hazard"] <= hazard),
            ("repetitions_short", m["count_1h"] >= limits["repetitions"]),
        ]
    checks.append(("signal_stale", at_ms - last.as_of_ms <= limits["max_age_ms"]))
    return sorted(found + [reason for reason, holds in checks if not holds])


class Vote(NamedTuple):
    """A gate decision as the allocator sees it."""

    instrument: str
    as_of_ms: int
    eligible: bool
    cooldown: bool
    score: float | None


class Epoch(NamedTuple):
    """What is published at an epoch; weights by instrument."""

    epoch_ms: int
    action: str
    weights: dict[str, float]
    held_since_ms: int | None


class Rules(NamedTuple):
    """The allocator's settings."""

    interval_ms: int = 60_000
    top_k: int = 3
    max_hold_ms: int = 900_000
    max_age_ms: int = 180_000


def epochs(
    votes: Sequence[Vote], members: Mapping[int, tuple[str, ...]] | tuple[str, ...], rules: Rules
) -> list[Epoch]:
    """All epochs that all decisions together close, from nothing but the set of decisions.

    ``members`` is the universe, or the universe by epoch.
    """
    first: dict[tuple[str, int], Vote] = {}
    for vote in votes:
        first.setdefault((vote.instrument, vote.as_of_ms), vote)
    made: list[Epoch] = []
    weights: dict[str, float] = {}
    since: int | None = None
    for at in sorted({vote.as_of_ms for vote in first.values()}):
        names = members if isinstance(members, tuple) else members[at]
        latest = {
            name: max((v for v in first.values() if v.instrument == name), key=lambda v: v.as_of_ms)
            for name in names
            if any(v.instrument == name for v in first.values())
        }
        if any(name not in latest or latest[name].as_of_ms < at for name in names):
            break
        if at % rules.interval_ms or not any((name, at) in first for name in names):
            continue
        good = []
        for name in names:
            past = [v for v in first.values() if v.instrument == name and v.as_of_ms <= at]
            if not past:
                continue
            vote = max(past, key=lambda v: v.as_of_ms)
            fresh = at - vote.as_of_ms <= rules.max_age_ms
            if not (vote.eligible and fresh) or vote.cooldown or vote.score is None:
                continue
            if math.isfinite(vote.score) and vote.score > 0:
                good.append((-vote.score, name))
        best = sorted(good)[: rules.top_k]
        if best:
            total = sum(-negative for negative, _ in sorted(best, key=lambda pair: pair[1]))
            weights, since = {name: -negative / total for negative, name in best}, None
            made.append(Epoch(at, "published", dict(weights), None))
            continue
        weights = {name: weight for name, weight in weights.items() if name in names}
        if weights:
            since = at if since is None else since
        if not weights or (since is not None and at - since >= rules.max_hold_ms):
            weights, since = {}, None
            made.append(Epoch(at, "cleared", {}, None))
        else:
            made.append(Epoch(at, "held", dict(weights), since))
    return made
