"""Encode and decode events: Avro in the Confluent wire format.

A frame is ``0x00``, the four bytes of the writer schema's id (big endian) and the Avro body. An
event is written with the newest released schema of its record and read with the newest one,
whichever version wrote it. All known schemas are loaded before the first record; unknown ids are
resolved by `Codec.resolve`, outside of any step.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal

from streams.errors import Fatal
from streams.records import events, schemas, trading_events
from streams.records.avro.decoder import compile_decoder, compile_with_fastavro
from streams.records.avro.encoder import compile_encoder
from streams.records.avro.runtime import Malformed
from streams.records.avro.schema import JsonSchema, UnsupportedSchema, full_name
from streams.records.events import Candle, Event, Watermark
from streams.records.reasons import Refusal
from streams.records.topics import TOPICS, subject
from streams.records.validation import VALID, problem_of

DecodeReason = Literal[
    "null_value",
    "bad_magic",
    "unknown_schema_id",
    "wrong_record",
    "truncated",
    "trailing_bytes",
    "invalid_value",
]
DECODE_REASONS: Final[dict[DecodeReason, str]] = {
    "null_value": "the record has no value",
    "bad_magic": "the first byte is not the 0 of the Confluent wire format",
    "unknown_schema_id": "the schema id is unknown to registry and lock file",
    "wrong_record": "the schema is of a record type that does not belong to this topic",
    "truncated": "the record ends too early",
    "trailing_bytes": "there are bytes after the end of the record",
    "invalid_value": "a value that its field does not allow: not a number, out of range, too long, "
    "or in contradiction to another field",
}
"""``reason`` of a dead letter that could not be decoded -> meaning."""

_INVALID: Final[dict[type, DecodeReason | Refusal]] = {
    Candle: Refusal.INVALID_CANDLE,
    Watermark: Refusal.INVALID_WATERMARK,
}
NAMESPACE: Final = "manifold"

_FRAME: Final = struct.Struct(">bI")
_ENCODE_FAULTS: Final = (
    TypeError,
    ValueError,
    KeyError,
    AttributeError,
    OverflowError,
    struct.error,
)
EVENT_TYPES: Final[dict[str, type]] = {
    name: kind
    for module in (events, trading_events)
    for name, kind in vars(module).items()
    if isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")
}
"""Record name -> NamedTuple, including nested records."""

Fetch = Callable[[int], Awaitable[str | None]]


class DecodeError(Exception):
    """A value that is not an event of its topic; it becomes a dead letter.

    Attributes
    ----------
    reason
        One of ``DECODE_REASONS``; for an invalid candle or watermark its ``Refusal``.
    detail
        Description of the problem.
    event
        The decoded record when only its values are invalid; else None.
    """

    def __init__(
        self, reason: DecodeReason | Refusal, detail: str, event: Event | None = None
    ) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason: DecodeReason | Refusal = reason
        self.detail = detail
        self.event = event


class EncodeError(Fatal):
    """An event that cannot be written: NaN, infinity, a wrong type or a wrong topic.

    Indicates a bug in a step; nothing was written.
    """


def schema_id_of(value: bytes | None) -> int:
    """Return the writer schema id of a frame.

    Raises
    ------
    DecodeError
        ``null_value``, ``bad_magic`` or ``truncated``.
    """
    if value is None:
        raise DecodeError("null_value", "the record has no value")
    if value[:1] not in (b"\0", b""):
        raise DecodeError("bad_magic", f"the first byte is 0x{value[0]:02x}, not 0x00")
    if len(value) < _FRAME.size:
        raise DecodeError("truncated", f"{len(value)} bytes are no frame")
    found: int = _FRAME.unpack_from(value)[1]
    return found


class Codec:
    """Encodes and decodes the events of every topic.

    Parameters
    ----------
    ids
        Subject with prefix -> ids of its released versions, oldest first.
    texts
        Id -> schema as JSON, for every id in ``ids``.
    prefix
        The deployment's topic prefix. Topics are accepted with and without it.
    fetch
        Requests the schema of an id from the registry; None when unknown. Without it, ids that are
        not in ``texts`` stay unknown.

    Notes
    -----
    Topics are those of ``streams.records.topics``. Not thread-safe.
    """

    def __init__(
        self,
        ids: Mapping[str, Sequence[int]],
        texts: Mapping[int, str],
        prefix: str = "",
        fetch: Fetch | None = None,
    ) -> None:
        self._fetch = fetch
        self._schemas: dict[int, JsonSchema] = {}
        self._absent: set[int] = set()
        self._known: set[bytes] = set()
        self._readers = {r: schemas.newest(r) for t in TOPICS.values() for r in t.records}
        self._by_topic: dict[str, dict[bytes, Callable[[bytes], Any]]] = {}
        self._decoders: dict[str, dict[bytes, Callable[[bytes], Any]]] = {}
        self._encoders: dict[str, dict[type, Callable[[Any], bytes]]] = {}
        self._encoders_by_id: dict[int, tuple[type, Callable[[Any], bytes]]] = {}
        for name in TOPICS:
            self._by_topic[name] = {}
            self._decoders[name] = self._decoders[prefix + name] = self._by_topic[name]
            self._encoders[name] = self._encoders[prefix + name] = {}
        for schema_id in sorted(texts):
            self._learn(schema_id, texts[schema_id])
        self._newest = {
            (name, record): ids[subject(name, record, prefix)][-1]
            for name, topic in TOPICS.items()
            for record in topic.records
        }
        for (name, _), schema_id in self._newest.items():
            kind, encode = self._encoder(schema_id)
            self._encoders[name][kind] = encode

    # -- writing ---------------------------------------------------------------------------------

    def encode(self, topic: str, event: Event) -> bytes:
        """Encode ``event`` with the newest schema of its record in ``topic``.

        Raises
        ------
        EncodeError
            The topic does not contain such events, or a value has the wrong type or is not finite.
        """
        try:
            encode = self._encoders[topic][event.__class__]
        except KeyError:
            raise EncodeError(f"{topic} does not contain {type(event).__name__} records") from None
        try:
            return encode(event)
        except _ENCODE_FAULTS as error:
            raise EncodeError(f"{topic}: cannot write {event!r}: {error}") from error

    def encode_with_id(self, schema_id: int, event: Event) -> bytes:
        """Encode ``event`` with a given writer schema, to compare with the log.

        Raises
        ------
        EncodeError
            The id is unknown, belongs to another record or to a schema with fields missing in the
            event, or a value cannot be encoded.
        """
        kind, encode = self._encoder(schema_id)
        if kind is not event.__class__:
            raise EncodeError(
                f"schema {schema_id} is of {kind.__name__}, not {type(event).__name__}"
            )
        try:
            return encode(event)
        except _ENCODE_FAULTS as error:
            raise EncodeError(f"cannot write {event!r} with schema {schema_id}: {error}") from error

    def _encoder(self, schema_id: int) -> tuple[type, Callable[[Any], bytes]]:
        if schema_id not in self._encoders_by_id:
            schema = self.schema(schema_id)
            record = self._record_name(schema)
            if schema is None or record is None:
                raise EncodeError(
                    f"schema {schema_id} is not known as one of this program's records"
                )
            try:
                encode = compile_encoder(schema, EVENT_TYPES, _FRAME.pack(0, schema_id))
            except UnsupportedSchema as error:
                raise EncodeError(f"schema {schema_id} cannot be written: {error}") from error
            self._encoders_by_id[schema_id] = (EVENT_TYPES[record], encode)
        return self._encoders_by_id[schema_id]

    # -- reading ---------------------------------------------------------------------------------

    def decode(self, topic: str, value: bytes | None) -> Event:
        """Decode a frame and check the values of the record (``streams.records.validation``).

        Parameters
        ----------
        topic
            Topic of the record, with or without the deployment's prefix.
        value
            The record's value.

        Raises
        ------
        DecodeError
            With the reason for a dead letter.
        """
        if value is None:
            raise DecodeError("null_value", "the record has no value")
        decode = self._decoders[topic].get(value[:5])
        if decode is None:
            raise self._refusal(topic, value)
        try:
            event: Event = decode(value)
        except Malformed as error:
            raise DecodeError(error.reason, str(error)) from None
        except (IndexError, struct.error):
            raise DecodeError("truncated", f"the record ends after {len(value)} bytes") from None
        if not VALID[event.__class__](event):
            reason = _INVALID.get(event.__class__, "invalid_value")
            raise DecodeError(reason, problem_of(event) or "", event)
        return event

    def _refusal(self, topic: str, value: bytes) -> DecodeError:
        try:
            schema_id = schema_id_of(value)
        except DecodeError as error:
            return error
        schema = self.schema(schema_id)
        if schema is None:
            return DecodeError("unknown_schema_id", f"no schema has the id {schema_id}")
        return DecodeError("wrong_record", f"schema {schema_id} is of {_name_of(schema)}")

    # -- schemas ---------------------------------------------------------------------------------

    def schema_id(self, topic: str, record: str) -> int:
        """Return the schema id with which this record is written in ``topic`` (no prefix)."""
        return self._newest[topic, record]

    def schema(self, schema_id: int) -> JsonSchema | None:
        """Return the schema of an id, None when unknown."""
        return self._schemas.get(schema_id)

    def unknown_ids(self, values: Iterable[bytes | None]) -> set[int]:
        """Return the ids in ``values`` that are unknown so far, for `resolve`.

        Values that are not frames have none. Ids unknown to the registry are left out.
        """
        prefixes = {value[:5] for value in values if value} - self._known
        found = {_FRAME.unpack(p)[1] for p in prefixes if len(p) == _FRAME.size and p[0] == 0}
        return found - self._absent

    async def resolve(self, ids: Iterable[int]) -> None:
        """Fetch the schemas of ``ids`` from the registry, if there is one.

        Raises
        ------
        Recoverable
            The registry cannot be reached.
        """
        for schema_id in sorted(set(ids) - set(self._schemas) - self._absent):
            text = None if self._fetch is None else await self._fetch(schema_id)
            if text is None:
                self._absent.add(schema_id)
            else:
                self._learn(schema_id, text)

    def learn(self, texts: Mapping[int, str]) -> None:
        """Add schemas: id -> schema as JSON."""
        for schema_id in sorted(set(texts) - set(self._schemas)):
            self._learn(schema_id, texts[schema_id])

    def _learn(self, schema_id: int, text: str) -> None:
        prefix = _FRAME.pack(0, schema_id)
        schema = _parse(text)
        self._schemas[schema_id] = schema
        self._known.add(prefix)
        record = self._record_name(schema)
        if record is None:
            return
        reader = self._readers[record]
        try:
            decode = compile_decoder(schema, reader, EVENT_TYPES, _FRAME.size)
        except UnsupportedSchema:
            decode = compile_with_fastavro(schema, reader, EVENT_TYPES, _FRAME.size)
        for name, topic in TOPICS.items():
            if record in topic.records:
                self._by_topic[name][prefix] = decode

    def _record_name(self, schema: JsonSchema | None) -> str | None:
        namespace, _, record = _name_of(schema).rpartition(".")
        return record if namespace == NAMESPACE and record in self._readers else None


def _parse(text: str) -> JsonSchema:
    try:
        schema = json.loads(text)
    except ValueError:
        return {"type": "other"}
    return schema if isinstance(schema, dict) else {"type": str(schema)}


def _name_of(schema: JsonSchema | None) -> str:
    if schema is None or schema.get("type") != "record" or "name" not in schema:
        return "a type that is not a record"
    return full_name(schema, "")


def locked_codec(prefix: str = "") -> Codec:
    """Return a codec with the ids of the lock file, without a registry.

    Raises
    ------
    Fatal
        Schema files and lock file do not match.
    """
    ids: dict[str, list[int]] = {}
    texts: dict[int, str] = {}
    by_file = {one.file: one.text for versions in schemas.released().values() for one in versions}
    for name, versions in schemas.read_lock().items():
        ids[prefix + name] = [versions[v].id for v in sorted(versions)]
        texts.update({entry.id: by_file[entry.file] for entry in versions.values()})
    return Codec(ids, texts, prefix)
