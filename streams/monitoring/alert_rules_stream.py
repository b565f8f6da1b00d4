"""The failure signals of the stream: candles, manifolds, gates, weights, lag, dead letters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from streams.candles.freshness import fresh_for_ms
from streams.candles.sessions import session_state
from streams.mirror.probe import MirroredManifold, MirrorFacts
from streams.monitoring.facts import EpochFacts, LogFacts
from streams.monitoring.verdict import SECOND_MS, FailureSignal, Judged, several, span
from streams.process.clock_skew import ADVICE, LOG, OANDA, Skew, apart

MISSED_INTERVALS = 5
EXPIRY_SLACK_MS = 5_000
REBUILD = "rebuild the mirror: manifold mirror --rebuild; or wait: the next bar writes it too"
RESTART_MIRROR = "check the mirror (manifold mirror); restart it: it continues where it stopped"
RESTART_STAGES = "check the worker (manifold status); restart it: it continues where it stopped"
LOOK_AT_FEED = "check the feed's output and restart it: it continues after the last candle"


def candle_stale(at: Judged) -> FailureSignal:
    """Check the age of the last candle of every pair in the log."""
    name = "candle_stale"
    if at.facts.log is None:
        return at.unjudged(name, "log")
    if not at.market.open:
        return at.closed(name)
    last = {pair: at.facts.log.candles.get(pair) for pair in at.facts.pairs}
    return _oldest(at, name, "candle in the log", last, LOOK_AT_FEED)


def manifold_stale(at: Judged) -> FailureSignal:
    """Check ``ws:last:manifold`` of every pair: too old, without its metrics, or absent."""
    name = "manifold_stale"
    if at.facts.valkey is None:
        return at.unjudged(name, "valkey")
    found = at.facts.valkey.manifolds
    wrong = missing_manifolds(at, at.facts.valkey)
    if wrong:
        return FailureSignal(name, "fail", several(wrong), action=REBUILD)
    if not at.market.open:
        return at.closed(name)
    last = {pair: found[pair].as_of_ms if pair in found else None for pair in at.facts.pairs}
    return _oldest(at, name, "manifold in Valkey", last, "see stage_lag and candle_stale")


def missing_manifolds(at: Judged, mirror: MirrorFacts) -> list[str]:
    """Return the pairs whose ``ws:last:manifold`` lacks metrics or expired too early."""
    known = ((pair, mirror.manifolds.get(pair)) for pair in at.facts.pairs)
    found = [mirrored_manifold_problem(at, pair, one) for pair, one in known if one is not None]
    return [problem for problem in found if problem is not None]


def mirrored_manifold_problem(at: Judged, pair: str, found: MirroredManifold) -> str | None:
    """Return the problem with ``ws:last:manifold`` of a pair, apart from its age."""
    if found.missing:
        return f"{pair} lacks {' '.join(found.missing)}"
    if found.there or found.as_of_ms is None:
        return None
    # with room for the mirror's FEED_SETTLE_MS and for a clock difference
    alive_ms = fresh_for_ms(at.config.granularity_ms, 0) - EXPIRY_SLACK_MS
    age_ms = max(0, at.now_ms - found.as_of_ms)
    if age_ms >= alive_ms:
        return None  # it has expired as expected
    return f"{pair} is not in Valkey, although its last manifold is {span(age_ms)} old"


def _oldest(
    at: Judged, name: str, what: str, last: Mapping[str, int | None], action: str
) -> FailureSignal:
    limit_ms = at.fresh_ms
    ages = {pair: at.age_ms(ms, pair) for pair, ms in last.items() if ms is not None}
    # a pair without a value counts as late
    none = [f"{pair} has none" for pair, ms in last.items() if ms is None]
    late = sorted((pair for pair in ages if ages[pair] > limit_ms), key=lambda p: (-ages[p], p))
    if none or late:
        since = [ms + limit_ms for pair, ms in last.items() if ms is not None and pair in late]
        said = several([*none, *(f"{pair} {span(ages[pair])}" for pair in late)])
        detail = f"no {what} for {span(limit_ms)} of open market or more: {said}"
        return FailureSignal(name, "fail", detail, None if none else min(since), action)
    if not ages:
        return FailureSignal(name, "unknown", "no pairs are configured", action="set HOTBAND_PAIRS")
    worst = max(ages, key=lambda pair: ages[pair])
    return FailureSignal(name, "ok", f"the oldest {what} is {span(ages[worst])} old ({worst})")


def gates_blob_stale(at: Judged) -> FailureSignal:
    """Check ``opt:rolling:gates_blob``: absent, or older than ``EVAL_INTERVAL_SEC``."""
    name = "gates_blob_stale"
    if at.facts.valkey is None:
        return at.unjudged(name, "valkey")
    if not at.market.open:
        return at.closed(name)
    interval_ms = max(at.config.alloc_interval_sec * SECOND_MS, at.config.granularity_ms)
    most_ms = max(at.config.eval_interval_sec * SECOND_MS, 2 * interval_ms)
    usual_ms = max(at.config.gates_blob_max_age_sec * SECOND_MS, 2 * interval_ms)
    return _aged(at, name, "gates blob", at.facts.valkey.blob_ms, min(usual_ms, most_ms), most_ms)


def allocator_stale(at: Judged) -> FailureSignal:
    """Check the age of the allocator's status, which is written at every epoch."""
    name = "allocator_stale"
    if at.facts.valkey is None:
        return at.unjudged(name, "valkey")
    if not at.market.open:
        return at.closed(name)
    interval_ms = max(at.config.alloc_interval_sec * SECOND_MS, at.config.granularity_ms)
    most_ms = MISSED_INTERVALS * interval_ms
    status_ms = at.facts.valkey.status_ms
    return _aged(at, name, "allocator's status", status_ms, most_ms // 2, most_ms)


def _aged(
    at: Judged, name: str, what: str, at_ms: int | None, usual_ms: int, most_ms: int
) -> FailureSignal:
    away, action = _away(at, at_ms)
    if at_ms is None:
        return FailureSignal(name, "fail", f"there is no {what}{away}", action=action)
    age_ms = at.age_ms(at_ms)
    detail = f"the {what} is {span(age_ms)} of open market old"
    if age_ms > most_ms:
        said = f"{detail}, more than {span(most_ms)}{away}"
        return FailureSignal(name, "fail", said, at_ms + most_ms, action)
    if age_ms > usual_ms:
        said = f"{detail}, more than the usual {span(usual_ms)}{away}"
        return FailureSignal(name, "warn", said, at_ms + usual_ms, action)
    return FailureSignal(name, "ok", detail)


def _away(at: Judged, epoch_ms: int | None) -> tuple[str, str]:
    """Return which process is behind, as far as the log shows, and the fix.

    Parameters
    ----------
    epoch_ms
        The epoch in Valkey.
    """
    log = at.facts.log
    if log is None:
        return "", RESTART_STAGES
    known_ms = -1 if epoch_ms is None else epoch_ms
    if log.epochs and log.epochs[-1].epoch_ms > known_ms:
        behind = log.lag.get("mirror", 0)
        return f": the mirror is down or behind ({behind:,} records)", RESTART_MIRROR
    newest_ms = max((ms for ms in log.candles.values() if ms is not None), default=-1)
    if newest_ms > known_ms:
        return ": the worker is down or behind, the log has newer candles", RESTART_STAGES
    return ": the feed is down, the log has no newer candle", LOOK_AT_FEED


def weights_zeroed(at: Judged) -> FailureSignal:
    """Check whether weights are empty although instruments are eligible.

    Held or cleared weights while no instrument is eligible are correct; see ``eligible_few``.
    """
    name, log, valkey = "weights_zeroed", at.facts.log, at.facts.valkey
    if log is None:
        return at.unjudged(name, "log")
    if not log.epochs:
        return FailureSignal(name, "unknown", "no epoch yet: no weights were ever published")
    last = log.epochs[-1]
    words = f"{last.weighted} with weight of {last.eligible} eligible ({last.action})"
    if not last.weighted and last.eligible:
        since = _run(log.epochs, lambda e: not e.weighted and e.eligible > 0)
        action = "see manifold why INSTRUMENT; a score that is not positive gets no weight"
        return FailureSignal(name, "fail", f"weights are empty: {words}", since, action)
    if valkey is None:
        return at.unjudged(name, "valkey")
    if last.weighted and not valkey.weighted and not log.lag.get("mirror", 0):
        action = "rebuild the mirror: manifold mirror --rebuild"
        detail = f"risk:allocation_weights is empty in Valkey, the log has {last.weighted}"
        return FailureSignal(name, "fail", detail, action=action)
    return FailureSignal(name, "ok", f"{words}: {last.reason}")


def selection_short(at: Judged) -> FailureSignal:
    """Check whether min(Top-K, eligible) instruments have weight."""
    name = "selection_short"
    if at.facts.log is None:
        return at.unjudged(name, "log")
    if not at.facts.log.epochs:
        return FailureSignal(name, "unknown", "no epoch yet")
    last = at.facts.log.epochs[-1]
    due = min(last.top_k, last.eligible)
    detail = f"{last.weighted} with weight, {last.eligible} eligible, ALLOC_TOP_K={last.top_k}"
    if last.weighted >= due:
        return FailureSignal(name, "ok", detail)
    since = _run(at.facts.log.epochs, lambda e: e.weighted < min(e.top_k, e.eligible))
    action = "see manifold why INSTRUMENT; a score that is not positive gets no weight"
    return FailureSignal(name, "warn", detail, since, action)


def eligible_few(at: Judged) -> FailureSignal:
    """Check whether enough instruments are eligible: fewer than 3 for 10 minutes fails."""
    name = "eligible_few"
    if at.facts.log is None:
        return at.unjudged(name, "log")
    if not at.market.open:
        return at.closed(name)
    least = min(at.limits.eligible_least, len(at.facts.pairs))
    in_session = _in_session(at)
    if in_session < least:
        detail = f"only {in_session} of {len(at.facts.pairs)} pairs have an open session"
        return FailureSignal(name, "quiet", detail)
    epochs = at.facts.log.epochs
    if not epochs:
        return FailureSignal(name, "warn", "no epoch yet", action=RESTART_STAGES)
    last = epochs[-1]
    detail = f"{last.eligible} of {last.members} eligible, required {least}"
    since = _run(epochs, lambda epoch: epoch.eligible < least)
    if since is None:
        return FailureSignal(name, "ok", detail)
    action = "see which guard fails: manifold status; thresholds: manifold calibrate"
    long = last.epoch_ms - since >= at.limits.eligible_for_sec * SECOND_MS
    return FailureSignal(name, "fail" if long else "warn", detail, since, action)


def _in_session(at: Judged) -> int:
    if not at.config.session_trading_enabled:
        return len(at.facts.pairs)
    exit_minutes = at.config.session_exit_minutes
    states = (session_state(at.calendar, pair, at.now_ms, exit_minutes) for pair in at.facts.pairs)
    return sum(state.open and not state.near_close for state in states)


def cooldowns_many(at: Judged) -> FailureSignal:
    """Check the number of instruments in cooldown: more than 4 is a warning."""
    name = "cooldowns_many"
    if at.facts.log is None:
        return at.unjudged(name, "log")
    if not at.facts.log.epochs:
        return FailureSignal(name, "unknown", "no epoch yet")
    last, most = at.facts.log.epochs[-1], at.limits.cooling_most
    detail = f"{last.cooling} of {last.members} in cooldown"
    since = _run(at.facts.log.epochs, lambda epoch: epoch.cooling > most)
    if since is None:
        return FailureSignal(name, "ok", detail)
    action = "the backtests miss their floors: manifold status, manifold calibrate"
    return FailureSignal(name, "warn", detail, since, action)


def stage_lag(at: Judged) -> FailureSignal:
    """Check the lag of the stages and of the mirror."""
    name, log = "stage_lag", at.facts.log
    if log is None:
        return at.unjudged(name, "log")
    behind = {stage: lag for stage, lag in log.lag.items() if lag > 0}
    stalled_ms = at.limits.standing_sec * SECOND_MS
    stuck = [
        f"{stage} has made no progress for {span(log.stalled_ms[stage])} with a lag of {lag:,} "
        "records"
        for stage, lag in behind.items()
        if log.stalled_ms.get(stage, 0) > stalled_ms
    ]
    if stuck:
        since = max(log.stalled_ms[stage] for stage in behind if stage in log.stalled_ms)
        action = "start or restart it: manifold worker for a stage, manifold mirror for the mirror"
        return FailureSignal(name, "fail", several(stuck), at.now_ms - since, action)
    most = at.limits.lag_records_per_pair * max(1, len(at.facts.pairs))
    far = [f"{stage} {lag:,}" for stage, lag in behind.items() if lag > most]
    if far:
        action = "wait while it catches up; start more workers if it does not"
        return FailureSignal(name, "warn", f"behind by records: {several(far)}", None, action)
    return FailureSignal(name, "ok", _lags(log))


def _lags(log: LogFacts) -> str:
    return ", ".join(f"{stage} {lag:,}" for stage, lag in log.lag.items()) or "no stage"


def dead_letters(at: Judged) -> FailureSignal:
    """Check for new dead letters."""
    name, log = "dead_letters", at.facts.log
    if log is None:
        return at.unjudged(name, "log")
    if log.dead_letters_recent:
        detail = f"{log.dead_letters_recent:,} in the last {span(log.dead_letters_window_ms)}"
        action = "see what was refused and why: manifold tail dead.letters"
        return FailureSignal(name, "warn", detail, action=action)
    return FailureSignal(name, "ok", f"none new, {log.dead_letters:,} in all")


def clock_skew(at: Judged) -> FailureSignal:
    """Compare this clock with the servers' clocks and with the newest event time in the log."""
    name, log, feed = "clock_skew", at.facts.log, at.facts.feed
    if log is None and feed is None:
        return at.unjudged(name, "log")
    skews = list(at.facts.clocks)
    known = [ms for ms in log.candles.values() if ms is not None] if log else []
    skews.append(Skew(LOG, min(0, at.now_ms - max(known, default=at.now_ms))))
    if feed is not None and feed.skew_ms is not None:
        skews.append(Skew(OANDA, -feed.skew_ms))
    wrong = [one for one in skews if abs(one.ahead_ms) > at.limits.skew_ms]
    if wrong:
        return FailureSignal(name, "fail", f"this machine's clock is {apart(wrong)}", action=ADVICE)
    most_ms = max(abs(one.ahead_ms) for one in skews)
    return FailureSignal(name, "ok", f"off by {most_ms} ms at most, as far as can be measured")


def _run(epochs: Sequence[EpochFacts], holds: Callable[[EpochFacts], bool]) -> int | None:
    """Return since when ``holds`` is true for every epoch up to the last; None when it is not."""
    since = None
    for epoch in reversed(epochs):
        if not holds(epoch):
            break
        since = epoch.epoch_ms
    return since
