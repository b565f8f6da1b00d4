"""Generate ``event -> frame`` functions from record schemas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streams.records.avro.runtime import ENCODER_GLOBALS
from streams.records.avro.schema import (
    Compiler,
    JsonSchema,
    UnsupportedSchema,
    field_runs,
    kind_of,
    python_name,
)


class _Encoder(Compiler):
    def expression(self, schema: Any, value: str) -> str:
        kind = kind_of(schema)
        if kind in ("long", "timestamp-millis"):
            return f"(LG({value}) or L({value}))"
        if kind == "string":
            return f"(TG({value}) or T({value}))"
        if kind == "boolean":
            return f"B[{value}]"
        if kind == "bytes":
            return f"Y({value})"
        if kind == "double":
            return f"D({value})"
        if kind == "optional":
            if kind_of(schema[1]) in ("long", "timestamp-millis"):
                return f"OL({value})"
            if kind_of(schema[1]) == "double":
                return f"OD({value})"
            return f'(b"\\0" if {value} is None else b"\\2" + {self.expression(schema[1], value)})'
        if kind == "array":
            if kind_of(schema["items"]) == "string":
                return f"AT({value})"
            item = self.expression(schema["items"], "x")
            put = item.removesuffix("(x)") if item.startswith("encode_") else f"lambda x: {item}"
            return f"A({value}, {put})"
        return f"{self.record(schema)}({value})"

    def record(self, schema: Any, prefix: str = "") -> str:
        name, record = self.record_of(schema)
        function = f"encode_{name}"
        if function in self.namespace:
            return function
        event_fields = self.types[name]._fields  # type: ignore[attr-defined]
        used = [python_name(f["name"]) for f in record["fields"]]
        if set(used) - set(event_fields):
            raise UnsupportedSchema(
                f"fields of {name} that its event lacks: {set(used) - set(event_fields)}"
            )
        kinds = [kind_of(f["type"]) for f in record["fields"]]
        longs = [n for n, k in zip(used, kinds, strict=True) if k in ("long", "timestamp-millis")]
        doubles = [n for n, k in zip(used, kinds, strict=True) if k == "double"]
        lines = [f"def {function}(_event):", f"    ({', '.join(event_fields)},) = _event"]
        if longs:  # a float equal to an int would be a cache hit; `|` refuses floats
            lines.append(f"    {' | '.join([*longs, '0'])}")
        if doubles:
            lines += [
                f"    _total = {' + '.join(doubles)}",
                f"    if _total - _total != 0.0: F({', '.join(f'({n!r}, {n})' for n in doubles)})",
            ]
        parts = [prefix] if prefix else []
        for run in field_runs(list(zip(used, kinds, record["fields"], strict=True))):
            if run[0][1] == "double":
                pack = self.packer(len(run), "pack")
                parts.append(f"{pack}({', '.join(n for n, _, _ in run)})")
            else:
                parts.append(self.expression(run[0][2]["type"], run[0][0]))
        lines.append(
            f"    return J(({', '.join(parts)},))" if len(parts) > 1 else f"    return {parts[0]}"
        )
        self.define(function, lines, f"<encoder of {name}>")
        return function


def compile_encoder(
    schema: JsonSchema, event_types: dict[str, type], prefix: bytes
) -> Callable[[Any], bytes]:
    """Return ``event -> prefix + Avro body`` for a record schema.

    Parameters
    ----------
    schema
        The writer schema; fields missing in an older version are left out.
    event_types
        Record name -> NamedTuple, including nested records.
    prefix
        First five bytes of the frame.

    Raises
    ------
    UnsupportedSchema
        The schema uses an unsupported type.
    """
    compiler = _Encoder(schema, event_types)
    compiler.namespace.update(ENCODER_GLOBALS, PREFIX=prefix)
    name, _ = compiler.record_of(schema)
    function = f"encode_{name}"
    compiler.record(schema, "PREFIX")
    encode: Callable[[Any], bytes] = compiler.namespace[function]
    return encode
