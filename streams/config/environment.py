"""Settings from the environment: what a setting is, how it is read, checked and listed."""

from __future__ import annotations

import json
import math
import os
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, field, fields
from typing import Any, ClassVar, Self, Union, get_args, get_origin, get_type_hints

from streams.errors import Fatal
from streams.instruments import instrument_name, instrument_names

SECRET_MASK = "***"


def setting(
    default: Any,
    doc: str,
    *,
    unit: str = "",
    names: tuple[str, ...] = (),
    own_name_wins: bool = False,
    bounds: tuple[float, float] | None = None,
    choices: tuple[str, ...] = (),
    secret: bool = False,
    instruments: bool = False,
) -> Any:
    """Return the dataclass field of a setting.

    Parameters
    ----------
    default
        Value used when the environment does not set it, or a function that returns that value.
    doc, unit
        Description and unit shown by ``manifold config show``.
    names
        Alternative environment names.
    own_name_wins
        Whether its own name takes precedence when the alternative names have another value.
    bounds, choices
        Accepted range of numbers, or accepted values.
    secret
        Never shown; ``<NAME>_FILE`` may name a file with it.
    instruments
        Whether the value lists instruments; any spelling is accepted.
    """
    metadata = {
        "doc": doc,
        "unit": unit,
        "names": names,
        "own_name_wins": own_name_wins,
        "bounds": bounds,
        "choices": choices,
        "secret": secret,
        "instruments": instruments,
    }
    if callable(default):
        return field(default_factory=default, metadata=metadata, repr=not secret)
    return field(default=default, metadata=metadata, repr=not secret)


def setting_fields(group: Any) -> list[Field[Any]]:
    """Return the fields of a group, or of an instance of it, that are settings."""
    return [item for item in fields(group) if item.metadata]


def environment_names(item: Field[Any]) -> tuple[str, ...]:
    """Return the environment names of a setting: its own first, then its other names."""
    return (item.name.upper(), *item.metadata["names"])


class FromEnvironment:
    """A group of settings that can be read, checked and listed."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Self:
        """Read the settings of this group.

        Parameters
        ----------
        env
            Environment to read; None for the process environment. An empty value means "not set".

        Raises
        ------
        Fatal
            A value does not parse or is out of bounds, or two names of one setting differ.
        """
        made = cls(**cls.values_in(os.environ if env is None else env))
        made.check()
        return made

    @classmethod
    def values_in(cls, env: Mapping[str, str]) -> dict[str, Any]:
        """Return attribute -> value of the settings that an environment sets, not yet checked.

        Raises
        ------
        Fatal
            A value does not parse, or two names of one setting differ.
        """
        hints = get_type_hints(cls)
        values: dict[str, Any] = {}
        for item in setting_fields(cls):
            found = _lookup(item, env)
            if found is not None:
                name, text = found
                value = _parse(name, text, hints[item.name])
                if item.metadata["instruments"]:
                    value = instrument_names(value)
                values[item.name] = value
        return values

    @classmethod
    def setting_of(cls, name: str) -> str | None:
        """Return the attribute of an environment name, None when it is not a setting."""
        for item in setting_fields(cls):
            if name in environment_names(item):
                return item.name
        return None

    def check(self) -> None:
        """Raise Fatal for the first value outside its bounds or choices."""
        for item in setting_fields(self):
            value, meta = getattr(self, item.name), item.metadata
            name = item.name.upper()
            if isinstance(value, float) and not math.isfinite(value):
                raise Fatal(f"{name}={value} is not a finite number; set a plain decimal number")
            if meta["bounds"] and value is not None:
                low, high = meta["bounds"]
                if not low <= value <= high:
                    bounds = f"{low:g}..{high:g} {meta['unit']}".rstrip()
                    raise Fatal(f"{name}={value} is outside {bounds}; set a value in this range")
            if meta["choices"] and value not in meta["choices"]:
                raise Fatal(f"{name}={value!r} is not one of {', '.join(meta['choices'])}")

    def table(self) -> list[dict[str, Any]]:
        """Return one row per setting: names, value, default, unit, doc; secrets are masked."""
        rows = []
        for item in setting_fields(self):
            value = getattr(self, item.name)
            default = item.default if item.default is not MISSING else "(computed)"
            rows.append(
                {
                    "name": item.name.upper(),
                    "other_names": list(item.metadata["names"]),
                    "value": SECRET_MASK if item.metadata["secret"] and value else value,
                    "default": default,
                    "unit": item.metadata["unit"],
                    "doc": item.metadata["doc"],
                }
            )
        return rows


def setting_text(value: Any) -> str:
    """Return a setting's value as environment text; empty when it is unset."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if not isinstance(value, tuple):
        return str(value)
    if value and isinstance(value[0], tuple):
        return json.dumps(dict(value), separators=(",", ":"))
    return ",".join(map(str, value))


def _lookup(item: Field[Any], env: Mapping[str, str]) -> tuple[str, str] | None:
    names = environment_names(item)
    found = [(name, env[name].strip()) for name in names if env.get(name, "").strip()]
    file_name = f"{item.name.upper()}_FILE"
    if item.metadata["secret"] and env.get(file_name, "").strip():
        found.append((file_name, _secret_from_file(file_name, env[file_name].strip())))
    if not found:
        return None
    if item.metadata["own_name_wins"]:
        return found[0]
    if len({text for _, text in found}) > 1:
        said = " and ".join(name for name, _ in found)
        raise Fatal(f"{said} name the same setting and differ; set one of them")
    return found[0]


def _secret_from_file(name: str, path: str) -> str:
    try:
        with open(path, encoding="utf-8") as handle:
            return handle.read().strip()
    except OSError as error:
        raise Fatal(f"{name}: cannot read {path}: {error.strerror}") from error


_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}


def _parse(name: str, text: str, hint: Any) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        hint = next(arg for arg in get_args(hint) if arg is not type(None))
    if hint is bool:
        if text.lower() in _TRUE | _FALSE:
            return text.lower() in _TRUE
        raise Fatal(f"{name}={text!r} is not a flag; use 1 or 0")
    if get_origin(hint) is tuple:
        of = get_args(hint)[0]
        return (
            _names(text) if of is str else _numbers(name, text) if of is int else _pairs(name, text)
        )
    parse: Callable[[str], Any] = hint
    try:
        if hint is not str and ("_" in text or not text.isascii()):
            raise ValueError(text)  # Python would also accept 1_000 and digits of other scripts
        return parse(text)
    except ValueError as error:
        kind = {int: "a whole number", float: "a number"}.get(hint, hint.__name__)
        raise Fatal(f"{name}={text!r} is not {kind}") from error


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip().upper() for part in text.split(",") if part.strip()))


def _numbers(name: str, text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise Fatal(f"{name}={text!r} is not a list of whole numbers such as 14,30,60")
    return tuple(int(part) for part in parts)


def _pairs(name: str, text: str) -> tuple[tuple[str, float], ...]:
    try:
        raw = json.loads(text)
        found = {instrument_name(str(pair)): float(value) for pair, value in raw.items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise Fatal(f'{name} is not JSON of the form {{"EUR_USD": 0.12}}: {text!r}') from error
    if len(found) < len(raw):
        raise Fatal(f"{name} names an instrument twice: {text!r}")
    pairs = tuple(sorted(found.items()))
    if not all(math.isfinite(value) for _, value in pairs):
        raise Fatal(f"{name} has a value that is not a finite number: {text!r}")
    return pairs


def read_env_file(path: str) -> dict[str, str]:
    """Read ``NAME=value`` lines (``#`` starts a comment line, quotes around a value are dropped).

    Raises
    ------
    Fatal
        The file cannot be read, or a line is not of that form; the message names the line.
    """
    try:
        with open(path, encoding="utf-8") as handle:
            lines = handle.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Fatal(f"cannot read the settings file {path}: {error}") from error
    values: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        text = line.strip().removeprefix("export ").strip()
        if not text or text.startswith("#"):
            continue
        name, found, value = text.partition("=")
        if not found or not name.strip().replace("_", "").isalnum():
            raise Fatal(f"{path}:{number}: not NAME=value: {line.strip()[:60]!r}")
        values[name.strip()] = value.strip().strip("'\"")
    return values
