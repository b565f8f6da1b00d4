"""The truncation test: no derived record may depend on later input.

The whole input is derived once, and again with the input cut at a time T, for many T. The output of
the whole run up to T must equal the output of the run that ends at T, byte for byte (value, key,
timestamp), without additional records on either side.

**What is known by T.** A record of ``md.candles``, candle or watermark, is known at its timestamp:
a record with timestamp T belongs to T. A candle or watermark after a later watermark for its
instrument, or after a newer candle of it, is late: it is known when the later one was.
``ops.control`` is used completely; the watermarks determine from when on its records are in force.

A derived record is known at its timestamp, ``as_of_ms``. There are two exceptions. Both are
computed from the input and from ``opt.gates``, never from the record itself, so that a stage that
delays a record until it has seen more input is detected:

- A record derived from a late candle, with that candle's timestamp, is known when the candle was.
- ``risk.weights`` of epoch E is known when the last member of its universe has a decision for E or
later, or is no longer waited for, and not before the preceding epoch. With the watermarks of a feed
this is E itself; a member whose candles were refused is decided at the next watermark.

The report contains the number of records known later than their timestamp.

**Runs that end.** A run that has been fed up to T has the same output as a run that ends at T, so
one run that pauses at every T is used for all of them. If the log is not ordered by the times when
its records became known (history loaded after newer candles), every T has a separate run over the
records known by T, in log order.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from hashlib import blake2b
from itertools import groupby, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.candles.calendar import Calendar
from streams.pipeline.memory import Derivation
from streams.records.events import Event, GateDecision, Watermark, Weights
from streams.records.log_record import DerivedRecord, SourceRecord
from streams.records.topics import GATES, MANIFOLDS, SIGNALS, SUMMARIES, TRADES, WEIGHTS
from streams.replay.verify.lookahead_cuts import Cut

COMPARED = (SIGNALS, MANIFOLDS, TRADES, SUMMARIES, GATES, WEIGHTS)
CHUNK = 2_000
DIGEST = 16

OutputPartition = tuple[str, int]
"""A topic and the source partition of ``md.candles``: the order of records is fixed within it."""
Progress = Callable[[str, int, int], None]


class Subject(NamedTuple):
    """The input of a truncation test.

    Attributes
    ----------
    records, known_ms
        The records of ``md.candles``, each partition in log order, and the time when each of them
        was known.
    derivation
        Creates a new chain for every run.
    by_instant
        Whether ``ops.control`` changes within the input. ``risk.weights`` then depends on the order
        of arrival over partitions: every run processes the records of one time together.
    ends_ms, bar_ms, instruments
        Ends of the bars, ascending; the length of a bar; the instruments, sorted.
    calendar
        The calendar of their market.
    """

    records: list[SourceRecord]
    known_ms: list[int]
    derivation: Callable[[], Derivation]
    by_instant: bool
    ends_ms: list[int]
    bar_ms: int
    instruments: tuple[str, ...]
    calendar: Calendar


class CutDifference(NamedTuple):
    """The first record that is missing or different in the run that ends at the cut."""

    cut_ms: int
    topic: str
    instrument: str
    as_of_ms: int
    field: str
    detail: str


class CutResult(NamedTuple):
    """A cut, and the number of equal records per topic in the whole run and the cut run."""

    at_ms: int
    why: str
    records: dict[str, int]


class LookaheadReport(NamedTuple):
    """The outcome.

    Attributes
    ----------
    records, later
        Topic -> number of records of the whole run, and of those known later than their timestamp.
    cuts
        The cuts that were compared, up to the first difference.
    stepwise
        Whether one run was used for all cuts.
    """

    inputs: int
    records: dict[str, int]
    later: dict[str, int]
    cuts: list[CutResult]
    stepwise: bool
    difference: CutDifference | None

    @property
    def passed(self) -> bool:
        """True when no cut made a difference."""
        return self.difference is None


class _Knowledge:
    """The time when each derived record of a run is first known; called in the order of the run."""

    def __init__(self, subject: Subject) -> None:
        # only late records: all others are known at their timestamp
        self._late = {
            record.coordinates: (record.timestamp_ms, known)
            for record, known in zip(subject.records, subject.known_ms, strict=True)
            if known > record.timestamp_ms
        }
        self._decided: dict[str, tuple[array[int], array[int]]] = {}
        self._epoch_known_ms = -1

    def known_ms(self, one: DerivedRecord) -> int:
        record, event = one.record, one.output.event
        if isinstance(event, Weights):
            return self._of_epoch(event)
        known = record.timestamp_ms
        stamp, late = self._late.get(_source(one), (None, known))
        if stamp == record.timestamp_ms:
            known = late
            self._late[record.coordinates] = (record.timestamp_ms, known)
        if isinstance(event, GateDecision):
            self._there((event.instrument,), event.as_of_ms, known)
        elif isinstance(event, Watermark) and record.topic == GATES:
            self._there(event.not_waited_for, event.as_of_ms, known)
        return known

    def _there(self, names: Sequence[str], as_of_ms: int, known: int) -> None:
        """Record when epochs up to a time stop waiting for instruments."""
        for name in names:
            stamps, knowns = self._decided.setdefault(name, (array("q"), array("q")))
            if not stamps or as_of_ms > stamps[-1]:
                stamps.append(as_of_ms)
                knowns.append(known)

    def _of_epoch(self, weights: Weights) -> int:
        found = max(self._epoch_known_ms, weights.epoch_ms)
        for name in weights.universe:
            stamps, knowns = self._decided.get(name, (array("q"), array("q")))
            index = bisect_left(stamps, weights.epoch_ms)
            if index < len(stamps):  # otherwise it closed too early: then its timestamp counts
                found = max(found, knowns[index])
        self._epoch_known_ms = found
        return found


class _PartitionOutput:
    """The output of the whole run in one output partition: known times and digests."""

    def __init__(self) -> None:
        self.known = array("q")
        self.digests = bytearray()

    def indices(self, since_ms: int, until_ms: int) -> NDArray[np.intp]:
        known = np.frombuffer(self.known, np.int64)
        return np.flatnonzero((known > since_ms) & (known <= until_ms))

    def digest(self, indices: NDArray[np.intp]) -> bytes:
        whole = np.frombuffer(self.digests, np.dtype((np.void, DIGEST)))
        return bytes(whole[indices].tobytes())


class Lookahead:
    """The truncation test of one input.

    Parameters
    ----------
    subject
        The input of the test.
    progress
        Called with the current step, the number of records done, and their total.
    apart
        Use a separate run for every cut, also if one run is sufficient.
    """

    def __init__(
        self,
        subject: Subject,
        progress: Progress = lambda what, done, total: None,
        *,
        apart: bool = False,
    ) -> None:
        self._subject, self._progress = subject, progress
        self._outputs: dict[OutputPartition, _PartitionOutput] = defaultdict(_PartitionOutput)
        self._records: Counter[str] = Counter()
        self._later: Counter[str] = Counter()
        known = subject.known_ms
        self._stepwise = not apart and all(a <= b for a, b in pairwise(known))

    async def run(self, cuts: Sequence[Cut]) -> LookaheadReport:
        """Run the test; stops at the first difference.

        Parameters
        ----------
        cuts
            Ascending.
        """
        await self._whole()
        results: list[CutResult] = []
        difference = None
        since_ms = -(1 << 62)
        async for cut, derived in self._runs(cuts):
            difference = await self._compare(cut, derived, since_ms)
            if difference is not None:
                break
            results.append(CutResult(cut.at_ms, cut.why, self._known_by(cut.at_ms)))
            if self._stepwise:
                since_ms = cut.at_ms
        return LookaheadReport(
            len(self._subject.records),
            {topic: self._records[topic] for topic in COMPARED},
            {topic: self._later[topic] for topic in COMPARED},
            results,
            self._stepwise,
            difference,
        )

    async def _whole(self) -> None:
        knowledge = _Knowledge(self._subject)
        derivation = self._subject.derivation()
        async for derived in self._fed(derivation, self._subject.records, "whole run"):
            for one in derived:
                topic = one.record.topic
                known = knowledge.known_ms(one)
                self._records[topic] += 1
                self._later[topic] += known > one.record.timestamp_ms
                output = self._outputs[_output_partition(one)]
                output.known.append(known)
                output.digests += _digest(one)

    async def _runs(self, cuts: Sequence[Cut]) -> AsyncIterator[tuple[Cut, list[DerivedRecord]]]:
        """Yield each cut with the output of its run: all of it, or the part since the previous
        cut."""
        records, known = self._subject.records, self._subject.known_ms
        derivation, begun = self._subject.derivation(), 0
        for number, cut in enumerate(cuts, 1):
            if self._stepwise:
                end = bisect_right(known, cut.at_ms)
                part = records[begun:end]
                begun = end
            else:
                derivation = self._subject.derivation()
                part = [r for r, at in zip(records, known, strict=True) if at <= cut.at_ms]
            fed = self._fed(derivation, part)
            yield cut, [one async for derived in fed for one in derived]
            self._progress("cuts", number, len(cuts))

    async def _fed(
        self, derivation: Derivation, records: Sequence[SourceRecord], what: str = ""
    ) -> AsyncIterator[list[DerivedRecord]]:
        done = 0
        for chunk in _chunks(records, by_instant=self._subject.by_instant):
            derived = await derivation.feed(chunk)
            yield [one for one in derived if one.record.topic in COMPARED]
            before, done = done, done + len(chunk)
            if what and (before // CHUNK < done // CHUNK or done == len(records)):
                self._progress(what, done, len(records))

    def _known_by(self, at_ms: int) -> dict[str, int]:
        counts = dict.fromkeys(COMPARED, 0)
        for (topic, _), output in self._outputs.items():
            counts[topic] += int((np.frombuffer(output.known, np.int64) <= at_ms).sum())
        return counts

    async def _compare(
        self, cut: Cut, derived: Sequence[DerivedRecord], since_ms: int
    ) -> CutDifference | None:
        again: dict[OutputPartition, list[DerivedRecord]] = defaultdict(list)
        for one in derived:
            again[_output_partition(one)].append(one)
        partitions = sorted(
            self._outputs.keys() | again.keys(), key=lambda at: (COMPARED.index(at[0]), at)
        )
        for partition in partitions:
            output, actual = self._outputs[partition], again[partition]
            indices = output.indices(since_ms, cut.at_ms)
            expected = output.digest(indices)
            digests = b"".join(map(_digest, actual))
            if digests != expected:
                return await self._difference(cut, partition, indices, expected, actual)
        return None

    async def _difference(
        self,
        cut: Cut,
        partition: OutputPartition,
        indices: NDArray[np.intp],
        expected: bytes,
        actual: Sequence[DerivedRecord],
    ) -> CutDifference:
        at = 0
        while at < min(len(indices), len(actual)) and expected[
            at * DIGEST : (at + 1) * DIGEST
        ] == _digest(actual[at]):
            at += 1
        whole = await self._again(partition, int(indices[at])) if at < len(indices) else None
        return described(cut.at_ms, whole, actual[at] if at < len(actual) else None)

    async def _again(self, partition: OutputPartition, index: int) -> DerivedRecord:
        """Derive the whole input again and return a record of an output partition."""
        derivation = self._subject.derivation()
        async for derived in self._fed(derivation, self._subject.records):
            for one in derived:
                if _output_partition(one) == partition:
                    if index == 0:
                        return one
                    index -= 1
        raise RuntimeError("deriving the same input again gave fewer records")


def _chunks(
    records: Sequence[SourceRecord], *, by_instant: bool
) -> Iterator[Sequence[SourceRecord]]:
    if by_instant:
        for _, group in groupby(records, key=lambda record: record.timestamp_ms):
            yield list(group)
        return
    for start in range(0, len(records), CHUNK):
        yield records[start : start + CHUNK]


def described(cut_ms: int, whole: DerivedRecord | None, cut: DerivedRecord | None) -> CutDifference:
    """Return a description of the first two records that differ; one may be missing."""
    if whole is not None and cut is not None and _source_partition(whole) == _source_partition(cut):
        field, detail = _field(whole.output.event, cut.output.event)
        return CutDifference(cut_ms, *_name(whole), field, detail)
    if whole is not None and (cut is None or whole.record.timestamp_ms <= cut.record.timestamp_ms):
        detail = "the whole run has it, the run that ends at the cut does not"
        return CutDifference(cut_ms, *_name(whole), "(the record)", detail)
    assert cut is not None
    detail = "the run that ends at the cut has it, the whole run does not"
    return CutDifference(cut_ms, *_name(cut), "(the record)", detail)


def _field(whole: Event, cut: Event) -> tuple[str, str]:
    if type(whole) is not type(cut):
        return "(type)", f"a {type(whole).__name__}; cut: a {type(cut).__name__}"
    for name, one, other in zip(whole._fields, whole, cut, strict=True):
        if one != other:
            return name, f"whole run: {one!r}; run that ends at the cut: {other!r}"
    return "(bytes)", "same fields, other bytes"


def _source_partition(one: DerivedRecord) -> tuple[bytes | None, int]:
    return one.record.key, one.record.timestamp_ms


def _name(one: DerivedRecord) -> tuple[str, str, int]:
    record = one.record
    return record.topic, (record.key or b"").decode("utf-8", "replace"), record.timestamp_ms


def _source(one: DerivedRecord) -> str:
    return dict(one.output.headers)["source"].decode()


def _output_partition(one: DerivedRecord) -> OutputPartition:
    topic = one.record.topic
    return topic, 0 if topic == WEIGHTS else int(_source(one).rsplit("-", 2)[1])


def _digest(one: DerivedRecord) -> bytes:
    record = one.record
    key, value = record.key or b"", record.value or b""
    head = b"%d %d %d %d " % (record.partition, record.timestamp_ms, len(key), len(value))
    return blake2b(head + key + value, digest_size=DIGEST).digest()
