"""Record schemas: names, types, and the base of both generators."""

from __future__ import annotations

import struct
from typing import Any, Final

JsonSchema = dict[str, Any]

_RESERVED: Final = frozenset({"lambda"})


class UnsupportedSchema(Exception):
    """A writer schema with unsupported types (never one of this package)."""


def python_name(field: str) -> str:
    """Return the event field of the schema field ``field`` (``lambda`` -> ``lambda_``)."""
    return field + "_" if field in _RESERVED else field


def full_name(schema: JsonSchema, namespace: str) -> str:
    """Return the full name of a record schema; ``namespace`` is the default namespace."""
    name = str(schema["name"])
    return name if "." in name else f"{schema.get('namespace', namespace)}.{name}"


def named_records(
    schema: Any, namespace: str = "", known: dict[str, JsonSchema] | None = None
) -> dict[str, JsonSchema]:
    """Return every record defined in ``schema`` by its full name."""
    known = {} if known is None else known
    if isinstance(schema, list):
        for branch in schema:
            named_records(branch, namespace, known)
    elif isinstance(schema, dict):
        if schema.get("type") == "record":
            name = full_name(schema, namespace)
            known[name] = schema
            for field in schema["fields"]:
                named_records(field["type"], name.rpartition(".")[0], known)
        else:
            named_records(schema.get("items"), namespace, known)
    return known


def kind_of(schema: Any) -> str:
    """Return the name of an Avro type, or ``optional`` or ``timestamp-millis``."""
    if isinstance(schema, list):
        if len(schema) == 2 and schema[0] == "null":
            return "optional"
        raise UnsupportedSchema(f"the union {schema}")
    if isinstance(schema, dict):
        if schema.get("logicalType") == "timestamp-millis":
            return "timestamp-millis"
        return str(schema["type"])
    return str(schema)


def shape_of(schema: Any) -> Any:
    """Return a type with records replaced by their names; their fields are compared separately."""
    if isinstance(schema, list):
        return [shape_of(branch) for branch in schema]
    if isinstance(schema, dict) and schema.get("type") == "record":
        return full_name(schema, "manifold")
    if isinstance(schema, dict) and schema.get("type") == "array":
        return {"array": shape_of(schema["items"])}
    return kind_of(schema)


def field_runs(
    fields: list[tuple[str, str, JsonSchema]],
) -> list[list[tuple[str, str, JsonSchema]]]:
    """Group adjacent doubles, which are packed together; other fields are single."""
    runs: list[list[tuple[str, str, JsonSchema]]] = []
    for field in fields:
        if field[1] == "double" and runs and runs[-1][0][1] == "double":
            runs[-1].append(field)
        else:
            runs.append([field])
    return runs


class Compiler:
    """Base of both generators: records by name, and the Python types of the events."""

    def __init__(self, schema: JsonSchema, event_types: dict[str, type]) -> None:
        self.records = named_records(schema)
        self.types = event_types
        self.namespace: dict[str, Any] = {}

    def record_of(self, schema: Any) -> tuple[str, JsonSchema]:
        name = full_name(schema, "manifold") if isinstance(schema, dict) else str(schema)
        if name not in self.records and "." not in name:
            name = f"manifold.{name}"
        if name not in self.records or name.rpartition(".")[2] not in self.types:
            raise UnsupportedSchema(f"the type {schema}")
        return name.rpartition(".")[2], self.records[name]

    def packer(self, doubles: int, method: str) -> str:
        name = f"{method}{doubles}"
        self.namespace[name] = getattr(struct.Struct(f"<{doubles}d"), method)
        return name

    def define(self, name: str, lines: list[str], filename: str) -> None:
        # A schema may come from a registry, so its text is used only as literals in generated
        # source: identifiers are fields of the event types and numbered variables.
        exec(compile("\n".join(lines), filename, "exec"), self.namespace)
        self.namespace[name].__module__ = __name__
