"""What the executor says about decisions of an instrument that it does not act on."""

from __future__ import annotations

from streams.monitoring.executor_status import ExecutorShape
from streams.records.events import GateDecision

CHANGE = "the next decision of the gates stage counts; manifold verify names records of no stage"


def refused_words(
    name: str, status: ExecutorShape | None, decision: GateDecision | None
) -> tuple[str, str]:
    """Return the instrument's last refused decision as text, and what must change.

    Both are empty when there is none; the latter is empty too when a later decision is in force.

    Parameters
    ----------
    decision
        The newest decision of the instrument in the log.
    """
    found = [] if status is None else status.refused_decisions
    last = next((one for one in found if one.instrument == name), None)
    if last is None:
        return "", ""
    in_force = decision is None or decision.as_of_ms != last.as_of_ms
    return f"; the executor does not act on {last.words}", "" if in_force else CHANGE
