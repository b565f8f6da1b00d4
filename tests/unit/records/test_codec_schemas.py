"""The released schemas: lock, compatibility of all pairs, and how records may grow."""

import copy
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import fastavro
import pytest

from streams.errors import Fatal
from streams.records import schemas
from streams.records.avro.decoder import compile_decoder
from streams.records.avro.encoder import compile_encoder
from streams.records.avro.schema import UnsupportedSchema
from streams.records.codec import EVENT_TYPES, locked_codec
from streams.records.topics import TOPICS, subject
from tests.support.sample_events import SAMPLES

RELEASED = schemas.released()


def test_the_lock_matches_the_files_and_covers_every_subject() -> None:
    lock = schemas.read_lock()
    assert set(lock) == {subject(t.name, r) for t in TOPICS.values() for r in t.records}
    assert schemas.build_lock(lock) == lock


def test_an_id_belongs_to_one_schema_text() -> None:
    entries = {e for versions in schemas.read_lock().values() for e in versions.values()}
    assert len({e.id for e in entries}) == len({e.sha256 for e in entries}) == len(entries)


def test_a_changed_released_file_is_named() -> None:
    lock = copy.deepcopy(schemas.read_lock())
    lock["risk.weights-value"][1] = lock["risk.weights-value"][1]._replace(sha256="0" * 64)
    with pytest.raises(Fatal, match=r"risk\.weights/Weights\.v1\.avsc is released"):
        schemas.build_lock(lock)


@pytest.mark.parametrize("record", RELEASED)
def test_every_version_is_readable_by_every_later_one(record: str) -> None:
    versions = [json.loads(v.text) for v in RELEASED[record]]
    for newer, reader in enumerate(versions):
        for writer in versions[: newer + 1]:
            assert schemas.incompatibilities(writer, reader) == []


@pytest.mark.parametrize("record", RELEASED)
def test_what_any_version_writes_the_newest_reads(record: str) -> None:
    newest = schemas.newest(record)
    for version in RELEASED[record]:
        writer = json.loads(version.text)
        frame = compile_encoder(writer, EVENT_TYPES, b"")(SAMPLES[record])
        event = compile_decoder(writer, newest, EVENT_TYPES, 0)(frame)
        assert compile_encoder(writer, EVENT_TYPES, b"")(event) == frame


@pytest.mark.parametrize("record", RELEASED)
def test_every_schema_is_avro_and_documented(record: str) -> None:
    for version in RELEASED[record]:
        schema = json.loads(version.text)
        fastavro.parse_schema(copy.deepcopy(schema))
        assert schema["namespace"] == "manifold"
        assert all(field["doc"] for field in schema["fields"])
        assert not any("enum" in json.dumps(field["type"]) for field in schema["fields"])


def without(schema: dict, *names: str) -> dict:
    return {**schema, "fields": [f for f in schema["fields"] if f["name"] not in names]}


CANDLE = schemas.newest("Candle")
WITHOUT_VOLUME = without(CANDLE, "volume")


@pytest.mark.parametrize(
    ("writer", "reader", "problem"),
    [
        pytest.param(without(CANDLE, "complete"), CANDLE, None, id="new field with default"),
        pytest.param(without(CANDLE, "bid", "ask"), CANDLE, None, id="new optional records"),
        pytest.param(without(CANDLE, "source"), CANDLE, "source: a new field", id="no default"),
        pytest.param(CANDLE, WITHOUT_VOLUME, "volume: a field was removed", id="removed"),
        pytest.param(CANDLE, {**CANDLE, "name": "Bar"}, "Candle became Bar", id="renamed"),
        pytest.param(
            CANDLE,
            {**CANDLE, "fields": [{"name": "instrument", "type": "bytes"}, *CANDLE["fields"][1:]]},
            "instrument: string became bytes",
            id="other type",
        ),
    ],
)
def test_how_a_record_may_grow(writer: dict, reader: dict, problem: str | None) -> None:
    problems = schemas.incompatibilities(writer, reader)
    assert (problem is None and problems == []) or (problem or "-") in problems[0]


@pytest.mark.parametrize(
    "gone", [("complete",), ("volume",), ("bid", "ask"), ("volume", "complete")]
)
def test_an_older_writers_record_takes_the_newest_defaults(gone: tuple[str, ...]) -> None:
    old = copy.deepcopy(without(CANDLE, *gone))
    body = compile_encoder(old, EVENT_TYPES, b"")(SAMPLES["Candle"])
    resolved = fastavro.schemaless_reader(
        io.BytesIO(body), fastavro.parse_schema(old), fastavro.parse_schema(copy.deepcopy(CANDLE))
    )
    event = compile_decoder(old, CANDLE, EVENT_TYPES, 0)(body)
    for name in gone:
        default = next(f["default"] for f in CANDLE["fields"] if f["name"] == name)
        assert getattr(event, name) == resolved[name] == default
    assert event._replace(**{n: getattr(SAMPLES["Candle"], n) for n in gone}) == SAMPLES["Candle"]


def test_a_field_that_moved_is_read_by_name() -> None:
    moved = {**CANDLE, "fields": [CANDLE["fields"][-1], *CANDLE["fields"][:-1]]}
    body = compile_encoder(moved, EVENT_TYPES, b"")(SAMPLES["Candle"])
    assert compile_decoder(moved, CANDLE, EVENT_TYPES, 0)(body) == SAMPLES["Candle"]


def test_a_record_inside_itself_is_refused() -> None:
    schema = {**CANDLE, "fields": [{"name": "mid", "type": "manifold.Candle"}]}
    with pytest.raises(UnsupportedSchema):
        compile_decoder(schema, CANDLE, EVENT_TYPES, 0)


# -- a second version is released ----------------------------------------------------------------


@pytest.fixture
def copied_schemas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of ``schemas/`` in which the present candle is version 2 of one without a flag."""
    shutil.copytree(schemas.schema_dir(), tmp_path / "schemas")
    monkeypatch.setattr(schemas, "schema_dir", lambda: tmp_path / "schemas")
    folder = tmp_path / "schemas" / "md.candles"
    last = len(RELEASED["Candle"])
    shutil.copy(folder / f"Candle.v{last}.avsc", folder / f"Candle.v{last + 1}.avsc")
    (folder / f"Candle.v{last}.avsc").write_text(json.dumps(without(CANDLE, "complete")))
    (tmp_path / "schemas" / schemas.LOCK_FILE).unlink()
    schemas.released.cache_clear()
    yield folder
    schemas.released.cache_clear()


def test_records_of_the_old_version_are_read_and_made_again(copied_schemas: Path) -> None:
    schemas.write_lock()
    codec = locked_codec()
    versions = schemas.read_lock()["md.candles-value"]
    *_, old, new = (versions[v].id for v in sorted(versions))
    frame = codec.encode_with_id(old, SAMPLES["Candle"])
    assert len(frame) == len(codec.encode("md.candles", SAMPLES["Candle"])) - 1
    assert codec.schema_id("md.candles", "Candle") == new
    assert codec.decode("md.candles", frame) == SAMPLES["Candle"]
    assert codec.encode_with_id(old, codec.decode("md.candles", frame)) == frame


def test_ids_stay_when_a_version_is_added(copied_schemas: Path) -> None:
    schemas.write_lock()
    before = schemas.read_lock()
    last = max(before["risk.weights-value"])
    folder = copied_schemas.parent / "risk.weights"
    grown = schemas.newest("Weights")
    grown["fields"] = [*grown["fields"], {"name": "note", "type": "string", "default": ""}]
    (folder / f"Weights.v{last + 1}.avsc").write_text(json.dumps(grown))
    schemas.released.cache_clear()
    with pytest.raises(Fatal, match=r"risk\.weights-value.*python -m streams\.records\.schemas"):
        schemas.read_lock()
    schemas.write_lock()
    after = schemas.read_lock()
    added = after["risk.weights-value"].pop(last + 1)
    assert after == before
    assert added.id == 1 + max(e.id for versions in before.values() for e in versions.values())


def test_a_version_that_cannot_read_the_old_ones_is_not_released(copied_schemas: Path) -> None:
    last = len(schemas.released()["Candle"])
    broken = without(CANDLE, "volume")
    (copied_schemas / f"Candle.v{last + 1}.avsc").write_text(json.dumps(broken))
    schemas.released.cache_clear()
    with pytest.raises(Fatal, match="volume: a field was removed"):
        schemas.write_lock()
