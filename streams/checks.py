"""Run checks in parallel, each with a timeout; no check can stop or delay another."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from streams.errors import Fatal, Recoverable

State = Literal["ok", "warn", "fail", "skip"]
PATIENCE_SEC = 45.0


class Finding(NamedTuple):
    """The result of one check.

    Attributes
    ----------
    state
        ``fail``: it does not work, or not safely; ``warn``: it works, but needs attention;
        ``skip``: not part of this deployment, or it depends on something that failed.
    detail
        What was found, one sentence; never a secret.
    action
        What to do; empty when there is nothing to do.
    """

    name: str
    state: State
    detail: str
    action: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return self.state != "fail"


Examination = Callable[[], Sequence[Finding]]


def run_checks(
    examinations: Mapping[str, Examination], patience_sec: float = PATIENCE_SEC
) -> list[Finding]:
    """Run every check and return the findings in the order given.

    A check that raises ``Fatal`` or ``Recoverable`` fails with that message. A check that raises
    anything else, or exceeds the time limit, fails with a message that names it.

    Parameters
    ----------
    examinations
        Name -> function; each runs in its own thread.
    patience_sec
        Time limit for all checks together, seconds.
    """
    found: dict[str, Sequence[Finding]] = {}
    threads = {}
    for name, examination in examinations.items():
        # daemon threads: a check that hangs in a client library must not keep the process alive
        thread = threading.Thread(
            target=_run, args=(name, examination, found), name=f"examine-{name}", daemon=True
        )
        thread.start()
        threads[name] = thread
    end = time.monotonic() + patience_sec
    for thread in threads.values():
        thread.join(max(0.0, end - time.monotonic()))
    late = Finding("", "fail", f"no end within {patience_sec:g} s", "look at what it asks")
    return [
        finding for name in examinations for finding in found.get(name, [late._replace(name=name)])
    ]


def _run(name: str, examination: Examination, found: dict[str, Sequence[Finding]]) -> None:
    try:
        found[name] = examination()
    except (Fatal, Recoverable) as error:
        found[name] = [Finding(name, "fail", str(error))]
    except Exception as error:
        # the text of an unexpected error may contain a password
        kind = type(error).__name__
        action = "report it, with the versions that manifold doctor prints"
        found[name] = [Finding(name, "fail", f"the examination itself failed ({kind})", action)]


def worst(found: Sequence[Finding]) -> State:
    """Return the worst state among the findings."""
    states = {finding.state for finding in found}
    return "fail" if "fail" in states else "warn" if "warn" in states else "ok"


def findings_json(found: Sequence[Finding]) -> dict[str, Any]:
    """Return the findings as ``manifold doctor --json`` prints them."""
    return {"ok": worst(found) != "fail", "findings": [one._asdict() for one in found]}
