"""State of ``ops.control`` at an offset: configuration, parameters, and the universe over time.

Changes take effect in the stream: every watermark contains the end offset of ``ops.control`` at the
time a feed wrote it, and a stage switches at that watermark. Everything that can change a result is
thus a function of ``(log, offset)``, computed here without I/O.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from streams.config.run_parameters import overridden, overrides_of, parameters
from streams.config.settings import Config, UnknownSettings
from streams.errors import Fatal
from streams.records.events import Control, Watermark
from streams.records.kill_switch import kill_switch_problem
from streams.records.value_rules import is_name


class UniverseChange(NamedTuple):
    """The ``value`` of a ``universe`` record: the instruments of a range of epochs.

    ``replace`` (a live feed): for every epoch after ``from_ms`` the universe is ``instruments``.
    ``add`` (a load): for ``from_ms < epoch <= until_ms`` they are added.
    """

    mode: Literal["replace", "add"]
    instruments: tuple[str, ...]
    from_ms: int
    until_ms: int | None

    def to_json(self) -> str:
        """Return the record's ``value``."""
        return json.dumps(self._asdict(), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> UniverseChange:
        """Read a record's ``value``.

        Raises
        ------
        ValueError
            The text is not such an object.
        """
        raw = json.loads(text)
        if not isinstance(raw, dict) or raw.get("mode") not in ("replace", "add"):
            raise ValueError("a universe record needs mode replace or add")
        names, start, end = raw.get("instruments"), raw.get("from_ms"), raw.get("until_ms")
        if not isinstance(names, list) or not all(isinstance(n, str) and n for n in names):
            raise ValueError("a universe record needs instruments, a list of names")
        wrong = next((name for name in names if not is_name(name)), None)
        if wrong is not None:
            raise ValueError(f"the instrument {wrong[:64]!r} is not a name such as EUR_USD")
        if type(start) is not int or not (end is None or type(end) is int):
            raise ValueError("a universe record needs whole numbers from_ms and until_ms")
        if raw["mode"] == "add" and end is None:
            raise ValueError("a universe record of mode add needs until_ms")
        return cls(raw["mode"], tuple(sorted(set(names))), start, end)


class Universe:
    """The instruments an epoch waits for; constant between the instants in the changes."""

    def __init__(self, changes: Sequence[UniverseChange]) -> None:
        self._changes = tuple(changes)
        ends = {c.until_ms for c in changes if c.until_ms is not None}
        self._edges = sorted({c.from_ms for c in changes} | ends)
        self._members: dict[int, tuple[str, ...]] = {}

    def members(self, epoch_ms: int) -> tuple[str, ...]:
        """Return the instruments of the epoch, sorted.

        Cached per interval ``(edge, edge]``, within which the result is constant.
        """
        interval = bisect_left(self._edges, epoch_ms)
        known = self._members.get(interval)
        if known is None:
            known = self._members[interval] = self._fold(epoch_ms)
        return known

    def same(self, epoch_ms: int, later_ms: int) -> bool:
        """Return whether two epochs have no change between them."""
        return bisect_left(self._edges, epoch_ms) == bisect_left(self._edges, later_ms)

    def _fold(self, epoch_ms: int) -> tuple[str, ...]:
        names: dict[str, None] = {}
        for change in self._changes:
            if epoch_ms <= change.from_ms:
                continue
            if change.mode == "replace":
                names = dict.fromkeys(change.instruments)
            elif change.until_ms is not None and epoch_ms <= change.until_ms:
                names.update(dict.fromkeys(change.instruments))
        return tuple(sorted(names))


class ControlState(NamedTuple):
    """``ops.control`` folded up to (not including) ``offset``; no config before the first.

    ``params`` contains the text of the last ``params`` record per instrument.
    """

    offset: int
    config: Config | None
    config_id: str
    universe: Universe
    params: Mapping[str, str]

    def config_of(self, instrument: str) -> Config | None:
        """Return the configuration with the parameters of ``instrument``, None before the first.

        Parameters that are out of bounds under this configuration are ignored.
        """
        if self.config is None or instrument not in self.params:
            return self.config
        return _with_parameters(self.config, self.params[instrument])


class ControlLog:
    """``ops.control`` as read so far; append-only.

    Parameters
    ----------
    lenient
        Whether settings of a newer version are listed in ``refused`` as well: for programs that
        only show what is in the log, and must not end.

    Attributes
    ----------
    refused_watermarks
        (topic, partition, offset) of watermarks that name an offset behind the end of this log as
        it was when a stage met them. That depends on when it was, so it is on record: the stage
        wrote a dead letter, and whoever derives its output again reads it there.
    """

    def __init__(self, *, lenient: bool = False) -> None:
        self._lenient = lenient
        self.refused_watermarks: set[tuple[str, int, int]] = set()
        self._records: list[tuple[int, Control]] = []
        self._end = 0
        self._states: dict[int, ControlState] = {}
        self.refused: list[tuple[int, str]] = []

    @property
    def end(self) -> int:
        """Offset after the last record read."""
        return self._end

    @property
    def records(self) -> Sequence[tuple[int, Control]]:
        """The valid records with their offsets."""
        return self._records

    def append(self, offset: int, record: Control) -> None:
        """Add the record at ``offset`` (ascending).

        A record with an invalid value has no effect, here and in every re-derivation; it is listed
        in ``refused`` with the reason.
        """
        self.advance(offset)
        try:
            problem = control_problem(record)
        except UnknownSettings as error:
            if not self._lenient:
                raise
            problem = str(error)
        if problem:
            self.refused.append((offset, problem))
        else:
            self._records.append((offset, record))
        self._end = offset + 1

    def refuses(self, place: tuple[str, int, int], watermark: Watermark) -> bool:
        """Return whether the stages refuse a watermark for its offset of ``ops.control``.

        Parameters
        ----------
        place
            Topic, partition and offset of the watermark.
        watermark
            The watermark; this log has been read to its end.
        """
        return place in self.refused_watermarks or watermark.control_offset > self._end

    def refuse(self, offset: int, reason: str) -> None:
        """Record that the bytes at ``offset`` are not a control record."""
        self.advance(offset)
        self.refused.append((offset, reason))
        self._end = offset + 1

    def advance(self, end: int) -> None:
        """Record that the log has been read to ``end``, without further valid records."""
        if end < self._end:
            raise Fatal(f"ops.control was read backwards: at {self._end}, got {end}")
        self._end = end

    def state(self, offset: int) -> ControlState:
        """Return the state after the records before ``offset``.

        Raises
        ------
        Fatal
            The log has not been read that far, or is shorter.
        """
        if offset > self._end:
            raise Fatal(
                f"ops.control ends at offset {self._end}, and later records follow it up to "
                f"{offset}: the topic has lost records or was recreated; restore it, or load the "
                "candles again under another TOPIC_PREFIX"
            )
        known = self._states.get(offset)
        if known is None:
            known = self._states[offset] = self._fold(offset)
        return known

    def _fold(self, offset: int) -> ControlState:
        config, changes, params = None, [], {}
        for at, record in self._records:
            if at >= offset:
                break
            match record.kind:
                case "config":
                    config = record
                case "universe":
                    changes.append(UniverseChange.from_json(record.value))
                case "params" if record.instrument:
                    params[record.instrument] = record.value
                case (
                    "kill_switch" | "flatten" | "reconcile" | "pause" | "resume" | "release"
                    | "close" | "order" | "limits_reset"
                ):  # fmt: skip
                    continue  # commands to executors: nothing is derived from them
                case "audit":
                    continue  # audit records have no effect
        universe = Universe(changes)
        if config is None:
            return ControlState(offset, None, "", universe, params)
        made = Config.from_json(config.value)
        return ControlState(offset, made, made.config_id, universe, params)


@lru_cache(maxsize=1024)
def _with_parameters(config: Config, value: str) -> Config:
    try:
        return overridden(config, overrides_of(value))
    except Fatal:
        return config


def best_config(record: Control) -> dict[str, Any]:
    """Return ``opt:best_config`` of a ``params`` record (docs/spec/trading-loop.md 2.1).

    Raises
    ------
    Fatal
        The record's value is not what its kind demands.
    """
    raw = json.loads(record.value)
    overrides = overrides_of(record.value)
    summary = raw.get("summary") if isinstance(raw.get("summary"), dict) else {}
    return {
        "params": {name.upper(): value for name, value in sorted(overrides.items())},
        "env": {name.upper(): str(value) for name, value in sorted(overrides.items())},
        "summary": summary,
        "ts": record.as_of_ms,
        "reason": record.reason,
        "actor": record.actor,
    }


def global_config(record: Control) -> dict[str, Any]:
    """Return the profile's ``opt:best_config:GLOBAL`` of a ``config`` record.

    Raises
    ------
    Fatal
        The record's value is not what its kind demands.
    """
    config = Config.from_json(record.value)
    settings: dict[str, Any] = json.loads(config.to_json())
    return {
        "params": parameters(config),
        "env": {name: str(value) for name, value in settings.items() if value is not None},
        "summary": {},
        "ts": record.as_of_ms,
        "reason": record.reason,
        "actor": record.actor,
        "config_id": config.config_id,
    }


def control_problem(record: Control) -> str | None:
    """Return why a record is invalid and has no effect, None when it is valid.

    Raises
    ------
    UnknownSettings
        Settings of a newer version of this program.
    """
    try:
        if record.kind == "universe":
            UniverseChange.from_json(record.value)
        elif record.kind == "config":
            Config.from_json(record.value)
        elif record.kind == "params":
            if not record.instrument:
                return "params record: it names no instrument"
            overridden(Config(), overrides_of(record.value))
        elif record.kind == "kill_switch":
            return kill_switch_problem(record)
    except UnknownSettings:
        raise  # written by a newer version: skipping it would silently give other results
    except (ValueError, Fatal) as error:
        return f"{record.kind} record: {error}"
    return None


def control_key(record: Control) -> bytes:
    """Return the Kafka key of a control record: kind, kind:instrument or config:<config_id>."""
    if record.kind == "config":
        return f"config:{Config.from_json(record.value).config_id}".encode()
    if record.instrument:
        return f"{record.kind}:{record.instrument}".encode()
    return record.kind.encode()
