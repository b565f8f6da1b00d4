"""The failure signal of the configuration: processes that were started with other settings."""

from __future__ import annotations

from typing import Final

from streams.config.difference import Difference
from streams.monitoring.facts import LiveFacts, Source
from streams.monitoring.verdict import FailureSignal, Judged, several

_ASKED: Final[tuple[Source, ...]] = ("executor", "feed", "workers")
_ACTION: Final = (
    "set the active values where these processes are started (manifold config show --env prints "
    "them) and restart them, or change them for all: manifold config set NAME=VALUE "
    "--reason TEXT"
)


def config_differs(at: Judged) -> FailureSignal:
    """Check whether every process was started with the active settings.

    Every process follows the log, but then its environment shows settings that are not in effect.
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
        return FailureSignal(name, "warn", f"the log applies: {'; '.join(said)}", None, _ACTION)
    for source in _ASKED:
        if getattr(facts, source) is None and source not in facts.unused:
            return at.unjudged(name, source)
    asked = f"{', '.join(found)}: started with the active settings"
    asked_workers = facts.workers is not None and bool(facts.workers.config_differs)
    unknown = "" if asked_workers else "; no worker was queried (WORKER_METRICS_URLS)"
    return FailureSignal(name, "ok", asked + unknown)


def by_process(facts: LiveFacts) -> dict[str, tuple[Difference, ...]]:
    """Return the differences to the active settings, for each process that could be queried."""
    found = {"the service": facts.config_differs}
    if facts.executor is not None:
        found["the executor"] = facts.executor.config_differs
    if facts.feed is not None:
        found["the feed"] = facts.feed.config_differs
    if facts.workers is not None:
        for address, differs in facts.workers.config_differs.items():
            found[f"worker {address}"] = differs
    return found
