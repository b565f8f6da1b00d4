"""Rules that a decision or weights must meet before an executor acts on them. Pure.

A gate decision is made from a record of ``sep.manifolds``, weights from one of ``opt.gates``, and
both from a bar that is in ``md.candles``. A record that contradicts this was not written by a stage
(or its clock is wrong). The executor ignores it: it neither opens nor closes, and it does not
become the newest decision of its instrument.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from streams.instants import clock
from streams.kafka.follower import DecodedRecord
from streams.kafka.partitioner import partition_of
from streams.process.clock_skew import ADVICE, MAX_SKEW_MS, length
from streams.records.control import ControlLog
from streams.records.events import Candle, Event, GateDecision, Manifold, Watermark, Weights
from streams.records.log_record import RecordCoordinates
from streams.records.reasons import DecisionRefusal
from streams.records.topics import GATES, STAGE_SOURCES, TOPICS, WEIGHTS

CHECKED: Final = (GATES, WEIGHTS)
"""The topics whose records an executor acts on."""
SOURCES: Final = {topic: STAGE_SOURCES[TOPICS[topic].derived_by] for topic in CHECKED}
"""Topic -> the topic that its stage reads."""
FINAL: Final = (DecisionRefusal.AFTER_CLOCK, DecisionRefusal.SOURCE_INVALID)
"""The problems that no later record of the log resolves."""


class Contradiction(NamedTuple):
    """A rule that a record breaks, and the values as text."""

    reason: DecisionRefusal
    detail: str


class KnownInputs:
    """The progress of the inputs: candles read, and source offsets committed by the stages.

    Parameters
    ----------
    partitions
        Number of partitions of ``sep.manifolds``; 0: in which one an instrument is, is not checked.

    Attributes
    ----------
    committed
        (source topic, partition) -> committed offset of its stage.
    changes
        Number of times that anything was applied.
    """

    def __init__(self, partitions: int = 0) -> None:
        self._partition_count = partitions
        self._decided: dict[str, tuple[int, int]] = {}
        self._bars: dict[tuple[str, str], int] = {}
        self._partitions: dict[tuple[int, str], int] = {}
        self._newest: dict[str, int] = {}
        self.committed: dict[tuple[str, int], int] = {}
        self.changes = 0

    def take_input(self, partition: int, event: Event) -> None:
        """Apply a candle or watermark of ``md.candles``."""
        if isinstance(event, Candle):
            names: tuple[str, ...] = (event.instrument,)
        elif isinstance(event, Watermark):
            names = event.instruments
        else:
            return
        self.changes += 1
        at_ms, length_of_bar = event.as_of_ms, event.granularity
        for name in names:
            key = name, length_of_bar
            self._bars[key] = max(at_ms, self._bars.get(key, 0))
        here = partition, length_of_bar
        self._partitions[here] = max(at_ms, self._partitions.get(here, 0))
        self._newest[length_of_bar] = max(at_ms, self._newest.get(length_of_bar, 0))

    def take_committed(self, committed: Mapping[tuple[str, int], int]) -> None:
        """Apply committed offsets; an offset that was once committed stays so."""
        for place, offset in committed.items():
            if offset > self.committed.get(place, -1):
                self.committed[place] = offset
                self.changes += 1

    def take_decision(self, record: DecodedRecord) -> None:
        """Apply a decision that the executor acts on: the next one has a later source."""
        event, source = record.event, RecordCoordinates.of_id(record.source)
        if isinstance(event, GateDecision) and source is not None:
            known_ms = self._decided.get(event.instrument, (0, 0))[0]
            if event.as_of_ms > known_ms:
                self._decided[event.instrument] = event.as_of_ms, source.offset

    def never_committed(self, topic: str) -> bool:
        """Return whether the stage that reads ``topic`` has no committed offset in it at all."""
        return not any(known == topic for known, _ in self.committed)

    def newest_ms(self, event: GateDecision | Weights, source: RecordCoordinates) -> int:
        """Return the time of the newest bar that a record may be derived from; 0 without one.

        Of an instrument without any candle in what was read, it is that of its partition.
        """
        if isinstance(event, Weights):
            return self._newest.get(event.granularity, 0)
        known = self._bars.get((event.instrument, event.granularity))
        if known is None:
            return self._partitions.get((source.partition, event.granularity), 0)
        return known

    def contradiction(
        self, record: DecodedRecord, now_ms: int, control: ControlLog
    ) -> Contradiction | None:
        """Return the first rule that a decision or weights break; None when they break none.

        Parameters
        ----------
        now_ms
            The wall clock of this machine, epoch ms.
        control
            ``ops.control`` as far as it has been read.
        """
        event = record.event
        assert isinstance(event, GateDecision | Weights)
        ahead_ms = event.as_of_ms - now_ms
        if ahead_ms > MAX_SKEW_MS:
            detail = (
                f"its time {clock(event.as_of_ms)} UTC is {length(ahead_ms)} ahead of this "
                f"machine's clock; if that is wrong, {ADVICE}"
            )
            return Contradiction(DecisionRefusal.AFTER_CLOCK, detail)
        topic, source = SOURCES[record.topic], RecordCoordinates.of_id(record.source)
        if source is None or source.topic != topic:
            detail = f"its header source is {record.source[:64]!r}, not a record of {topic}"
            return Contradiction(DecisionRefusal.SOURCE_INVALID, detail)
        problem = self._partition_problem(event, source)
        if problem:
            return Contradiction(DecisionRefusal.SOURCE_INVALID, problem)
        problem = _control_problem(event, control)
        if problem:
            return Contradiction(DecisionRefusal.CONTROL_MISSING, problem)
        newest_ms = self.newest_ms(event, source)
        if event.as_of_ms > newest_ms:
            of = "" if isinstance(event, Weights) else f" of {event.instrument}"
            last = f"the newest one{of} in md.candles ends at {clock(newest_ms)} UTC"
            detail = f"its bar ends at {clock(event.as_of_ms)} UTC, {last}"
            if not newest_ms:
                detail = f"md.candles has no bar{of} of {event.granularity}"
            return Contradiction(DecisionRefusal.AFTER_CANDLES, detail)
        problem = self._order_problem(event, source)
        if problem:
            return Contradiction(DecisionRefusal.SOURCE_INVALID, problem)
        committed = self.committed.get((topic, source.partition), 0)
        if source.offset >= committed:
            detail = f"its source is {source.id}, the stage has committed up to offset {committed}"
            return Contradiction(DecisionRefusal.SOURCE_NOT_COMMITTED, detail)
        return None

    def _partition_problem(self, event: GateDecision | Weights, source: RecordCoordinates) -> str:
        count = self._partition_count
        if isinstance(event, Weights) or not count:
            return ""
        own = partition_of(event.instrument.encode(), count)
        if source.partition == own:
            return ""
        return f"its source is {source.id}, {event.instrument} is in partition {own}"

    def _order_problem(self, event: GateDecision | Weights, source: RecordCoordinates) -> str:
        """Return why a later decision has no later source than the one before it."""
        if isinstance(event, Weights):
            return ""
        known_ms, offset = self._decided.get(event.instrument, (event.as_of_ms, -1))
        if event.as_of_ms <= known_ms or source.offset > offset:
            return ""
        return (
            f"its source is {source.id}, that of the decision before it ({clock(known_ms)} UTC) "
            f"is at offset {offset}"
        )


def derived_from(decision: GateDecision, source: Event) -> bool:
    """Return whether a record of ``sep.manifolds`` is one that gives such a decision."""
    if isinstance(source, Watermark):
        named = source.instruments
    elif isinstance(source, Manifold):
        named = (source.instrument,)
    else:
        return False
    return decision.instrument in named and (source.granularity, source.as_of_ms) == (
        decision.granularity,
        decision.as_of_ms,
    )


def _control_problem(event: GateDecision | Weights, control: ControlLog) -> str:
    offset = event.control_offset
    if offset > control.end:
        return f"its control_offset is {offset}, ops.control ends at {control.end}"
    if control.state(offset).config is None:
        return f"ops.control has no configuration before its control_offset {offset}"
    return ""
