"""Examinations side by side, each bounded in time; none of them can stop or delay the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from streams.errors import Fatal, Recoverable

State = Literal["ok", "warn", "fail", "skip"]
PATIENCE_SEC = 45.0


class Finding(NamedTuple):
    """One thing that was examined.

    Attributes
    ----------
    state
        ``fail``: it does not work, or not safely; ``warn``: it works, and a person should know;
        ``skip``: not part of this deployment, or it hangs on something that failed.
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


def examine(
    examinations: Mapping[str, Examination], patience_sec: float = PATIENCE_SEC
) -> list[Finding]:
    """Return the findings of every examination, in the order given.

    One that raises what this package raises on purpose is a failure in those words; one that
    raises anything else, or does not come to an end, is a failure that names it.

    Parameters
    ----------
    examinations
        Name -> what to do; each runs in a thread of its own.
    patience_sec
        How long all of them together may take.
    """
    found: dict[str, Sequence[Finding]] = {}
    threads = {}
    for name, examination in examinations.items():
        # daemons: one that hangs in a client library must not keep the process
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
        # its text may hold anything, a password too
        kind = type(error).__name__
        action = "report it, with the versions that manifold doctor prints"
        found[name] = [Finding(name, "fail", f"the examination itself failed ({kind})", action)]


def worst(found: Sequence[Finding]) -> State:
    """Return the worst state among the findings."""
    states = {finding.state for finding in found}
    return "fail" if "fail" in states else "warn" if "warn" in states else "ok"


def as_json(found: Sequence[Finding]) -> dict[str, Any]:
    """Return the findings as ``manifold doctor --json`` prints them."""
    return {"ok": worst(found) != "fail", "findings": [one._asdict() for one in found]}
