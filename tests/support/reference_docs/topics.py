"""``docs/reference/topics.md``: every topic and the fields of its records."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from streams.records.schemas import newest, released
from streams.records.topics import STAGE_SOURCES, TOPICS, Topic, changelog_topic, subject
from tests.support.reference_docs.markdown import code, page, table

INTRO = """
The log consists of these topics. "N" partitions is `TOPIC_PARTITIONS` (default 12). A deployment's
`TOPIC_PREFIX` precedes every name. Values are Avro in the Confluent wire format;
[spec/records.md](../spec/records.md) describes the rules common to all records. `manifold topics
create` creates the topics, `manifold topics check` compares a cluster with this table, `manifold
tail TOPIC` prints records as JSON.
"""


def document() -> str:
    """Return the page."""
    rows = [
        (code(t.name), t.derived_by, t.content, t.partitions or "N", ", ".join(t.records))
        for t in TOPICS.values()
    ]
    changelogs = [changelog_topic(stage) for stage in STAGE_SOURCES]
    parts = [
        table(["topic", "written by", "content", "partitions", "records"], rows),
        "State of the stages, named with `APP_ID` in front:\n",
        table(
            ["topic", "content", "partitions"],
            [(code(f"<APP_ID>-{t.name}"), t.content, t.partitions or "N") for t in changelogs],
        ),
        "Configuration that `topics create` sets:\n",
        table(
            ["topics", "configuration"],
            [
                ("all of the first table", _config(TOPICS["md.candles"])),
                ("changelogs", _config(changelogs[0])),
            ],
        ),
    ]
    for topic in TOPICS.values():
        parts.append(f"## {topic.name}\n")
        parts += [part for record in topic.records for part in _record(topic, record)]
    return page("Topics and schemas", INTRO, *parts)


def _config(topic: Topic) -> str:
    return ", ".join(code(f"{name}={value}") for name, value in topic.config.items())


def _record(topic: Topic, record: str) -> Iterator[str]:
    yield f"### {record} in {topic.name}\n"
    first = next(one for one in TOPICS.values() if record in one.records)
    schema, version = newest(record), len(released()[record])
    yield f"{schema['doc']} Version {version}, subject `{subject(topic.name, record)}`.\n"
    if first is not topic:
        yield f"Fields: see [{first.name}](#{_anchor(f'{record} in {first.name}')}).\n"
        return
    yield table(["field", "type", "default", "what it is"], _fields(schema, "", {}))


def _anchor(heading: str) -> str:
    return heading.lower().replace(".", "").replace(" ", "-")


def _fields(schema: dict[str, Any], path: str, known: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for one in schema["fields"]:
        name = f"{path}{one['name']}"
        kind, inner, mark = _kind(one["type"], known)
        default = code(_plain(one["default"])) if "default" in one else ""
        yield code(name + mark), kind, default, one.get("doc", "")
        if inner is not None:
            yield from _fields(inner, f"{name}{mark}.", known)


def _plain(default: object) -> str:
    return {"None": "null", "True": "true", "False": "false", "": '""'}.get(
        str(default), str(default)
    )


def _kind(of: Any, known: dict[str, Any]) -> tuple[str, dict[str, Any] | None, str]:
    """Return a type in words, the record in it whose fields are not shown yet, and ``[]``."""
    if isinstance(of, list):
        rest = [one for one in of if one != "null"]
        kind, inner, mark = _kind(rest[0], known)
        return f"{kind}, or null", inner, mark
    if isinstance(of, str):
        return of.rpartition(".")[2], None, ""
    if of["type"] == "record":
        shown = of["name"] in known
        known[of["name"]] = of
        return of["name"], None if shown else of, ""
    if of["type"] == "array":
        kind, inner, _ = _kind(of["items"], known)
        return f"array of {kind}", inner, "[]"
    if of["type"] == "map":
        kind, inner, _ = _kind(of["values"], known)
        return f"map of {kind}", inner, "{}"
    if of["type"] == "enum":
        known[of["name"]] = of
        return " / ".join(of["symbols"]), None, ""
    logical = of.get("logicalType")
    return f"{of['type']} ({logical})" if logical else str(of["type"]), None, ""
