"""A fast yes of a verification: the stages ``signals`` and ``gates`` over columns.

What a partition of ``md.candles`` derives is computed for many candles at once by the lanes of a
replay, turned into records by the functions that the stages use, and compared byte by byte. Where
anything is not the same, or is beyond what is done here, nothing is said about it: the stages
themselves fold the partition again then and have the word (``streams.replay.verify``).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

from streams.replay.verify_rows import (
    OF_GATES,
    OF_SIGNALS,
    NotTheSame,
    PartitionColumns,
    Row,
    Wanted,
)
from streams.stages.step import SourceRecord
from streams.topics import CANDLES, GATES, MANIFOLDS, SIGNALS


def is_record(message: Any, wanted: Any) -> bool:
    """Return whether a client's message is this record, byte by byte.

    Parameters
    ----------
    wanted
        A ``Wanted``, or an ``Output`` of a stage.
    """
    return bool(
        message.value() == wanted.value
        and tuple(message.headers() or ()) == wanted.headers
        and message.key() == wanted.key
        and message.timestamp()[1] == wanted.timestamp_ms
    )


def coordinates_of(source: bytes) -> tuple[int, int]:
    """Return partition and offset that the header ``source`` names; -1, -1 if it names none.

    The name of the topic is not looked at.
    """
    _, partition, offset = (*source.split(b"-"), b"", b"", b"")[:3]
    if partition.isdigit() and offset.isdigit():
        return int(partition), int(offset)
    return -1, -1


def source_in(message: Any) -> tuple[int, int]:
    """Return the coordinates in the header ``source`` of a client's message."""
    return coordinates_of(dict(message.headers() or ()).get("source") or b"")


class Topics(NamedTuple):
    """Where a partition's records are read from.

    Attributes
    ----------
    candles
        Its part of ``md.candles``, up to where ``signals`` has come.
    derived
        Its part of each derived topic that has as many partitions.
    """

    candles: Iterator[list[SourceRecord]]
    derived: Mapping[str, Iterator[list[Any]]]


class PartitionCheck:
    """Compares what a partition derives with what lies in the log.

    Parameters
    ----------
    columns
        What it derives.
    number
        The partition.
    topics
        Where to read.
    signals_done, gates_done
        How far the stages have come in ``md.candles`` and in ``sep.manifolds``.

    Attributes
    ----------
    decisions
        What ``opt.gates`` must still show, in order.
    gates_done
        As given.
    compared
        Records compared and not told of yet, by topic.
    read
        Records taken in so far, by source topic.
    """

    def __init__(
        self,
        columns: PartitionColumns,
        number: int,
        topics: Topics,
        signals_done: int,
        gates_done: int,
    ) -> None:
        self._columns, self._number = columns, number
        self._candles = topics.candles
        self._found = {t: chain.from_iterable(topics.derived[t]) for t in topics.derived}
        self._done = dict.fromkeys(OF_SIGNALS, signals_done) | dict.fromkeys(OF_GATES, gates_done)
        self.gates_done = gates_done
        self.decisions: deque[Wanted] = deque()
        self.compared = dict.fromkeys((*OF_SIGNALS, *OF_GATES), 0)
        self.read = {CANDLES: 0, MANIFOLDS: 0}

    def advance(self) -> bool:
        """Take in another batch of candles; return whether there was one.

        Raises
        ------
        NotTheSame
            Something is not what it should be.
        """
        records = next(self._candles, None)
        if records is None:
            self._leftovers()
            return False
        rows, configs = self._columns.rows(records)
        offsets = [record.offset for record in records]
        self.read[CANDLES] += len(records)
        self._compare(SIGNALS, self._wanted(SIGNALS, rows, CANDLES, offsets, configs))
        places = [row.place for row in rows[MANIFOLDS]]
        at = self._compare(MANIFOLDS, self._wanted(MANIFOLDS, rows, CANDLES, offsets, configs))
        manifolds = dict(zip(places, at, strict=True))
        processed = {place for place, offset in manifolds.items() if offset < self.gates_done}
        self.read[MANIFOLDS] += len(processed)
        if len(processed) < len(manifolds):
            for topic in (*OF_GATES, GATES):
                rows[topic] = [row for row in rows[topic] if row.place in processed]
        for topic in OF_GATES:
            self._compare(topic, self._wanted(topic, rows, MANIFOLDS, manifolds, configs))
        self.decisions.extend(self._wanted(GATES, rows, MANIFOLDS, manifolds, configs))
        return True

    def _wanted(
        self, topic: str, rows: Mapping[str, Sequence[Row]], source: str, offsets: Any, configs: Any
    ) -> Iterator[Wanted]:
        return self._columns.wanted(topic, rows[topic], source, offsets, configs)

    def _compare(self, topic: str, wanted: Iterator[Wanted]) -> list[int]:
        found, places = self._found[topic], []
        for one in wanted:
            message = next(found, None)
            if message is None or not is_record(message, one):
                raise NotTheSame
            places.append(message.offset())
        self.compared[topic] += len(places)
        return places

    def _leftovers(self) -> None:
        # what was derived since the stage was asked how far it has come
        for topic, found in self._found.items():
            for message in found:
                partition, offset = source_in(message)
                if partition != self._number or offset < self._done[topic]:
                    raise NotTheSame


def compare_columns(
    checks: Mapping[int, PartitionCheck],
    known: Sequence[int],
    decisions: Iterator[list[Any]],
    progress: Callable[[str, int], None],
) -> dict[str, int]:
    """Compare everything that some partitions derive; return the records compared by topic.

    Parameters
    ----------
    checks
        The partitions.
    known
        All partitions; what ``opt.gates`` has of others is passed over.
    decisions
        All of ``opt.gates``: it decides which partition goes on, so that little has to wait.
    progress
        Told of a topic and the records compared since the last time.

    Raises
    ------
    NotTheSame
        Something is not what it should be.
    """
    total: Counter[str] = Counter(dict.fromkeys((*OF_SIGNALS, *OF_GATES, GATES), 0))
    for batch in decisions:
        matched = _decisions(checks, known, batch)
        _tell(checks, {GATES: matched}, total, progress)
    for check in checks.values():
        while check.advance():
            pass
        if check.decisions:
            raise NotTheSame
    _tell(checks, {}, total, progress)
    return dict(total)


def _decisions(
    checks: Mapping[int, PartitionCheck], known: Sequence[int], batch: Sequence[Any]
) -> int:
    matched, near = 0, deque[Wanted]()
    for message in batch:
        # nearly every record is the next one of the partition that the last one was of
        if near and is_record(message, near[0]):
            near.popleft()
            matched += 1
            continue
        partition, offset = source_in(message)
        check = checks.get(partition)
        if check is None:
            if partition not in known:
                raise NotTheSame
            continue
        near = check.decisions
        if offset >= check.gates_done:
            continue
        while not near:
            if not check.advance():
                raise NotTheSame
        if not is_record(message, near.popleft()):
            raise NotTheSame
        matched += 1
    return matched


def _tell(
    checks: Mapping[int, PartitionCheck],
    more: Mapping[str, int],
    total: Counter[str],
    progress: Callable[[str, int], None],
) -> None:
    found = Counter(more)
    for check in checks.values():
        found.update(check.compared)
        check.compared = dict.fromkeys(check.compared, 0)
    for topic, count in found.items():
        progress(topic, count)
    total.update(found)
