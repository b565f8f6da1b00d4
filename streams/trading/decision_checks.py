"""Checks decisions and weights before the executor acts on them (``decision_rules``).

The output of a transaction may become visible before its offset commit, so a record waits for the
commit of its source offset, for ``WAIT_S``. Committed offsets are requested only for records beyond
those known, in a separate thread. Its candle is in the log before it; it waits for
``CANDLE_WAIT_S``, as another thread reads the candles, and then the end of ``md.candles`` is read.
A decision that is refused so is not lost if the stage commits its offset later: before a later one
of its instrument is acted on, its source record is read, and it is taken first if it was derived
from that. While the brokers do not answer a record keeps waiting: nothing is opened, and positions
are closed as it asks for (``unconfirmed``).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, NamedTuple, Protocol

from streams.errors import Fatal, Recoverable
from streams.kafka.follower import DecodedRecord
from streams.process.clock_skew import now_ms
from streams.records.control import ControlLog
from streams.records.events import Event, GateDecision, Weights
from streams.records.log_record import RecordCoordinates
from streams.records.reasons import DecisionRefusal
from streams.records.topics import WEIGHTS
from streams.trading.decision_rules import (
    FINAL,
    SOURCES,
    Contradiction,
    KnownInputs,
    derived_from,
)
from streams.trading.metrics import ExecutorMetrics

WAIT_S: Final = 5.0
"""Seconds that a record waits for the commit of its source offset."""
CANDLE_WAIT_S: Final = 0.5
"""Seconds that a record waits for the reading of its candle."""
ANSWER_S: Final = 1.0
"""Further seconds after which a record without an answer of the brokers is unconfirmed."""
REQUEST_S: Final = 2.0
PAUSES_S: Final = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Pauses between requests while records wait; the last one is repeated."""
LONG_PAUSE_S: Final = 2.0
"""Pause between requests while no record is younger than ``WAIT_S``."""
REFUSED_SHOWN: Final = 20
DOUBTFUL_KEPT: Final = 100

log = logging.getLogger("manifold.executor")


class InputSource(Protocol):
    """Where the progress of the inputs is read from; the calls block."""

    def committed(self, timeout_s: float) -> dict[tuple[str, int], int]:
        """Return the committed offsets of the stages, by source topic and partition."""
        ...

    def newest(self, partitions: Collection[int] | None) -> list[DecodedRecord]:
        """Return the last records of partitions of ``md.candles``; of all for None."""
        ...

    def source_of(self, record: DecodedRecord) -> Event | None:
        """Return the record of ``sep.manifolds`` that a decision names as its source."""
        ...


class RefusedDecision(NamedTuple):
    """A refused record: its coordinates, content, and the rule it breaks.

    Attributes
    ----------
    instrument
        Empty for weights.
    at_ms
        When it was refused, epoch ms.
    """

    topic: str
    partition: int
    offset: int
    instrument: str
    as_of_ms: int
    source: str
    reason: str
    detail: str
    at_ms: int


class _Waiting(NamedTuple):
    record: DecodedRecord
    since: float

    @property
    def place(self) -> tuple[str, int, int]:
        return self.record.topic, self.record.partition, self.record.offset


class DecisionChecks:
    """Accepts or refuses the records of ``opt.gates`` and ``risk.weights``, in log order.

    Parameters
    ----------
    inputs
        The progress of the inputs as known.
    source
        Reads it further.
    control
        ``ops.control`` as far as it has been read.
    metrics
        Counts refused records.
    clock
        Monotonic seconds.

    Attributes
    ----------
    refused
        The last refused records, newest first.
    """

    def __init__(
        self,
        inputs: KnownInputs,
        source: InputSource,
        control: ControlLog,
        metrics: ExecutorMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.inputs, self._source, self._control = inputs, source, control
        self._metrics, self._clock = metrics, clock
        self._waiting: list[_Waiting] = []
        self._known: set[DecisionRefusal] = set()
        self._pauses = 0
        self._asked = False
        self._ask_at = clock()
        self._failed = ""
        self._doubtful: deque[DecodedRecord] = deque(maxlen=DOUBTFUL_KEPT)
        self._proven: list[DecodedRecord] = []
        self._settled = 0
        self._released_at = (-1, -1, -1)
        self.refused: deque[RefusedDecision] = deque(maxlen=REFUSED_SHOWN)
        self.counts: Counter[str] = Counter()
        metrics.unconfirmed.set_function(lambda: len(self._overdue()))

    # -- records ---------------------------------------------------------------------------------

    def arrive(self, record: DecodedRecord) -> bool:
        """Check a record that has just been read; return whether to act on it now."""
        found = self._contradiction(record)
        if found is None and not self._doubts(record):
            self.inputs.take_decision(record)
            return True
        if found is not None and found.reason in FINAL:
            self._refuse(record, found)
            return False
        if not self._waiting:
            self._failed = ""
        self._waiting.append(_Waiting(record, self._clock()))
        self._pauses, self._ask_at = 0, self._clock()
        return False

    def release(self) -> list[DecodedRecord]:
        """Return the waiting records that have been confirmed since, in the order of arrival.

        Call it before a later record is acted on.
        """
        state = self.inputs.changes, self._control.end, self._settled
        if state == self._released_at:
            return []
        self._released_at = state
        proven, self._proven = self._proven, []
        confirmed: list[_Waiting] = []
        left: list[_Waiting] = []
        for record in proven:
            self.inputs.take_decision(record)
        for one in self._waiting:
            found = self._contradiction(one.record)
            if found is not None and found.reason in FINAL:
                self._refuse(one.record, found)
            elif found is not None or self._doubts(one.record):
                left.append(one)
            else:
                confirmed.append(one)
                self.inputs.take_decision(one.record)
        self._waiting = left
        return [*proven, *(one.record for one in confirmed)]

    # -- requests --------------------------------------------------------------------------------

    @property
    def lacks_control(self) -> bool:
        """Whether a waiting record names an offset of ``ops.control`` that is not read yet."""
        end = self._control.end
        return any(event_of_record(w.record).control_offset > end for w in self._waiting)

    @property
    def beginning(self) -> bool:
        """Whether the first records wait and the brokers have not been asked about any yet."""
        return bool(self._waiting) and not self._asked

    def next_s(self) -> float | None:
        """Return the seconds until the next request is due; None when no record waits."""
        return max(0.0, self._ask_at - self._clock()) if self._waiting else None

    async def ask(self) -> None:
        """Request the progress of the inputs once; refuse what has waited long enough."""
        begun = self._clock()
        pause_s = PAUSES_S[min(self._pauses + 1, len(PAUSES_S) - 1)]
        self._pauses += 1
        try:
            self.inputs.take_committed(await asyncio.to_thread(self._source.committed, REQUEST_S))
            early = [
                one
                for one in self._waiting
                if begun - one.since >= CANDLE_WAIT_S
                and self._reason(one) is DecisionRefusal.AFTER_CANDLES
            ]
            if early:
                await self._read_candles(early)
            await self._settle_doubts()
        except (Fatal, Recoverable) as error:
            self._failed = str(error)
            pause_s = PAUSES_S[-1]
        else:
            self._failed = ""
            self._refuse_late(begun, {one.place for one in early})
        if all(begun - one.since > WAIT_S for one in self._waiting):
            pause_s = LONG_PAUSE_S
        self._ask_at, self._asked = self._clock() + pause_s, True

    async def _read_candles(self, early: Sequence[_Waiting]) -> None:
        """Read the end of ``md.candles``: this process may be behind in it."""
        partitions: set[int] | None = set()
        for one in early:
            source = RecordCoordinates.of_id(one.record.source)
            if one.record.topic == WEIGHTS or source is None:
                partitions = None
                break
            assert partitions is not None
            partitions.add(source.partition)
        for record in await asyncio.to_thread(self._source.newest, partitions):
            self.inputs.take_input(record.partition, record.event)

    def _doubts(self, record: DecodedRecord) -> list[DecodedRecord]:
        """Return the refused decisions before this one whose source has been committed since."""
        event = record.event
        return [
            one
            for one in self._doubtful
            if isinstance(event, GateDecision)
            and event.instrument == event_of_record(one).instrument
            and event_of_record(one).as_of_ms < event.as_of_ms
            and self._contradiction(one) is None
        ]

    async def _settle_doubts(self) -> None:
        """Read the source records of refused decisions that later ones wait for."""
        asked: list[DecodedRecord] = []
        for waiting in self._waiting:
            asked += [one for one in self._doubts(waiting.record) if one not in asked]
        for one in asked:
            source = await asyncio.to_thread(self._source.source_of, one)
            if source is not None and derived_from(event_of_record(one), source):
                log.warning("%s-%d-%d is genuine after all: its source was committed later",
                            one.topic, one.partition, one.offset)  # fmt: skip
                self._proven.append(one)
            if one in self._doubtful:
                self._doubtful.remove(one)
            self._settled += 1

    def _refuse_late(self, begun: float, early: Collection[tuple[str, int, int]]) -> None:
        left = []
        for one in self._waiting:
            found = self._contradiction(one.record)
            # without any commit of the group (it expires when no worker runs for a week) nothing
            # is known about the record
            if found is None or self._never_committed(one, found):
                left.append(one)
                continue
            read = found.reason is DecisionRefusal.AFTER_CANDLES
            if not (one.place in early if read else begun - one.since >= WAIT_S):
                left.append(one)
                continue
            self._refuse(one.record, found)
            if not read and isinstance(one.record.event, GateDecision):
                self._doubtful.append(one.record)
        self._waiting = left

    def _never_committed(self, one: _Waiting, found: Contradiction) -> bool:
        topic = SOURCES[one.record.topic]
        missing = found.reason is DecisionRefusal.SOURCE_NOT_COMMITTED
        return missing and self.inputs.never_committed(topic)

    # -- without an answer -----------------------------------------------------------------------

    @property
    def trouble(self) -> str:
        """Why decisions cannot be checked, so that nothing is opened; empty when they can."""
        overdue = self._overdue()
        if not overdue:
            return ""
        topic = SOURCES[overdue[0].record.topic]
        never = f"there is none for {topic}: start a worker, which commits it (manifold worker)"
        missing = never if self.inputs.never_committed(topic) else "no answer yet"
        why = self._failed or missing
        return (
            f"{len(overdue)} decision(s) cannot be checked against the committed offsets of the "
            f"stages: {why}"
        )

    @property
    def unconfirmed(self) -> dict[str, GateDecision]:
        """The newest decision of each instrument that could not be checked in time.

        Positions are closed as it asks for; nothing is opened.
        """
        found: dict[str, GateDecision] = {}
        for one in self._overdue():
            event = one.record.event
            if isinstance(event, GateDecision):
                before = found.get(event.instrument)
                if before is None or event.as_of_ms > before.as_of_ms:
                    found[event.instrument] = event
        return found

    def _overdue(self) -> list[_Waiting]:
        since = self._clock() - WAIT_S - ANSWER_S
        return [one for one in self._waiting if one.since <= since]

    # -- parts -----------------------------------------------------------------------------------

    def _contradiction(self, record: DecodedRecord) -> Contradiction | None:
        return self.inputs.contradiction(record, now_ms(), self._control)

    def _reason(self, one: _Waiting) -> DecisionRefusal | None:
        found = self._contradiction(one.record)
        return None if found is None else found.reason

    def _refuse(self, record: DecodedRecord, found: Contradiction) -> None:
        event = event_of_record(record)
        name = event.instrument if isinstance(event, GateDecision) else ""
        place = f"{record.topic}-{record.partition}-{record.offset}"
        if found.reason not in self._known:
            self._known.add(found.reason)
            log.warning(
                "%s is refused, as is every such record: %s (%s); manifold verify names the "
                "records that no stage wrote",
                *(place, found.reason, found.detail),
            )
        self.counts[found.reason] += 1
        self._metrics.refused_decisions.labels(record.topic, str(found.reason)).inc()
        self.refused.appendleft(
            RefusedDecision(
                record.topic, record.partition, record.offset, name, event.as_of_ms,
                record.source[:64], str(found.reason), found.detail, now_ms(),
            )
        )  # fmt: skip


def event_of_record(record: DecodedRecord) -> Any:
    """Return the decision or the weights of a record."""
    assert isinstance(record.event, GateDecision | Weights)
    return record.event
