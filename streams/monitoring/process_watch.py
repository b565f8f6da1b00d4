"""What the processes of a deployment report about themselves: their starts and invalid records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from streams.kafka.decoding import InvalidKind
from streams.mirror.process_starts import KEPT_MS
from streams.monitoring.facts import ExecutorFacts, FeedFacts, ProcessFacts, WorkerFacts

_SAME_START_MS: Final = 2
"""A start time as seconds in a metric, and as milliseconds in Valkey."""


class ProcessWatch:
    """Remembers the starts that were seen at the status ports.

    Valkey has a record of every start; this one is complete for processes that live long enough to
    be queried, and does not depend on Valkey.
    """

    def __init__(self) -> None:
        self._seen: dict[str, set[int]] = {}

    def note(self, processes: Iterable[ProcessFacts], now_ms: int) -> None:
        """Remember the starts that processes report, for an hour."""
        for process in processes:
            for name, started_ms in process.starts.items():
                self._seen.setdefault(name, set()).add(started_ms)
        since_ms = now_ms - KEPT_MS
        for name, known in self._seen.items():
            # the newest one before the hour is kept: without it the next one would be no restart
            before = max((at for at in known if at < since_ms), default=since_ms)
            self._seen[name] = {at for at in known if at >= before}

    def starts(
        self, recorded: Mapping[str, tuple[int, ...]] | None
    ) -> Mapping[str, tuple[int, ...]]:
        """Return process -> all known starts, ascending.

        Parameters
        ----------
        recorded
            The record in Valkey; None when it cannot be read.
        """
        found: dict[str, tuple[int, ...]] = {}
        for name in sorted({*self._seen, *(recorded or {})}):
            known = sorted({*self._seen.get(name, ()), *(recorded or {}).get(name, ())})
            found[name] = tuple(
                at
                for before, at in zip([None, *known], known, strict=False)
                if before is None or at - before > _SAME_START_MS
            )
        return found


def reports(
    executor: ExecutorFacts | None, feed: FeedFacts | None, workers: WorkerFacts | None
) -> list[ProcessFacts]:
    """Return what those processes report that could be queried."""
    single = [one.seen for one in (executor, feed) if one is not None]
    return [*single, *(workers.seen if workers is not None else ())]


def invalid_of_all(parts: Iterable[Iterable[InvalidKind]]) -> tuple[InvalidKind, ...]:
    """Return the invalid records of all processes, one entry per topic and reason.

    Several processes read the same records, so the counts are not added: the largest one counts.
    """
    found: dict[tuple[str, str], InvalidKind] = {}
    for part in parts:
        for one in part:
            known = found.get((one.topic, one.reason), one)
            newest = max(known, one, key=lambda kind: (kind.at_ms, kind.offset))
            found[one.topic, one.reason] = newest._replace(records=max(known.records, one.records))
    return tuple(found[kind] for kind in sorted(found))
