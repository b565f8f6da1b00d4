"""Common code of the stages: decode records, apply the step, encode outputs and changed rows.

A step handles no bytes, partitions or headers; the processor of its partition decodes its input,
writes dead letters for records that cannot be decoded, and encodes its output.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from streams.core import ENGINE_VERSION
from streams.errors import CARRY_OVER, Fatal
from streams.records.codec import Codec, DecodeError
from streams.records.control import ControlLog, ControlState
from streams.records.events import (
    PORTFOLIO_KEY,
    WATERMARK_KEY,
    DeadLetter,
    Event,
    Watermark,
    Weights,
)
from streams.records.log_record import Batch, Output, RowChanges, Rows, SourceRecord
from streams.records.reasons import Refusal
from streams.records.topics import CANDLES, DEAD_LETTERS, TOPICS
from streams.records.validation import stamp_problem

STATE_VERSION = 1
CONTROL_MISSING = "control_offset lies behind the end of ops.control"
MOST_LETTER_BYTES = 990_000
"""Maximum bytes of key and value in a dead letter, which has the same key."""
PARTITION_ROW = b"~"
ENGINE_HEADER = ("engine", ENGINE_VERSION.encode())
ONE_PARTITION = frozenset(topic.name for topic in TOPICS.values() if topic.partitions == 1)
TopicEvent = tuple[str, Event]
Header = tuple[str, bytes]
LoadControl = Callable[[int], Awaitable[None]]


class Step(Protocol):
    """The pure fold of one source partition over decoded events."""

    def step(self, event: Any, at: SourceRecord) -> Sequence[TopicEvent]:
        """Process one event; return the derived (topic, event) pairs, in order."""
        ...

    def changes(self) -> RowChanges:
        """Return the rows that changed since the last call."""
        ...

    @property
    def config_id(self) -> str:
        """The configuration in force, empty before the first."""
        ...


MakeStep = Callable[[ControlLog, Rows], Step]


class ControlledStep:
    """A step that follows ``ops.control`` by its watermarks, and has one row of its own.

    Parameters
    ----------
    control
        ``ops.control`` as far as it has been read.
    rows
        The partition's rows; row ``~`` belongs to this class.
    """

    def __init__(self, control: ControlLog, rows: Rows) -> None:
        self._control = control
        self._own = read_row(rows.get(PARTITION_ROW))
        self.state: ControlState = control.state(self._own.get("control_offset", 0))
        self._dirty = False

    @property
    def config_id(self) -> str:
        """The configuration in force, empty before the first."""
        return self.state.config_id

    def follow(self, watermark: Watermark) -> bool:
        """Switch to the control offset of the watermark; return whether anything changed."""
        if watermark.control_offset <= self.state.offset:
            return False
        self.state = self._control.state(watermark.control_offset)
        self._own["control_offset"] = watermark.control_offset
        self._dirty = True
        return True

    def keep(self, name: str, value: Any) -> None:
        """Store a value in the step's own row."""
        self._own[name] = value
        self._dirty = True

    def own(self, name: str, default: Any) -> Any:
        """Return a value of the step's own row."""
        return self._own.get(name, default)

    def own_changes(self) -> RowChanges:
        """Return the step's own row if it changed since the last call."""
        if not self._dirty:
            return {}
        self._dirty = False
        return {PARTITION_ROW: write_row(self._own)}


def write_row(content: dict[str, Any]) -> bytes:
    """Return a row's bytes: canonical JSON with the state version and the engine."""
    stamped = content | {"v": STATE_VERSION, "engine": ENGINE_VERSION}
    return json.dumps(stamped, sort_keys=True, separators=(",", ":")).encode()


def read_row(row: bytes | None) -> dict[str, Any]:
    """Return a row's content, empty when there is no row.

    Raises
    ------
    Fatal
        The row was written by another state version or engine.
    """
    if row is None:
        return {}
    content: dict[str, Any] = json.loads(row)
    version, engine = content.pop("v", None), content.pop("engine", None)
    if (version, engine) != (STATE_VERSION, ENGINE_VERSION):
        raise Fatal(
            f"the stored state is of version {version} and engine {engine}, this program has "
            f"{STATE_VERSION} and {ENGINE_VERSION}: {CARRY_OVER}"
        )
    return content


class BarCompleteness:
    """Tracks whether the newest bar of a partition is complete: all named instruments have
    arrived."""

    def __init__(self) -> None:
        self._expected: frozenset[str] = frozenset()
        self._there: set[str] = set()
        self._as_of_ms = -1
        self._marked = False

    @property
    def complete(self) -> bool:
        """Whether no more events of the bar are expected; true while that is unknown."""
        return self._marked or self._there >= self._expected

    def take(self, event: Any) -> None:
        """Record an event of the source."""
        self._marked = event.__class__ is Watermark
        if self._marked:
            self._expected = frozenset(event.instruments)
            return
        if event.as_of_ms > self._as_of_ms:
            self._as_of_ms = event.as_of_ms
            self._there.clear()
        if event.as_of_ms == self._as_of_ms:
            self._there.add(event.instrument)


class PartitionProcessor:
    """A step opened on one source partition; satisfies ``streams.pipeline.stage.Processor``.

    Attributes
    ----------
    step
        The fold, for a stage that must know what it needs.
    """

    def __init__(
        self, stage: str, source: str, codec: Codec, step: Step, control: ControlLog
    ) -> None:
        self._stage, self._source, self._codec, self.step = stage, source, codec, step
        self._control = control
        self._config_headers: dict[str, Header] = {}
        self._arrivals = BarCompleteness()

    def process(self, records: Sequence[SourceRecord]) -> Batch:
        """Fold ``records`` in order; data errors become dead letters, never exceptions."""
        outputs: list[Output] = []
        codec, step, source, decode = self._codec, self.step.step, self._source, decoded_source
        arrived, missing = self._arrivals.take, self._control.refused_watermarks
        for record in records:
            try:
                event = decode(codec, source, record)
                if event.__class__ is Watermark and record.place in missing:
                    raise DecodeError(Refusal.CONTROL_MISSING, CONTROL_MISSING)
            except DecodeError as error:
                letter = dead_letter(record, error.reason, error.detail, self._stage)
                source_header = ("source", record.coordinates.encode())
                outputs.append(self._output(DEAD_LETTERS, letter, record, source_header))
                continue
            arrived(event)
            derived = step(event, record)
            if derived:
                source_header = ("source", record.coordinates.encode())
                for topic, each in derived:
                    outputs.append(self._output(topic, each, record, source_header))
        return Batch(outputs, self._arrivals.complete)

    def changes(self) -> RowChanges:
        """Return the rows that changed since the last call."""
        return self.step.changes()

    def _output(self, topic: str, event: Event, record: SourceRecord, source: Header) -> Output:
        config_id = event.config_id if isinstance(event, Weights) else self.step.config_id
        config = self._config_headers.get(config_id)
        if config is None:
            config = self._config_headers[config_id] = ("config_id", config_id.encode())
        return Output(
            topic,
            0 if topic in ONE_PARTITION else record.partition,
            record_key(event),
            self._codec.encode(topic, event),
            record.timestamp_ms if isinstance(event, DeadLetter) else event.as_of_ms,
            (source, ENGINE_HEADER, config),
            event,
        )


def decoded_source(codec: Codec, source: str, record: SourceRecord) -> Any:
    """Return the event of a stage's source record.

    A stage's own input, ``md.candles``, has rules of its own for keys and time stamps
    (``streams.candles.rules``). The other stages read what a stage wrote.

    Raises
    ------
    DecodeError
        The record is invalid; the stage writes a dead letter.
    """
    event: Any = codec.decode(source, record.value)
    if source == CANDLES:
        return event
    key = WATERMARK_KEY if event.__class__ is Watermark else event.instrument.encode()
    if record.key != key:
        problem = f"the key {(record.key or b'')[:64]!r} is not that of the record"
        raise DecodeError("invalid_value", problem, event)
    if event.as_of_ms > record.timestamp_ms:
        raise DecodeError("invalid_value", stamp_problem(event, record.timestamp_ms) or "", event)
    return event


def record_key(event: Event) -> bytes:
    """Return the Kafka key of a derived event."""
    kind = event.__class__
    if kind is Watermark:
        return WATERMARK_KEY
    if kind is Weights:
        return PORTFOLIO_KEY
    if isinstance(event, DeadLetter):
        return event.key or b""
    return (getattr(event, "instrument", None) or "").encode()


def dead_letter(record: SourceRecord, reason: str, detail: str, stage: str) -> DeadLetter:
    """Return the dead letter of a source record, shortened to what a broker accepts."""
    key, value = record.key, record.value
    if 2 * len(key or b"") + len(value or b"") > MOST_LETTER_BYTES:
        detail += f" (cut: key of {len(key or b'')} bytes, value of {len(value or b'')})"
        key = key and key[: MOST_LETTER_BYTES // 4]
        value = value and value[: MOST_LETTER_BYTES - 2 * len(key or b"")]
    return DeadLetter(
        record.topic,
        record.partition,
        record.offset,
        key,
        value,
        str(reason),
        detail,
        stage,
    )


class LogStage:
    """A stage over the log; satisfies ``streams.pipeline.stage.Stage``.

    Parameters
    ----------
    name, source, outputs
        As in ``streams.records.topics``.
    codec, control
        The schemas, and ``ops.control`` as read so far.
    make
        Makes the step of a partition from its rows.
    load_control
        Reads ``ops.control`` further, up to an offset; None when it was read completely.
    """

    def __init__(
        self,
        name: str,
        source: str,
        outputs: tuple[str, ...],
        codec: Codec,
        control: ControlLog,
        make: MakeStep,
        load_control: LoadControl | None = None,
    ) -> None:
        self.name, self.source, self.outputs = name, source, outputs
        self._codec, self._control, self._make = codec, control, make
        self._load_control = load_control

    def open(self, partition: int, rows: Rows) -> PartitionProcessor:
        """Return the processor of ``partition`` whose state is ``rows``."""
        return PartitionProcessor(
            self.name,
            self.source,
            self._codec,
            self._make(self._control, rows),
            self._control,
        )

    async def prepare_rows(self, rows: Rows) -> None:
        """Read ``ops.control`` as far as the worker that wrote ``rows`` had followed it.

        This worker may have read the topic before the last changes.
        """
        await self._load_to(read_row(rows.get(PARTITION_ROW)).get("control_offset", 0))

    async def prepare(self, records: Sequence[SourceRecord], processor: PartitionProcessor) -> None:
        """Resolve schema ids and read ``ops.control`` as far as these records require."""
        unknown = self._codec.unknown_ids(record.value for record in records)
        if unknown:
            await self._codec.resolve(unknown)
        known = self._control.refused_watermarks
        stamped = {
            record.place: self._stamped(record)
            for record in records
            if record.key == WATERMARK_KEY and record.place not in known
        }
        for needed in sorted(set(stamped.values())):
            await self._load_to(needed)
            if needed > self._control.end:
                break  # it does not exist, nor does any later one
        known.update(place for place, offset in stamped.items() if offset > self._control.end)

    async def _load_to(self, offset: int) -> None:
        if offset > self._control.end and self._load_control is not None:
            await self._load_control(offset)

    def _stamped(self, record: SourceRecord) -> int:
        event = self.read(record)
        return event.control_offset if isinstance(event, Watermark) else 0

    def read(self, record: SourceRecord) -> Event | None:
        """Return the event of a source record; None if the fold writes a dead letter for it."""
        try:
            event: Event = decoded_source(self._codec, self.source, record)
        except DecodeError:
            return None
        return event
