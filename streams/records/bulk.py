"""Bulk encoding and decoding of frames of one record type, from and to columns.

Encoded frames equal those of the codec byte for byte. Decoding is a fast path: frames that do not
certainly match, or with values that ``streams.records.validation`` may refuse, are marked, and the
codec decides about them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.core.columns import address_of
from streams.core.layout import FIELD_DTYPE
from streams.core.loader import core
from streams.errors import Fatal
from streams.instants import GRANULARITY_MS, HOUR_MS
from streams.records import schemas
from streams.records.avro.runtime import ENCODER_GLOBALS
from streams.records.avro.schema import (
    JsonSchema,
    UnsupportedSchema,
    kind_of,
    named_records,
    python_name,
)
from streams.records.value_rules import (
    Rule,
    compiled,
    field_rules,
    fields_in,
    kind_named,
    record_of,
    relations_of,
)

_LITERAL, _TEXT, _NUMBER, _REAL, _BOOLEAN, _OPTIONAL, _ARRAY = range(7)
_NUMBERS: Final = ("long", "timestamp-millis")
_PUT_LONG: Final[Callable[[int], bytes]] = ENCODER_GLOBALS["L"]
_PUT_TEXT: Final[Callable[[str], bytes]] = ENCODER_GLOBALS["T"]
_KNOWN_TEXT: Final[Callable[[str], bytes | None]] = ENCODER_GLOBALS["TG"]
_PUT_DOUBLE: Final[Callable[[float], bytes]] = ENCODER_GLOBALS["D"]


class Words(NamedTuple):
    """A dictionary-encoded text column: distinct texts, and an index for each record."""

    texts: Sequence[str]
    places: NDArray[np.int64]


Column = NDArray[Any] | Words | str | float | bool | None
"""An array with one element per record (or item), or one value for all."""


class _Program:
    """Steps of a program, and the buffers they point to, which must live as long."""

    def __init__(self) -> None:
        self.steps: list[list[float]] = []
        self._held: list[Any] = []

    def add(self, kind: int, column: NDArray[Any] | None = None) -> int:
        step: list[float] = [kind, 0, 0, 0, 0, 0, -np.inf, np.inf]
        if column is not None:
            self._held.append(column)
            step[2:4] = address_of(column), column.strides[0]
        self.steps.append(step)
        return len(self.steps) - 1

    def words(self, step: int, data: bytes, ends: Sequence[int]) -> None:
        words = np.frombuffer(data or b"\0", np.uint8)
        borders = np.array(ends, np.int64)
        self._held += [words, borders]
        self.steps[step][4:6] = address_of(words), address_of(borders)

    def literal(self, data: bytes) -> None:
        last = self._held[-1] if self.steps and self.steps[-1][0] == _LITERAL else None
        if isinstance(last, bytes):
            data = last + data
            self.steps.pop()
        step = self.add(_LITERAL)
        self.words(step, data, [len(data)])
        self._held.append(data)

    def limit(self, step: int, rule: Rule) -> None:
        """Read only what lies within the bounds of a rule."""
        self.steps[step][6:] = rule.low, rule.high

    def close(self, step: int) -> None:
        """End the body of an optional or an array; literals are not merged across it."""
        self.steps[step][1] = len(self.steps)
        self._held.append(None)

    def fields(self) -> NDArray[Any]:
        return np.array([tuple(step) for step in self.steps], FIELD_DTYPE)


class BulkRecords:
    """Encodes and decodes frames of a record with its newest schema.

    Parameters
    ----------
    record
        Name of the record in ``schemas/``.
    schema_id
        Id of its newest schema.

    Raises
    ------
    Fatal
        The core cannot be loaded.
    """

    def __init__(self, record: str, schema_id: int) -> None:
        self._schema = schemas.newest(record)
        self._records = named_records(self._schema)
        self._kind = kind_named(record)
        self._prefix = b"\0" + schema_id.to_bytes(4, "big")
        self._handle = core().make_records()
        if not self._handle:
            raise Fatal(f"there is no memory for {record} in bulk")
        self._handle.__python_owns__ = True
        self._handle.expect(address_of(np.frombuffer(self._prefix, np.uint8)))

    def write(self, columns: Mapping[str, Column], n: int) -> list[bytes]:
        """Encode ``n`` records.

        Parameters
        ----------
        columns
            Path -> column. The path of a field of a nested record has dots (``candle.mid.open``).
            For an optional, ``PATH?`` is a bool array that marks where it is present; without it,
            the optional is present everywhere, or nowhere if the path itself maps to None. For an
            array, ``PATH#`` is the number of items of each record, and columns inside have one
            element per item. Number columns are int64 or float64, boolean columns bool.

        Raises
        ------
        KeyError
            A field has no column.
        """
        program = _Program()
        program.literal(self._prefix)
        self._record(program, self._schema, "", columns)
        fields = program.fields()
        ends = np.empty(n, np.int64)
        self._handle.write(address_of(fields), len(fields), n, address_of(ends))
        borders = [0, *ends.tolist()]
        data = ctypes.string_at(int(self._handle.written()), borders[-1])
        return [data[start:end] for start, end in pairwise(borders)]

    def _record(
        self, program: _Program, schema: JsonSchema, path: str, columns: Mapping[str, Column]
    ) -> None:
        for field in schema["fields"]:
            self._value(program, field["type"], path + field["name"], columns)

    def _value(
        self, program: _Program, schema: Any, path: str, columns: Mapping[str, Column]
    ) -> None:
        kind = kind_of(schema)
        if kind == "optional":
            self._optional(program, schema[1], path, columns)
        elif kind == "array":
            counts = np.asarray(columns[path + "#"])
            step = program.add(_ARRAY, np.cumsum(counts, dtype=np.int64))
            self._value(program, schema["items"], path, columns)
            program.close(step)
        elif kind in ("long", "timestamp-millis", "double", "boolean", "string"):
            _scalar(program, kind, columns[path])
        else:
            self._record(program, self._named(schema), path + ".", columns)

    def _optional(
        self, program: _Program, schema: Any, path: str, columns: Mapping[str, Column]
    ) -> None:
        there = columns.get(path + "?")
        if there is None and path in columns and columns[path] is None:
            program.literal(b"\0")
        elif there is None:
            program.literal(b"\2")
            self._value(program, schema, path, columns)
        else:
            step = program.add(_OPTIONAL, np.asarray(there, np.bool_).view(np.uint8))
            self._value(program, schema, path, columns)
            program.close(step)

    def _named(self, schema: Any) -> JsonSchema:
        if isinstance(schema, dict):
            return schema
        name = str(schema)
        return self._records[name if "." in name else f"manifold.{name}"]

    def read(
        self, values: Sequence[bytes | None], wanted: Mapping[str, NDArray[Any]]
    ) -> tuple[NDArray[np.bool_], list[bytes]]:
        """Decode frames into columns; return a mask of the decoded frames, and the distinct texts.

        Parameters
        ----------
        values
            The frames.
        wanted
            Path, as in ``write`` but not inside arrays, -> output column: int64 for integers and
            text indices, float64, bool. Elements of absent optionals are not changed.
        """
        columns = self._checked_columns(len(values)) | dict(wanted)
        program = _Program()
        self._reading(program, self._schema, "", columns, record_of(self._kind))
        fields = program.fields()
        data = b"".join([value or b"" for value in values])
        ends = np.cumsum([len(value or b"") for value in values], dtype=np.int64)
        plain = np.empty(len(values), np.bool_)
        held = np.frombuffer(data or b"\0", np.uint8)
        self._handle.read(
            *(address_of(fields), len(fields), address_of(held), address_of(ends)),
            *(len(values), address_of(plain)),
        )
        words = [
            ctypes.string_at(int(self._handle.word_address(at)), int(self._handle.word_length(at)))
            for at in range(int(self._handle.words()))
        ]
        return plain & self._admitted(columns, words), words

    def _checked_columns(self, n: int) -> dict[str, NDArray[Any]]:
        """Return a column for every field that is more than bounded, or is in a relation."""
        fields = field_rules(self._kind)
        named = {name for test, _ in relations_of(self._kind) for name in fields_in(test)}
        named |= {name for name, rule in fields.items() if not rule.bounded}
        return {name: np.zeros(n, np.int64) for name in sorted(named & fields.keys())}

    def _admitted(self, columns: Mapping[str, NDArray[Any]], words: Sequence[bytes]) -> Any:
        """Return which frames fulfil the rules that are no bounds, and the relations."""
        texts = [word.decode() for word in words] or [""]
        admitted: Any = np.True_
        for name, rule in field_rules(self._kind).items():
            if not rule.bounded:
                valid = compiled(rule)
                admitted = admitted & np.array([valid(text) for text in texts])[columns[name]]
        lengths = np.array([GRANULARITY_MS.get(text, -1) for text in texts], np.int64)
        names = {"GRANULARITY_MS": lengths, "HOUR_MS": HOUR_MS, "min": np.minimum}
        for test, _ in relations_of(self._kind):
            admitted = admitted & eval(test, names, dict(columns))
        return admitted

    def _reading(
        self,
        program: _Program,
        schema: Any,
        path: str,
        wanted: Mapping[str, NDArray[Any]],
        rule: Rule,
    ) -> None:
        kind = kind_of(schema)
        if kind == "optional":
            step = program.add(_OPTIONAL, wanted.get(path + "?"))
            self._reading(program, schema[1], path, wanted, rule)
            program.close(step)
        elif kind == "array":
            step = program.add(_ARRAY)
            program.limit(step, rule)
            assert rule.item is not None
            self._reading(program, schema["items"], path + "#", wanted, rule.item)
            program.close(step)
        elif kind in _SCALARS:
            if not rule.bounded and path not in wanted:
                raise UnsupportedSchema(f"{path} is checked by more than bounds")
            program.limit(program.add(_SCALARS[kind], wanted.get(path)), rule)
        else:
            record = rule.fields
            if record is None or (path and relations_of(record)):
                raise UnsupportedSchema(f"{path} is checked by more than bounds")
            rules = field_rules(record)
            for field in self._named(schema)["fields"]:
                inner = f"{path}.{field['name']}" if path else field["name"]
                self._reading(
                    program, field["type"], inner, wanted, rules[python_name(field["name"])]
                )


_SCALARS: Final = {
    "long": _NUMBER,
    "timestamp-millis": _NUMBER,
    "double": _REAL,
    "boolean": _BOOLEAN,
    "string": _TEXT,
}


def _scalar(program: _Program, kind: str, column: Column) -> None:
    if isinstance(column, Words):
        encoded = [_KNOWN_TEXT(text) or _PUT_TEXT(text) for text in column.texts]
        step = program.add(_TEXT, np.asarray(column.places, np.int64))
        program.words(step, b"".join(encoded), np.cumsum([len(one) for one in encoded]).tolist())
    elif isinstance(column, np.ndarray):
        dtype = {"boolean": np.bool_, "double": np.float64}.get(kind, np.int64)
        program.add(_SCALARS[kind], np.asarray(column, dtype))
    elif isinstance(column, str):
        program.literal(_PUT_TEXT(column))
    elif kind == "boolean":
        program.literal(b"\1" if column else b"\0")
    elif kind == "double" and column is not None:
        program.literal(_PUT_DOUBLE(column))
    elif kind in _NUMBERS and isinstance(column, int):
        program.literal(_PUT_LONG(column))
    else:
        raise UnsupportedSchema(f"a column {column!r} for a {kind}")
