"""Generate ``frame -> event`` functions from the writer's and the reader's schema."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import fastavro
import fastavro.read
import fastavro.schema

from streams.records.avro.runtime import DECODER_GLOBALS, MILLIS_BYTES, Malformed, check_end
from streams.records.avro.schema import (
    Compiler,
    JsonSchema,
    UnsupportedSchema,
    field_runs,
    kind_of,
    python_name,
    shape_of,
)


class _Decoder(Compiler):
    """Generates statements; ``p`` is the position, values are numbered variables."""

    def __init__(
        self, writer: JsonSchema, reader: JsonSchema, event_types: dict[str, type]
    ) -> None:
        super().__init__(writer, event_types)
        self.reader = Compiler(reader, event_types)
        self.lines: list[str] = []
        self.variables = 0
        self.field = ""
        self.open_records: list[str] = []

    def emit(self, depth: int, *lines: str) -> None:
        self.lines += ["    " * depth + line for line in lines]

    def variable(self) -> str:
        self.variables += 1
        return f"v{self.variables}"

    def read(self, schema: Any, depth: int) -> str:
        kind = kind_of(schema)
        reader = getattr(self, f"read_{kind.replace('timestamp-', '')}", None)
        value: str = self.read_record(schema, depth) if reader is None else reader(schema, depth)
        return value

    def read_long(self, _: Any, depth: int) -> str:
        v = self.variable()
        self.emit(
            depth,
            f"{v} = b[p]",
            f"if {v} < 128: {v} = SMALL[{v}]; p += 1",
            f"else: {v}, p = long(b, p)",
        )
        return v

    def read_millis(self, _: Any, depth: int) -> str:
        v = self.variable()
        self.emit(
            depth,
            f"{v} = MG(b[p:p + {MILLIS_BYTES}])",
            f"if {v} is None: {v}, p = millis(b, p)",
            f"else: p += {MILLIS_BYTES}",
        )
        return v

    def read_raw(self, depth: int) -> str:
        v = self.variable()
        self.emit(
            depth,
            "n = b[p]",
            "if n & 129: n, p = length(b, p)",
            "else: n >>= 1; p += 1",
            f"{v} = b[p:p + n]; p += n",
        )
        return v

    def read_string(self, _: Any, depth: int) -> str:
        raw = self.read_raw(depth)
        v = self.variable()
        self.emit(depth, f"{v} = TG({raw})", f"if {v} is None: {v} = text({raw}, n)")
        return v

    def read_bytes(self, _: Any, depth: int) -> str:
        return self.read_raw(depth)

    def read_boolean(self, _: Any, depth: int) -> str:
        v = self.variable()
        self.emit(
            depth, f"{v} = b[p]", f"if {v} > 1: bad('a boolean', {v}, p)", f"{v} = {v} == 1; p += 1"
        )
        return v

    def read_doubles(self, names: list[str], depth: int) -> list[str]:
        values = [self.variable() for _ in names]
        unpack = self.packer(len(names), "unpack_from")
        shown = ", ".join(f"({n!r}, {v})" for n, v in zip(names, values, strict=True))
        self.emit(
            depth,
            f"({', '.join(values)},) = {unpack}(b, p); p += {8 * len(names)}",
            f"total = {' + '.join(values)}",
            f"if total - total != 0.0: doubles({shown})",
        )
        return values

    def read_double(self, _: Any, depth: int) -> str:
        return self.read_doubles([self.field], depth)[0]

    def read_optional(self, schema: Any, depth: int) -> str:
        v = self.variable()
        self.emit(depth, "n = b[p]; p += 1", f"if n == 0: {v} = None", "elif n == 2:")
        inner = self.read(schema[1], depth + 1)
        self.emit(depth + 1, f"{v} = {inner}")
        self.emit(depth, "else: bad('the branch of a union', n, p)")
        return v

    def read_array(self, schema: Any, depth: int) -> str:
        v, left = self.variable(), self.variable()
        self.emit(depth, f"{v} = []", f"{left}, p = count(b, p)", f"while {left}:")
        self.emit(depth + 1, f"for _ in range({left}):")
        item = self.read(schema["items"], depth + 2)
        self.emit(depth + 2, f"{v}.append({item})")
        self.emit(depth + 1, f"{left}, p = count(b, p)")
        self.emit(depth, f"{v} = tuple({v})")
        return v

    def read_record(self, schema: Any, depth: int) -> str:
        name, record = self.record_of(schema)
        if name in self.open_records:
            raise UnsupportedSchema(f"{name} contains itself")
        self.open_records.append(name)
        values: dict[str, str] = {}
        for run in field_runs([(f["name"], kind_of(f["type"]), f) for f in record["fields"]]):
            if run[0][1] == "double":
                names = [n for n, _, _ in run]
                values.update(zip(names, self.read_doubles(names, depth), strict=True))
            else:
                self.field = run[0][0]
                values[run[0][0]] = self.read(run[0][2]["type"], depth)
        self.open_records.pop()
        v = self.variable()
        arguments = ", ".join(self.arguments(name, values, record))
        self.namespace[name] = self.types[name]
        self.emit(depth, f"{v} = new({name}, ({arguments},))")
        return v

    def arguments(self, name: str, values: dict[str, str], writer: JsonSchema) -> list[str]:
        """Return the event's fields in order: the written value, or the reader's default."""
        _, reader = self.reader.record_of(f"manifold.{name}")
        written = {f["name"]: f["type"] for f in writer["fields"]}
        by_python_name = {python_name(f["name"]): f for f in reader["fields"]}
        out = []
        for field_name in self.types[name]._fields:  # type: ignore[attr-defined]
            field = by_python_name[field_name]
            if field["name"] in values:
                if shape_of(written[field["name"]]) != shape_of(field["type"]):
                    raise UnsupportedSchema(f"the type of {name}.{field['name']} changed")
                out.append(values[field["name"]])
            elif isinstance(field.get("default", ...), str | int | float | bool | None):
                out.append(repr(field["default"]))
            elif field["default"] == []:
                out.append("()")
            else:
                raise UnsupportedSchema(f"{name}.{field['name']} has no plain default")
        return out


def compile_decoder(
    writer: JsonSchema, reader: JsonSchema, event_types: dict[str, type], start: int
) -> Callable[[bytes], Any]:
    """Return ``frame -> event`` for a record written with ``writer`` and read with ``reader``.

    Parameters
    ----------
    writer, reader
        Record schemas of the same name. Fields missing in the writer get the reader's default,
        fields missing in the reader are skipped.
    event_types
        Record name -> NamedTuple, including nested records.
    start
        Length of the frame's prefix in bytes, which the caller has checked.

    Returns
    -------
    Callable
        Raises `Malformed`, or IndexError or struct.error for a truncated body.

    Raises
    ------
    UnsupportedSchema
        The two differ in more than defaults, or use unsupported types.
    """
    compiler = _Decoder(writer, reader, event_types)
    compiler.namespace.update(DECODER_GLOBALS)
    compiler.emit(0, "def decode(b):")
    compiler.emit(1, f"p = {start}")
    event = compiler.read(writer, 1)
    compiler.emit(1, "if p != len(b): end(p, len(b))", f"return {event}")
    compiler.define("decode", compiler.lines, f"<decoder of {writer['name']}>")
    decode: Callable[[bytes], Any] = compiler.namespace["decode"]
    return decode


def compile_with_fastavro(
    writer: JsonSchema, reader: JsonSchema, event_types: dict[str, type], start: int
) -> Callable[[bytes], Any]:
    """Return a decoder that uses fastavro, for writer schemas that `compile_decoder` refuses.

    The value resolved by fastavro is encoded with ``reader`` and decoded strictly, so that the same
    checks apply.
    """
    read_back = compile_decoder(reader, reader, event_types, 0)
    try:
        parsed_writer, parsed_reader = fastavro.parse_schema(writer), fastavro.parse_schema(reader)
    except (fastavro.schema.SchemaParseException, KeyError, TypeError, ValueError) as error:
        problem = f"its schema cannot be used: {error}"

        def refuse(_: bytes) -> Any:
            raise Malformed("invalid_value", problem)

        return refuse

    def decode(frame: bytes) -> Any:
        source, target = io.BytesIO(frame[start:]), io.BytesIO()
        try:
            # decode without the reader first: fastavro does not check the length of skipped fields
            fastavro.schemaless_reader(source, parsed_writer)
            check_end(start + source.tell(), len(frame))
            source.seek(0)
            value = fastavro.schemaless_reader(source, parsed_writer, parsed_reader)
            fastavro.schemaless_writer(target, parsed_reader, value, strict=True)
        except EOFError:
            raise Malformed("truncated", "the record ends too early") from None
        except (
            fastavro.read.SchemaResolutionError,
            ArithmeticError,
            LookupError,
            TypeError,
            ValueError,
        ) as error:
            raise Malformed("invalid_value", f"the record cannot be read: {error}") from error
        return read_back(target.getvalue())

    return decode
