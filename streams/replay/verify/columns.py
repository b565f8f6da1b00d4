"""Fast path of verify: the stages ``signals`` and ``gates`` over columns.

The output of a partition of ``md.candles`` is computed for many candles at once and compared byte
by byte with the log. If anything differs or is not supported here, the fast path declines and the
row-by-row stages fold the partition again and decide (``streams.replay.verify.verify``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain, islice
from typing import Any, NamedTuple

from streams.kafka.partitioner import partition_of
from streams.records.events import WATERMARK_KEY
from streams.records.log_record import Output, SourceRecord
from streams.records.topics import CANDLES, GATES, MANIFOLDS
from streams.replay.verify.report import LaterRecord, LaterRecords
from streams.replay.verify.rows import (
    OF_GATES,
    OF_SIGNALS,
    Expected,
    FastPathDeclined,
    PartitionColumns,
)


def is_record(message: Any, expected: Output) -> bool:
    """Return whether a message equals the output of a stage, byte by byte."""
    return bool(
        message.value() == expected.value
        and tuple(message.headers() or ()) == expected.headers
        and message.key() == expected.key
        and message.timestamp()[1] == expected.timestamp_ms
    )


def are_records(messages: Sequence[Any], expected: Expected) -> bool:
    """Return whether messages equal these records, byte by byte."""
    return (
        [message.value() for message in messages] == expected.values
        and [message.headers() for message in messages] == expected.headers
        and [message.key() for message in messages] == expected.keys
        and [message.timestamp()[1] for message in messages] == expected.timestamps
    )


def coordinates_of(source: bytes) -> tuple[int, int]:
    """Return partition and offset in the header ``source``; -1, -1 if there are none.

    The topic name is ignored.
    """
    _, partition, offset = (*source.split(b"-"), b"", b"", b"")[:3]
    if partition.isdigit() and offset.isdigit():
        return int(partition), int(offset)
    return -1, -1


def source_in(message: Any) -> tuple[int, int]:
    """Return the coordinates in the header ``source`` of a message."""
    return coordinates_of(dict(message.headers() or ()).get("source") or b"")


def later_record(topic: str, message: Any, source_offset: int) -> LaterRecord:
    """Return a message that was derived from an offset beyond the position of its stage."""
    return LaterRecord(f"{topic}-{message.partition()}-{message.offset()}", source_offset)


class Topics(NamedTuple):
    """The source of a partition's records.

    Attributes
    ----------
    candles
        Its partition of ``md.candles``, up to the position of ``signals``.
    derived
        Its partition of each derived topic with the same partition count.
    """

    candles: Iterator[list[SourceRecord]]
    derived: Mapping[str, Iterator[list[Any]]]


class _Queue:
    """Expected records, in order."""

    def __init__(self) -> None:
        self._expected = Expected([], [], [], [])
        self._taken = 0

    def __len__(self) -> int:
        return len(self._expected.values) - self._taken

    def put(self, expected: Expected) -> None:
        self._expected = self._expected.span(self._taken, len(self._expected.values)).then(expected)
        self._taken = 0

    def take(self, count: int) -> Expected:
        start, self._taken = self._taken, self._taken + count
        return self._expected.span(start, self._taken)


class PartitionCheck:
    """Compares the output of a partition with the log.

    Parameters
    ----------
    columns
        The output of the partition.
    number
        The partition.
    topics
        The topics to read.
    signals_done, gates_done
        Positions of the stages in ``md.candles`` and in ``sep.manifolds``.

    Attributes
    ----------
    compared
        Compared but not yet reported records, by topic.
    read
        Records read so far, by source topic.
    later
        Records derived from offsets beyond the positions of the stages.
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
        self._gates_done = gates_done
        self._decisions = _Queue()
        self.compared = dict.fromkeys((*OF_SIGNALS, *OF_GATES, GATES), 0)
        self.read = {CANDLES: 0, MANIFOLDS: 0}
        self.later = LaterRecords()

    def advance(self) -> bool:
        """Process the next batch of candles; return whether there was one.

        Raises
        ------
        FastPathDeclined
            Something is not what it should be.
        """
        records = next(self._candles, None)
        if records is None:
            for topic, found in self._found.items():
                self._require_later(topic, found, self._done[topic])
            return False
        rows, configs = self._columns.rows(records)
        offsets = [record.offset for record in records]
        self.read[CANDLES] += len(records)
        for topic in OF_SIGNALS:
            expected = self._columns.expected(rows[topic], CANDLES, offsets, configs)
            offsets_found = self._compare(topic, expected)
        # the gates are derived from the last topic
        manifolds = dict(zip(rows[MANIFOLDS].indices, offsets_found, strict=True))
        processed = {index for index, offset in manifolds.items() if offset < self._gates_done}
        self.read[MANIFOLDS] += len(processed)
        for topic in (*OF_GATES, GATES):
            own = rows[topic]
            if len(processed) < len(manifolds):
                own = own.where([i for i, index in enumerate(own.indices) if index in processed])
            expected = self._columns.expected(own, MANIFOLDS, manifolds, configs)
            if topic == GATES:
                self._decisions.put(expected)
            else:
                self._compare(topic, expected)
        return True

    def _compare(self, topic: str, expected: Expected) -> list[int]:
        messages = list(islice(self._found[topic], len(expected.values)))
        if not are_records(messages, expected):
            raise FastPathDeclined
        self.compared[topic] += len(messages)
        return [message.offset() for message in messages]

    def decided(self, messages: Sequence[Any]) -> None:
        """Compare the next records of the partition in ``opt.gates``.

        Raises
        ------
        FastPathDeclined
            As for ``advance``.
        """
        while len(self._decisions) < len(messages) and self.advance():
            pass
        count = min(len(messages), len(self._decisions))
        if not are_records(messages[:count], self._decisions.take(count)):
            raise FastPathDeclined
        self.compared[GATES] += count
        self._require_later(GATES, messages[count:], self._gates_done)

    def end(self) -> None:
        """Compare the remaining records of the partition; none may be missing.

        Raises
        ------
        FastPathDeclined
            As for ``advance``.
        """
        while self.advance():
            pass
        if len(self._decisions):
            raise FastPathDeclined

    def _require_later(self, topic: str, messages: Iterable[Any], done: int) -> None:
        # records derived after the position of the stage was read
        for message in messages:
            partition, offset = source_in(message)
            if partition != self._number or offset < done:
                raise FastPathDeclined
            self.later.note(topic, partition, later_record(topic, message, offset))


def compare_columns(
    checks: Mapping[int, PartitionCheck],
    known: Sequence[int],
    decisions: Iterator[list[Any]],
    progress: Callable[[str, int], None],
) -> dict[str, int]:
    """Compare the output of some partitions; return the number of compared records by topic.

    Parameters
    ----------
    checks
        The partitions.
    known
        All partitions; records of others in ``opt.gates`` are skipped.
    decisions
        All of ``opt.gates``: its order decides which partition is read next, to limit buffering.
    progress
        Called with a topic and the number of records compared since the last call.

    Raises
    ------
    FastPathDeclined
        Something is not what it should be.
    """
    total: Counter[str] = Counter(dict.fromkeys((*OF_SIGNALS, *OF_GATES, GATES), 0))
    for batch in decisions:
        for partition, messages in _of_partitions(batch, checks, len(known)).items():
            if partition in checks:
                checks[partition].decided(messages)
            elif partition not in known:
                raise FastPathDeclined
        _tell(checks, total, progress)
    for check in checks.values():
        check.end()
    _tell(checks, total, progress)
    return dict(total)


def _of_partitions(
    batch: Sequence[Any], expected: Collection[int], partitions: int
) -> dict[int, list[Any]]:
    """Return decisions by partition, without those that certainly belong to another task.

    Uses the key only, which is cheap to read: if a record with this key was derived from another
    partition, the task of that partition detects it.
    """
    keys = [message.key() for message in batch]
    owners = {key: _owner(key, partitions) for key in set(keys) if key != WATERMARK_KEY}
    others = {key for key, owner in owners.items() if owner is not None and owner not in expected}
    found: dict[int, list[Any]] = {}
    for key, message in zip(keys, batch, strict=True):
        if key not in others:
            owner = owners.get(key)
            partition = source_in(message)[0] if owner is None else owner
            found.setdefault(partition, []).append(message)
    return found


@lru_cache(maxsize=8192)
def _owner(key: bytes | None, partitions: int) -> int | None:
    return None if key is None else partition_of(key, partitions)


def _tell(
    checks: Mapping[int, PartitionCheck],
    total: Counter[str],
    progress: Callable[[str, int], None],
) -> None:
    for check in checks.values():
        for topic, count in check.compared.items():
            if count:
                progress(topic, count)
        total.update(check.compared)
        check.compared = dict.fromkeys(check.compared, 0)
