"""The released Avro schemas in ``schemas/``, and the lock file with their ids.

``schemas/<topic>/<Record>.vN.avsc`` is version N of a record; released files never change, a new
field comes with a default in a new file. ``schemas/registry.lock.json`` contains for every subject
and version the file, its SHA-256 and the id used in frames without a registry. As in a registry, an
id belongs to a schema text: the watermark has the same id under all its subjects.

``python -m streams.records.schemas`` adds new files to the lock file and checks the others.
"""

from __future__ import annotations

import hashlib
import json
import re
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from streams.errors import Fatal
from streams.records.topics import TOPICS, subject

JsonSchema = dict[str, Any]
LOCK_FILE: Final = "registry.lock.json"
_FILE_NAME: Final = re.compile(r"(?P<record>[A-Za-z]+)\.v(?P<version>[1-9][0-9]*)\.avsc")


class SchemaVersion(NamedTuple):
    """One released version of a record.

    Attributes
    ----------
    record, version
        Name of the record and its version, counted from 1.
    file
        Path below ``schemas/``.
    sha256
        Hash of the file's bytes, hexadecimal.
    text
        The schema as compact JSON, as registered.
    """

    record: str
    version: int
    file: str
    sha256: str
    text: str


class LockEntry(NamedTuple):
    """Entry of the lock file for one version of a subject."""

    id: int
    file: str
    sha256: str


Lock = dict[str, dict[int, LockEntry]]
"""Subject (without a deployment's prefix) -> version -> entry."""


def schema_dir() -> Path:
    """Return the directory of the schemas, in an installed package or a source tree.

    Raises
    ------
    Fatal
        Neither exists.
    """
    package = Path(__file__).resolve().parents[1]
    for place in (package / "_schemas", package.parent / "schemas"):
        if (place / LOCK_FILE).is_file() or any(place.glob("*/*.avsc")):
            return place
    raise Fatal("the schemas are missing from this installation; install manifold-streams again")


@cache
def released() -> dict[str, list[SchemaVersion]]:
    """Return every released version of every record, oldest first.

    Raises
    ------
    Fatal
        A file is not JSON or has an invalid name, a version is missing, or a record of
        ``streams.records.topics`` has no schema.
    """
    root = schema_dir()
    found: dict[str, dict[int, SchemaVersion]] = {}
    for path in sorted(root.glob("*/*.avsc")):
        one = _read(path, f"{path.parent.name}/{path.name}")
        found.setdefault(one.record, {})[one.version] = one
    for topic in TOPICS.values():
        for record in topic.records:
            versions = found.get(record, {})
            if sorted(versions) != list(range(1, len(versions) + 1)) or not versions:
                raise Fatal(f"schemas/: {record} has the versions {sorted(versions)}, not 1..N")
    return {record: [versions[v] for v in sorted(versions)] for record, versions in found.items()}


def _read(path: Path, name: str) -> SchemaVersion:
    match = _FILE_NAME.fullmatch(path.name)
    if match is None:
        raise Fatal(f"schemas/{name}: the name is not Record.vN.avsc")
    raw = path.read_bytes()
    try:
        schema = json.loads(raw)
    except ValueError as error:
        raise Fatal(f"schemas/{name} is not JSON: {error}") from error
    if schema.get("name") != match["record"]:
        raise Fatal(f"schemas/{name} defines {schema.get('name')}, not {match['record']}")
    return SchemaVersion(
        match["record"],
        int(match["version"]),
        name,
        hashlib.sha256(raw).hexdigest(),
        json.dumps(schema, separators=(",", ":"), ensure_ascii=False),
    )


def newest(record: str) -> JsonSchema:
    """Return the newest released schema of ``record``, the reader schema of all its records."""
    schema: JsonSchema = json.loads(released()[record][-1].text)
    return schema


def read_lock() -> Lock:
    """Read the lock file and check it against the schema files.

    Raises
    ------
    Fatal
        The lock file is missing or damaged, or a released file was changed; the message names it.
    """
    path = schema_dir() / LOCK_FILE
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))["subjects"]
        lock = {
            name: {int(v): LockEntry(**entry) for v, entry in versions.items()}
            for name, versions in raw.items()
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Fatal(
            f"schemas/{LOCK_FILE} cannot be read ({error}); run python -m streams.records.schemas"
        ) from error
    expected = build_lock(lock)
    if expected != lock:
        differing = sorted(s for s in expected if expected[s] != lock.get(s))
        raise Fatal(
            f"schemas/{LOCK_FILE} does not match the schema files ({', '.join(differing)}); "
            "run python -m streams.records.schemas"
        )
    return lock


def build_lock(old: Lock) -> Lock:
    """Return the lock for the current files; ids of ``old`` are kept, new texts get the next ids.

    Raises
    ------
    Fatal
        A released file was changed or removed; add a new version instead.
    """
    ids = {entry.sha256: entry.id for versions in old.values() for entry in versions.values()}
    next_id = max(ids.values(), default=0) + 1
    lock: Lock = {}
    for topic in TOPICS.values():
        for record in topic.records:
            name = subject(topic.name, record)
            lock[name] = {}
            for one in released()[record]:
                if one.sha256 not in ids:
                    ids[one.sha256] = next_id
                    next_id += 1
                lock[name][one.version] = LockEntry(ids[one.sha256], one.file, one.sha256)
            _refuse_changes(old.get(name, {}), lock[name])
    return lock


def _refuse_changes(old: dict[int, LockEntry], new: dict[int, LockEntry]) -> None:
    for version, entry in old.items():
        if new.get(version) != entry:
            raise Fatal(
                f"schemas/{entry.file} is released and was changed or removed; restore it and put "
                f"the change into a file of version {len(old) + 1}"
            )


def write_lock() -> Path:
    """Update the lock file from the schema files and return its path.

    Raises
    ------
    Fatal
        As `build_lock`, or a new version that cannot read records of an older one.
    """
    path = schema_dir() / LOCK_FILE
    old: Lock = {}
    if path.is_file():
        raw = json.loads(path.read_text(encoding="utf-8"))["subjects"]
        old = {
            name: {int(v): LockEntry(**entry) for v, entry in versions.items()}
            for name, versions in raw.items()
        }
    for record, versions in released().items():
        for version in versions[:-1]:
            problems = incompatibilities(json.loads(version.text), newest(record))
            if problems:
                raise Fatal(
                    f"schemas/{versions[-1].file} cannot read {version.file}: {problems[0]}"
                )
    lock = build_lock(old)
    shown = {
        name: {str(v): entry._asdict() for v, entry in versions.items()}
        for name, versions in lock.items()
    }
    path.write_text(json.dumps({"subjects": shown}, indent=2) + "\n", encoding="utf-8")
    return path


def incompatibilities(writer: Any, reader: Any, where: str = "") -> list[str]:
    """Return why ``reader`` cannot read records of ``writer``; empty when it can (BACKWARD).

    Stricter than Avro's schema resolution: types must not change at all, not even promotions such
    as long to double, because they would change the bytes of a re-encoded record.
    """
    writer, reader = _inner(writer), _inner(reader)
    if not (isinstance(writer, dict) and isinstance(reader, dict)):
        return [] if writer == reader else [f"{where or 'type'}: {writer} became {reader}"]
    if writer.get("type") != reader.get("type") or writer.get("name") != reader.get("name"):
        return [f"{where or 'type'}: {_short(writer)} became {_short(reader)}"]
    if writer["type"] == "array":
        return incompatibilities(writer["items"], reader["items"], f"{where}[]")
    if writer["type"] != "record":
        same = writer.get("logicalType") == reader.get("logicalType")
        return [] if same else [f"{where}: the logical type changed"]
    return _record_incompatibilities(writer, reader, where)


def _record_incompatibilities(writer: JsonSchema, reader: JsonSchema, where: str) -> list[str]:
    problems: list[str] = []
    written = {field["name"]: field for field in writer["fields"]}
    for field in reader["fields"]:
        name = f"{where}.{field['name']}".lstrip(".")
        if field["name"] in written:
            problems += incompatibilities(written[field["name"]]["type"], field["type"], name)
        elif "default" not in field:
            problems.append(f"{name}: a new field has no default")
    gone = sorted(set(written) - {field["name"] for field in reader["fields"]})
    problems += [f"{where}.{name}: a field was removed".lstrip(".") for name in gone]
    return problems


def _inner(schema: Any) -> Any:
    if isinstance(schema, list):
        return {"type": "array", "name": "optional", "items": schema[1]}
    return schema


def _short(schema: JsonSchema) -> str:
    return str(schema.get("name", schema["type"]))


if __name__ == "__main__":
    print(write_lock())
