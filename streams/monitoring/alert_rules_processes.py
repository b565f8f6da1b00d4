"""The failure signals of the processes: restarts in a loop, and records that they refuse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from streams.monitoring.verdict import SECOND_MS, FailureSignal, Judged, several, span

_SEE_LOG: Final = (
    "read the last lines of its output: it ends for the same reason each time (a setting, a "
    "service that refuses it, a record that needs a newer program); then: manifold doctor"
)
_SEE_RECORD: Final = (
    "nothing stops: the record is skipped. Print it with what is wrong: manifold tail TOPIC "
    "--from -1h; find out who wrote it, and restrict write access to the topic (SECURITY.md)"
)


def restarts_since(starts: Sequence[int], since_ms: int, now_ms: int) -> int:
    """Return the number of restarts in a period; the first known start is not a restart.

    Parameters
    ----------
    starts
        Of one process, ascending, epoch ms.
    since_ms, now_ms
        The period.
    """
    return sum(since_ms <= at <= now_ms for at in starts[1:])


def restarts(at: Judged) -> FailureSignal:
    """Check for processes that restart in a loop; two restarts in 10 minutes are a warning."""
    name, limits = "restarts", at.limits
    window_ms = limits.restart_window_sec * SECOND_MS
    counts = {
        process: restarts_since(starts, at.now_ms - window_ms, at.now_ms)
        for process, starts in at.facts.starts.items()
    }
    often = sorted((-n, process) for process, n in counts.items() if n >= limits.restarts_warn)
    if often:
        said = several([f"{process} {-n} times" for n, process in often])
        state = "fail" if -often[0][0] >= limits.restarts_fail else "warn"
        first = min(
            next(s for s in at.facts.starts[process][1:] if s >= at.now_ms - window_ms)
            for _, process in often
        )
        detail = f"restarted in the last {span(window_ms)}: {said}"
        return FailureSignal(name, state, detail, first, _SEE_LOG)  # type: ignore[arg-type]
    if at.facts.valkey is None:
        return at.unjudged(name, "valkey")
    if at.facts.valkey.starts is None:
        detail = "the record of process starts in Valkey (ops:process_starts) cannot be read"
        action = "allow this Valkey user the key ops:process_starts, or delete it: DEL"
        return FailureSignal(name, "unknown", detail, action=action)
    return FailureSignal(
        name, "ok", f"no process restarted repeatedly; {len(counts)} started in the last hour"
    )


def invalid_records(at: Judged) -> FailureSignal:
    """Check for records that processes have refused in the last hour."""
    name = "invalid_records"
    window_ms = at.limits.invalid_for_sec * SECOND_MS
    recent = [one for one in at.facts.invalid if at.now_ms - one.at_ms < window_ms]
    if recent:
        recent.sort(key=lambda one: (-one.at_ms, one.topic, one.reason))
        said = several(
            [
                f"{one.topic} {one.reason} ({one.records:,}), last {one.coordinates}, "
                f"{span(max(0, at.now_ms - one.at_ms))} ago"
                for one in recent
            ]
        )
        since = min(min(one.at_ms for one in recent), at.now_ms)
        detail = f"records were refused in the last {span(window_ms)}: {said}"
        return FailureSignal(name, "warn", detail, since, _SEE_RECORD)
    if at.facts.log is None:
        return at.unjudged(name, "log")
    known = sum(one.records for one in at.facts.invalid)
    return FailureSignal(name, "ok", f"none in the last {span(window_ms)}, {known:,} known")
