"""The failure signals of trading: kill switch, executor, orders, OANDA, margin."""

from __future__ import annotations

from streams.monitoring.facts import CallFacts, ExecutorFacts
from streams.monitoring.verdict import SECOND_MS, FailureSignal, Judged, several, span
from streams.process.clock_skew import ADVICE

REFUSED_WINDOW_MS = 900_000
"""A refused decision is a warning for that long."""
MISSED_CYCLES_WARN, MISSED_CYCLES_FAIL = 2, 3


def kill_switch_stuck(at: Judged) -> FailureSignal:
    """Check whether the kill switch is engaged for long, or although the log says off."""
    name, kill = "kill_switch_stuck", at.facts.kill_switch
    if kill is None:
        return at.unjudged(name, "kill_switch")
    if not kill.engaged:
        return FailureSignal(name, "ok", f"off{_said(kill.actor, kill.reason)}", kill.since_ms)
    if kill.logged is False:
        detail = f"engaged although the log says off: {several(list(kill.why))}"
        action = "start manifold serve, which holds its lease; see manifold kill status"
        return FailureSignal(name, "fail", detail, action=action)
    action = "to allow trading: manifold kill off --reason TEXT"
    if kill.since_ms is None:
        detail = f"engaged: {several(list(kill.why)) or 'never switched'}"
        return FailureSignal(name, "warn", detail, action=action)
    detail = f"engaged{_said(kill.actor, kill.reason)}"
    if not at.market.open:
        return FailureSignal(name, "quiet", f"{detail}; the market is closed", kill.since_ms)
    open_ms, most_ms = at.age_ms(kill.since_ms), at.limits.kill_switch_sec * SECOND_MS
    if open_ms > most_ms:
        detail = f"{detail} for {span(open_ms)} of open market"
        return FailureSignal(name, "warn", detail, kill.since_ms, action)
    return FailureSignal(name, "ok", detail, kill.since_ms)


def _said(actor: str, reason: str) -> str:
    who = f" by {actor}" if actor else ""
    return f"{who}: {reason}" if reason else who


def executor_stale(at: Judged) -> FailureSignal:
    """Check whether the executor runs its cycle and agrees with the broker."""
    name, found = "executor_stale", at.facts.executor
    if found is None:
        return at.unjudged(name, "executor")
    if found.last_cycle_ms is None:
        detail, action = "the executor has not run a cycle yet", "check the executor's output"
        return FailureSignal(name, "warn", detail, action=action)
    age_ms, cycle_ms = at.now_ms - found.last_cycle_ms, at.limits.cycle_sec * SECOND_MS
    if age_ms < -MISSED_CYCLES_WARN * cycle_ms:
        # its age is unknown: the executor may have ended long ago
        detail = f"its last cycle is {span(-age_ms)} after this clock's time: the clocks differ"
        return FailureSignal(name, "fail", detail, action=ADVICE)
    age_ms = max(0, age_ms)
    since_ms = found.last_cycle_ms + MISSED_CYCLES_WARN * cycle_ms
    detail = f"last cycle {span(age_ms)} ago"
    action = "restart the executor: it reconciles before it opens anything"
    if age_ms > MISSED_CYCLES_FAIL * cycle_ms:
        return FailureSignal(name, "fail", detail, since_ms, action)
    if not found.reconciled or found.trouble:
        said = found.trouble or "not reconciled with the broker"
        action = "no position is opened until it is; check the executor's output"
        return FailureSignal(name, "fail", f"{detail}; {said}", action=action)
    refused = [said for said, at_ms in found.refused if at.now_ms - at_ms < REFUSED_WINDOW_MS]
    if refused:
        action = "find who wrote it: manifold verify names records that no stage made"
        return FailureSignal(name, "warn", several(refused), action=action)
    if found.differences:
        said = f"differences to the broker: {several(list(found.differences))}"
        action = "see each difference in the executor's /status; close untracked positions by hand"
        return FailureSignal(name, "warn", said, action=action)
    if age_ms > MISSED_CYCLES_WARN * cycle_ms:
        return FailureSignal(name, "warn", detail, since_ms, action)
    return FailureSignal(name, "ok", f"{found.mode}, {detail}")


def closing_blocked(at: Judged) -> FailureSignal:
    """Check whether every position that is due to be closed can be closed."""
    name, found = "closing_blocked", at.facts.executor
    if found is None:
        return at.unjudged(name, "executor")
    if found.cannot_close:
        said = several([f"cannot close {one}" for one in found.cannot_close])
        action = "the executor retries; if urgent, close by hand at the broker"
        return FailureSignal(name, "fail", said, action=action)
    if found.untraded:
        said = f"the venue does not trade {several(list(found.untraded))}: no entries there"
        action = "remove it from HOTBAND_PAIRS; close an open position at the venue by hand"
        return FailureSignal(name, "warn", said, action=action)
    return FailureSignal(name, "ok", "no position waits to be closed")


def orders_rejected(at: Judged) -> FailureSignal:
    """Check whether the broker accepts the orders."""
    name = "orders_rejected"
    if at.facts.log is None or at.facts.log.orders is None:
        return at.unjudged(name, "log")
    found = at.facts.log.orders
    words = f"{found.rejected} rejected, {found.cancelled} cancelled of {found.sent} sent"
    detail = f"{words} in the last {span(found.window_ms)}"
    refused = found.rejected + found.cancelled
    if not refused:
        return FailureSignal(name, "ok", detail)
    because = f"; last: {found.last_reason}" if found.last_reason else ""
    action = "see manifold tail exec.fills; common causes: margin, trading halt, price, size"
    state = "fail" if 2 * refused >= found.sent else "warn"
    return FailureSignal(name, state, detail + because, action=action)  # type: ignore[arg-type]


def orders_unresolved(at: Judged) -> FailureSignal:
    """Check for orders whose result is unknown."""
    name = "orders_unresolved"
    if at.facts.log is None or at.facts.log.orders is None:
        return at.unjudged(name, "log")
    found = at.facts.log.orders
    if found.unresolved:
        detail = f"no answer known for {several(list(found.unresolved))}"
        action = "the executor queries them at the broker; start it if it is not running"
        return FailureSignal(name, "fail", detail, action=action)
    # an order that waits for a price, as in the paper account, is not unresolved
    limit_ms = at.fresh_ms
    late = [w for w in found.waiting if at.age_ms(w.since_ms, w.instrument) > limit_ms]
    if late:
        said = several([f"{w.order_id} ({w.instrument})" for w in late])
        detail = f"accepted by the venue and not filled for {span(limit_ms)} of open market: {said}"
        action = "see candle_stale: a paper order is filled by its instrument's next candle"
        since_ms = min(w.since_ms for w in late) + limit_ms
        return FailureSignal(name, "fail", detail, since_ms, action)
    waiting = f"none; {len(found.waiting)} wait for a price" if found.waiting else "none"
    return FailureSignal(name, "ok", waiting)


def stream_silent(at: Judged) -> FailureSignal:
    """Check whether OANDA's price stream delivers prices or heartbeats."""
    name, feed = "stream_silent", at.facts.feed
    if feed is None:
        return at.unjudged(name, "feed")
    if not at.market.open:
        return at.closed(name)
    action = "the feed reconnects by itself; check its output and OANDA's status page"
    if feed.last_message_ms is None:
        return FailureSignal(name, "fail", "no message from the price stream yet", action=action)
    silent_ms = max(0, at.now_ms - feed.last_message_ms)
    most_ms = at.limits.stream_silent_sec * SECOND_MS
    detail = f"last message {span(silent_ms)} ago"
    if silent_ms > most_ms:
        return FailureSignal(name, "fail", detail, feed.last_message_ms + most_ms, action)
    return FailureSignal(name, "ok", detail)


def oanda_errors(at: Judged) -> FailureSignal:
    """Check for failed requests to OANDA, of feed and executor together."""
    name, facts = "oanda_errors", at.facts
    calls: list[tuple[str, CallFacts]] = []
    for who, found in (("feed", facts.feed), ("executor", facts.executor)):
        if found is not None and found.calls is not None:
            calls.append((who, found.calls))
    if not calls:
        silent = facts.feed is None and "feed" not in facts.unused
        if silent or (facts.executor is None and "executor" not in facts.unused):
            return at.unjudged(name, "feed" if silent else "executor")
        return FailureSignal(name, "quiet", "OANDA is not used in this deployment")
    action = "see the output of the feed and of the executor; check OANDA's status page"
    broken = [f"{who}: {_last(one)}" for who, one in calls if one.breaker_open]
    if broken:
        detail = f"requests are held back after failures: {several(broken)}"
        return FailureSignal(name, "fail", detail, action=action)
    failing = [
        f"{who} {one.errors_recent} in {span(one.window_ms)} ({_last(one)})"
        for who, one in calls
        if one.errors_recent
    ]
    if failing:
        return FailureSignal(name, "warn", f"requests failed: {several(failing)}", action=action)
    if any(one.errors_recent is None for _, one in calls):
        return FailureSignal(
            name, "unknown", "counted from the next probe on", action="wait for it"
        )
    return FailureSignal(name, "ok", "no request failed")


def _last(calls: CallFacts) -> str:
    return calls.last_error or "no reason given"


def margin_high(at: Judged) -> FailureSignal:
    """Check the share of margin used (docs/spec/trading-loop.md 4.5)."""
    name, found = "margin_high", at.facts.executor
    if found is None:
        return at.unjudged(name, "executor")
    used = margin_share(found)
    if used is None:
        return FailureSignal(name, "unknown", "the account's margin is not known yet")
    detail, limits = f"{used:.1%} of the margin is used", at.limits
    action = "reduce positions, or flatten: manifold flatten --reason TEXT"
    if used >= limits.margin_overload:
        said = f"{detail}, MARGIN_OVERLOAD is {limits.margin_overload:.0%}"
        return FailureSignal(name, "fail", said, action=action)
    if used >= limits.margin_entries:
        said = f"{detail}: no position is opened from {limits.margin_entries:.0%} on"
        return FailureSignal(name, "warn", said, action=action)
    return FailureSignal(name, "ok", detail)


def margin_share(found: ExecutorFacts) -> float | None:
    """Return used / (used + available), None when the account is not known."""
    used, free = found.margin_used, found.margin_available
    if used is None or free is None:
        return None
    total = used + max(0.0, free)
    return used / total if total > 0 else 0.0
