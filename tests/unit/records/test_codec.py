"""Frames: what is written, what is refused on either side, and every released version."""

import io
import json
import math
import struct
from pathlib import Path

import fastavro
import pytest

from streams.records import schemas
from streams.records.avro.schema import python_name
from streams.records.codec import (
    DECODE_REASONS,
    Codec,
    DecodeError,
    EncodeError,
    locked_codec,
    schema_id_of,
)
from streams.records.topics import TOPICS, subject
from tests.support.sample_events import BARE_SAMPLES, SAMPLES, TOPIC_OF

GOLDEN = json.loads((Path(__file__).parent / "golden_frames.json").read_text())
ALL = [*SAMPLES.items(), *BARE_SAMPLES.items()]


@pytest.fixture(scope="module")
def codec() -> Codec:
    return locked_codec()


def frame_of(codec: Codec, record: str = "Candle") -> bytes:
    return codec.encode(TOPIC_OF[record], SAMPLES[record])


def test_there_is_a_sample_of_every_record() -> None:
    assert set(SAMPLES) == {record for topic in TOPICS.values() for record in topic.records}


@pytest.mark.parametrize(("record", "event"), ALL, ids=lambda v: v if isinstance(v, str) else "")
def test_an_event_comes_back_as_it_was(codec: Codec, record: str, event: object) -> None:
    again = codec.decode(TOPIC_OF[record], codec.encode(TOPIC_OF[record], event))
    assert again == event
    assert type(again) is type(event)


@pytest.mark.parametrize("record", SAMPLES)
def test_the_frame_starts_with_the_id_of_the_lock(codec: Codec, record: str) -> None:
    topic = TOPIC_OF[record]
    locked = schemas.read_lock()[subject(topic, record)]
    assert schema_id_of(frame_of(codec, record)) == locked[max(locked)].id
    assert codec.schema_id(topic, record) == locked[max(locked)].id


@pytest.mark.parametrize(
    ("record", "version"), [(r, v.version) for r, vs in schemas.released().items() for v in vs]
)
def test_golden_frame_of_every_released_version(codec: Codec, record: str, version: int) -> None:
    golden = bytes.fromhex(GOLDEN[record][str(version)])
    event = codec.decode(TOPIC_OF[record], golden)
    assert codec.encode_with_id(schema_id_of(golden), event) == golden
    if version == len(schemas.released()[record]):
        assert event == SAMPLES[record]


def test_a_watermark_is_the_same_frame_in_every_topic(codec: Codec) -> None:
    topics = [t.name for t in TOPICS.values() if "Watermark" in t.records]
    assert len({codec.encode(topic, SAMPLES["Watermark"]) for topic in topics}) == 1
    assert len(topics) == 4


def test_topics_are_known_with_and_without_the_prefix() -> None:
    codec = locked_codec("eu1.")
    frame = codec.encode("eu1.md.candles", SAMPLES["Candle"])
    assert frame == codec.encode("md.candles", SAMPLES["Candle"])
    assert codec.decode("eu1.md.candles", frame) == SAMPLES["Candle"]


CANDLE = SAMPLES["Candle"]
SIGNAL = SAMPLES["Signal"]
NAN_LOW = CANDLE.mid._replace(low=math.nan)


@pytest.mark.parametrize(
    ("topic", "event"),
    [
        pytest.param("sep.signals", SIGNAL._replace(coherence=math.nan), id="nan"),
        pytest.param("sep.signals", SIGNAL._replace(price=-math.inf), id="infinity"),
        pytest.param("md.candles", CANDLE._replace(mid=NAN_LOW), id="deep"),
        pytest.param("md.candles", CANDLE._replace(bar_ms=1.5), id="fraction-for-long"),
        pytest.param("md.candles", CANDLE._replace(bar_ms=float(CANDLE.bar_ms)), id="float"),
        pytest.param("md.candles", CANDLE._replace(volume=42.0), id="float-for-optional-long"),
        pytest.param("md.candles", CANDLE._replace(bar_ms=1 << 63), id="too-long"),
        pytest.param("md.candles", CANDLE._replace(instrument=None), id="none-for-text"),
        pytest.param("md.candles", CANDLE._replace(instrument=b"EUR_USD"), id="bytes-for-text"),
        pytest.param("md.candles", CANDLE._replace(mid=None), id="none-for-record"),
        pytest.param("md.candles", CANDLE._replace(mid=("1", "1", "1", "1")), id="text-for-double"),
        pytest.param("md.candles", CANDLE._replace(complete=None), id="none-for-flag"),
        pytest.param("sep.signals", CANDLE, id="another-topics-event"),
        pytest.param("no.such", CANDLE, id="unknown-topic"),
        pytest.param("md.candles", ("EUR_USD",), id="no-event"),
    ],
)  # fmt: skip
def test_what_must_not_be_written_is_refused(codec: Codec, topic: str, event: object) -> None:
    codec.encode("md.candles", CANDLE)  # the caches are warm: an equal value must not be found
    with pytest.raises(EncodeError):
        codec.encode(topic, event)


def test_the_refusal_names_topic_and_field(codec: Codec) -> None:
    with pytest.raises(EncodeError, match=r"sep\.signals.*EUR_USD.*entropy is nan"):
        codec.encode("sep.signals", SIGNAL._replace(entropy=math.nan))


def _infinite(codec: Codec) -> bytes:
    frame = frame_of(codec)
    raw = frame.index(double_bytes(CANDLE.mid.open))
    return frame[:raw] + double_bytes(math.inf) + frame[raw + 8 :]


def double_bytes(value: float) -> bytes:
    return struct.pack("<d", value)


REFUSED = {
    "null": ("null_value", lambda c: None),
    "empty": ("truncated", lambda c: b""),
    "no id": ("truncated", lambda c: b"\0\0\0\0"),
    "no body": ("truncated", lambda c: frame_of(c)[:5]),
    "half": ("truncated", lambda c: frame_of(c)[:60]),
    "last byte missing": ("truncated", lambda c: frame_of(c)[:-1]),
    "magic": ("bad_magic", lambda c: b"\1" + frame_of(c)[1:]),
    "json": ("bad_magic", lambda c: b'{"instrument":"EUR_USD"}'),
    "unknown id": ("unknown_schema_id", lambda c: b"\0\x7f\0\0\0" + frame_of(c)[5:]),
    "other record": ("wrong_record", lambda c: frame_of(c, "Signal")),
    "trailing": ("trailing_bytes", lambda c: frame_of(c) + b"\0"),
    "infinity": ("invalid_value", _infinite),
    "flag of 2": ("invalid_value", lambda c: frame_of(c)[:-1] + b"\2"),
    "text not utf-8": (
        "invalid_value",
        lambda c: frame_of(c).replace(b"EUR_USD", b"\xff\xfe_\xffUSD"),
    ),
    "negative length": ("invalid_value", lambda c: frame_of(c)[:5] + b"\1" + frame_of(c)[6:]),
    "endless number": ("invalid_value", lambda c: frame_of(c)[:5] + b"\xff" * 11),
    "length beyond the end": (
        "truncated",
        lambda c: frame_of(c)[:5] + b"\xfe\xff\xff\xff\x0f" + frame_of(c)[6:],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_event_is_refused_with_its_reason(codec: Codec, case: str) -> None:
    reason, make = REFUSED[case]
    with pytest.raises(DecodeError) as caught:
        codec.decode("md.candles", make(codec))
    assert caught.value.reason == reason
    assert caught.value.detail
    assert reason in DECODE_REASONS


def test_every_reason_has_a_case() -> None:
    assert {reason for reason, _ in REFUSED.values()} == set(DECODE_REASONS)


def test_field_names_are_those_of_the_schema() -> None:
    for record, event in SAMPLES.items():
        fields = [python_name(f["name"]) for f in schemas.newest(record)["fields"]]
        assert fields == list(event._fields), record


# -- ids from elsewhere --------------------------------------------------------------------------

NEXT = {**schemas.newest("Watermark")}
NEXT["fields"] = [*NEXT["fields"], {"name": "feed", "type": "string", "default": "?"}]


def foreign_frame(schema: dict, schema_id: int) -> bytes:
    out = io.BytesIO(schema_id.to_bytes(5, "big"))
    out.seek(5)
    datum = {**SAMPLES["Watermark"]._asdict(), "feed": "north", "weight": 2.5}
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), datum)
    return out.getvalue()


def with_registry(texts: dict[int, dict]) -> tuple[Codec, list[int]]:
    asked: list[int] = []

    async def fetch(schema_id: int) -> str | None:
        asked.append(schema_id)
        return json.dumps(texts[schema_id]) if schema_id in texts else None

    base = locked_codec()
    lock = schemas.read_lock()
    ids = {name: [e.id for e in versions.values()] for name, versions in lock.items()}
    known = {i: json.dumps(base.schema(i)) for versions in ids.values() for i in versions}
    return Codec(ids, known, fetch=fetch), asked


async def test_an_id_is_asked_for_once_then_known_or_denied() -> None:
    codec, asked = with_registry({900: NEXT})
    values = [foreign_frame(NEXT, 900), foreign_frame(NEXT, 901), b"\1abcdef", b"\0\0", None, b""]
    values.append(frame_of(codec))
    assert codec.unknown_ids(values) == {900, 901}
    await codec.resolve(codec.unknown_ids(values))
    assert codec.unknown_ids(values) == set()
    await codec.resolve({900, 901})
    assert asked == [900, 901]
    assert codec.decode("md.candles", values[0]) == SAMPLES["Watermark"]
    with pytest.raises(DecodeError, match="unknown_schema_id"):
        codec.decode("md.candles", values[1])


async def test_a_newer_writers_field_is_left_out_and_its_frame_cannot_be_made_again() -> None:
    codec, _ = with_registry({900: NEXT})
    frame = foreign_frame(NEXT, 900)
    await codec.resolve({900})
    event = codec.decode("md.candles", frame)
    assert event == SAMPLES["Watermark"]
    with pytest.raises(EncodeError, match="feed"):
        codec.encode_with_id(900, event)


async def test_a_writer_schema_beyond_our_types_is_read_by_resolution() -> None:
    odd = {**NEXT, "fields": [*NEXT["fields"], {"name": "weight", "type": "float"}]}
    odd["fields"][2] = {"name": "control_offset", "type": "int"}  # promoted to long
    codec, _ = with_registry({900: odd})
    frame = foreign_frame(odd, 900)
    await codec.resolve({900})
    assert codec.decode("md.candles", frame) == SAMPLES["Watermark"]
    for bad, reason in ((frame[:-1], "truncated"), (frame + b"\0", "trailing_bytes")):
        with pytest.raises(DecodeError, match=reason):
            codec.decode("md.candles", bad)


@pytest.mark.parametrize(
    "text",
    [
        {"type": "record", "name": "Candle", "namespace": "elsewhere", "fields": []},
        {"type": "record", "name": "Wheat", "namespace": "manifold", "fields": []},
        {"type": "string"},
    ],
    ids=["namespace", "name", "no record"],
)
async def test_a_foreign_record_is_the_wrong_one(text: dict) -> None:
    codec, _ = with_registry({900: text})
    await codec.resolve({900})
    with pytest.raises(DecodeError, match="wrong_record"):
        codec.decode("md.candles", (900).to_bytes(5, "big") + b"\0")


async def test_a_schema_text_is_data_and_never_code() -> None:
    name = 'x", v1)); raise SystemExit(("'
    evil = {**NEXT, "fields": [*NEXT["fields"], {"name": name, "type": "double"}]}
    codec, _ = with_registry({900: evil})
    await codec.resolve({900})
    with pytest.raises(DecodeError):
        codec.decode("md.candles", (900).to_bytes(5, "big") + b"\0")
