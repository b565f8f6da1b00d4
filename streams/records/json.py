"""Avro's JSON encoding of a record, as in ``rpk topic consume --use-schema-registry=value``.

An optional value has a type tag (``{"double":1.5}``), times are numbers, bytes are a string of the
characters U+0000 to U+00FF.
"""

from __future__ import annotations

import functools
import io
import json
from typing import Any

import fastavro

from streams.errors import Fatal
from streams.records.codec import Codec, DecodeError, schema_id_of


def avro_json(schema: Any, value: Any, names: dict[str, Any] | None = None) -> Any:
    """Return Avro's JSON encoding of ``value``, as Python objects.

    Parameters
    ----------
    schema
        The parsed or plain JSON schema the value was written with.
    value
        Value decoded by fastavro with that schema.
    names
        Named types seen so far, for the recursion.
    """
    names = {} if names is None else names
    if isinstance(schema, str):
        schema = names.get(schema, schema)
    if isinstance(schema, list):
        return _union(schema, value, names)
    kind = schema if isinstance(schema, str) else schema["type"]
    if kind == "record":
        names[type_full_name(schema)] = schema
        return {f["name"]: avro_json(f["type"], value[f["name"]], names) for f in schema["fields"]}
    if kind == "array":
        return [avro_json(schema["items"], item, names) for item in value]
    if kind == "map":
        return {key: avro_json(schema["values"], item, names) for key, item in value.items()}
    if kind == "enum":
        names[type_full_name(schema)] = schema
    if kind in ("bytes", "fixed"):
        return bytes(value).decode("latin-1")
    if isinstance(kind, (dict, list)):
        return avro_json(kind, value, names)
    return value


def type_full_name(schema: dict[str, Any]) -> str:
    """Return a named type's name with its namespace."""
    name: str = schema["name"]
    space = schema.get("namespace")
    return name if "." in name or not space else f"{space}.{name}"


def _union(branches: list[Any], value: Any, names: dict[str, Any]) -> Any:
    for branch in branches:
        if value is None:
            return None
        resolved = names.get(branch, branch) if isinstance(branch, str) else branch
        kind = resolved if isinstance(resolved, str) else resolved["type"]
        if kind == "null":
            continue
        named = kind in ("record", "enum", "fixed")
        tag = type_full_name(resolved) if named else _tag(resolved, kind)
        return {tag: avro_json(branch, value, names)}
    raise Fatal(f"a value {value!r} fits none of the types {branches}")


def _tag(branch: Any, kind: str) -> str:
    # rpk's tag contains the logical type; other readers accept both
    logical = branch.get("logicalType") if isinstance(branch, dict) else None
    return f"{kind}.{logical}" if logical else kind


def value_text(codec: Codec, value: bytes) -> str:
    """Return the JSON text of a framed Avro value, using its writer schema.

    Raises
    ------
    DecodeError
        The value is not a frame, its schema is unknown, or the body does not match.
    """
    schema_id = schema_id_of(value)
    schema = codec.schema(schema_id)
    if schema is None:
        raise DecodeError("unknown_schema_id", f"no schema has the id {schema_id}")
    body = io.BytesIO(value[5:])
    try:
        datum = fastavro.schemaless_reader(body, _plain(schema_id, json.dumps(schema)), None)
    except (EOFError, LookupError, ArithmeticError, TypeError, ValueError) as error:
        raise DecodeError("truncated", f"the record ends after {len(value)} bytes") from error
    if body.tell() != len(value) - 5:
        raise DecodeError("trailing_bytes", f"{len(value) - 5 - body.tell()} bytes too many")
    return json.dumps(avro_json(schema, datum), separators=(",", ":"), ensure_ascii=False)


@functools.lru_cache(maxsize=256)
def _plain(schema_id: int, text: str) -> Any:
    """Parse a schema without its logical types, so that times remain numbers."""
    return fastavro.parse_schema(_without_logical_types(json.loads(text)))


def _without_logical_types(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_logical_types(branch) for branch in schema]
    if isinstance(schema, dict):
        return {k: _without_logical_types(v) for k, v in schema.items() if k != "logicalType"}
    return schema
