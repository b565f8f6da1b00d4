"""The failure signal of the configuration: processes that were started with other settings."""

from __future__ import annotations

from typing import Final

from streams.config.difference import Difference
from streams.monitoring.facts import LiveFacts, Source
from streams.monitoring.verdict import FailureSignal, Judged, several

_ASKED: Final[tuple[Source, ...]] = ("executor", "feed", "workers")
_ACTION: Final = (
    "set the active ones where these processes are started (manifold config show --env prints "
    "them) and start them again, or change them for all: manifold config set NAME=VALUE "
    "--reason TEXT"
)


def config_differs(at: Judged) -> FailureSignal:
    """Judge whether every process was started with the active settings.

    All of them follow the log; but who reads their environment reads what does not hold.
    """
    name, facts = "config_differs", at.facts
    if facts.log is None:
        return at.unjudged(name, "log")
    found = by_process(facts)
    where: dict[Difference, list[str]] = {}
    for who, differs in found.items():
        for one in differs:
            where.setdefault(one, []).append(who)
    if where:
        said = [
            f"{one.name} is {one.here or 'unset'} for {several(who)}, {one.active or 'unset'} is "
            "active"
            for one, who in where.items()
        ]
        return FailureSignal(name, "warn", f"the log is followed: {'; '.join(said)}", None, _ACTION)
    for source in _ASKED:
        if getattr(facts, source) is None and source not in facts.unused:
            return at.unjudged(name, source)
    asked = f"{', '.join(found)}: started with the active settings"
    asked_workers = facts.workers is not None and bool(facts.workers.config_differs)
    unknown = "" if asked_workers else "; no worker was asked (WORKER_METRICS_URLS)"
    return FailureSignal(name, "ok", asked + unknown)


def by_process(facts: LiveFacts) -> dict[str, tuple[Difference, ...]]:
    """Return where the settings of each process that could be asked are not the active ones."""
    found = {"the service": facts.config_differs}
    if facts.executor is not None:
        found["the executor"] = facts.executor.config_differs
    if facts.feed is not None:
        found["the feed"] = facts.feed.config_differs
    if facts.workers is not None:
        for address, differs in facts.workers.config_differs.items():
            found[f"worker {address}"] = differs
    return found
