"""For random events of every record: the bytes are fastavro's, and damage is always an outcome."""

import copy
import io
import types
import typing

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.records import events, schemas
from streams.records.codec import DecodeError, locked_codec
from streams.records.topics import TOPICS

CODEC = locked_codec()
RECORDS = {record: topic.name for topic in TOPICS.values() for record in topic.records}
PARSED = {
    record: fastavro.parse_schema(copy.deepcopy(schemas.newest(record))) for record in RECORDS
}
LONGS = st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(-200, 200)
SCALARS = {
    int: LONGS,
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    str: st.text(st.characters(exclude_categories=("Cs",)), max_size=80),
    bytes: st.binary(max_size=80),
}


def values(kind: typing.Any) -> st.SearchStrategy[typing.Any]:
    arguments = typing.get_args(kind)
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*(st.none() if a is type(None) else values(a) for a in arguments))
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if origin is tuple:
        return st.lists(values(arguments[0]), max_size=3).map(tuple)
    if hasattr(kind, "_fields"):
        return st.builds(kind, **{n: values(t) for n, t in typing.get_type_hints(kind).items()})
    return SCALARS[kind]


def plain(value: typing.Any) -> typing.Any:
    """Return an event as the dictionaries fastavro takes."""
    if hasattr(value, "_fields"):
        return {name.rstrip("_"): plain(v) for name, v in value._asdict().items()}
    return [plain(v) for v in value] if isinstance(value, tuple) else value


def decoded(record: str, frame: bytes) -> events.Event:
    """Return the event of a frame, also of one whose values make no sense."""
    try:
        return CODEC.decode(RECORDS[record], frame)
    except DecodeError as error:
        if error.event is None:
            raise
        return error.event


def any_event() -> st.SearchStrategy[tuple[str, events.Event]]:
    return st.sampled_from(sorted(RECORDS)).flatmap(
        lambda record: st.tuples(st.just(record), values(getattr(events, record)))
    )


def written_by_fastavro(record: str, event: events.Event) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, PARSED[record], plain(event), strict=True)
    return out.getvalue()


@pytest.mark.parametrize("record", RECORDS)
def test_frames_are_fastavros_and_come_back(record: str) -> None:
    @given(values(getattr(events, record)))
    def holds(event: events.Event) -> None:
        frame = CODEC.encode(RECORDS[record], event)
        assert frame[5:] == written_by_fastavro(record, event)
        again = decoded(record, frame)
        assert repr(again) == repr(event)  # repr also tells -0.0 from 0.0 and 1 from 1.0

    holds()


@given(any_event(), st.data())
def test_a_frame_cut_anywhere_is_truncated(
    pair: tuple[str, events.Event], data: st.DataObject
) -> None:
    record, event = pair
    frame = CODEC.encode(RECORDS[record], event)
    cut = data.draw(st.integers(0, len(frame) - 1))
    with pytest.raises(DecodeError) as caught:
        CODEC.decode(RECORDS[record], frame[:cut])
    assert caught.value.reason == "truncated"


@given(any_event(), st.binary(min_size=1, max_size=9))
def test_a_frame_with_more_behind_it_has_trailing_bytes(
    pair: tuple[str, events.Event], more: bytes
) -> None:
    record, event = pair
    with pytest.raises(DecodeError) as caught:
        CODEC.decode(RECORDS[record], CODEC.encode(RECORDS[record], event) + more)
    assert caught.value.reason == "trailing_bytes"


@given(any_event(), st.data())
def test_damage_is_an_outcome_and_never_another_error(
    pair: tuple[str, events.Event], data: st.DataObject
) -> None:
    record, event = pair
    frame = bytearray(CODEC.encode(RECORDS[record], event))
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(5, len(frame) - 1))] = data.draw(st.integers(0, 255))
    try:
        again = decoded(record, bytes(frame))
    except DecodeError:
        return
    assert decoded(record, CODEC.encode(RECORDS[record], again)) == again


@given(st.sampled_from(sorted(RECORDS)), st.binary(max_size=200))
def test_any_body_is_an_event_or_an_outcome(record: str, body: bytes) -> None:
    prefix = CODEC.schema_id(RECORDS[record], record).to_bytes(5, "big")
    try:
        event = decoded(record, prefix + body)
    except DecodeError:
        return
    assert written_by_fastavro(record, event)
