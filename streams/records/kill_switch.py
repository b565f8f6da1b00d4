"""State of the kill switch: a pure fold of the records in ``ops.control``.

The last record wins, with two exceptions that both lead to the safe state. An invalid record
engages. An "off" may contain the offset up to which its author had read the log; it does not clear
an "on" after that offset, so an "off" that was sent before an "on" and arrives late has no effect.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from streams.records.events import Control

KIND: Final = "kill_switch"
NO_RECORD = "no kill switch record in ops.control"
OTHER_KINDS = (
    b"universe", b"config", b"params", b"reconcile", b"resume", b"limits_reset", b"audit",
)  # fmt: skip


class KillSwitchCommand(NamedTuple):
    """The ``value`` of a ``kill_switch`` record.

    Attributes
    ----------
    engaged
        The requested state.
    read_to
        Only in an "off" of this program: the offset up to which its author had read
        ``ops.control``. None clears every earlier record.
    """

    engaged: bool
    read_to: int | None = None

    def to_json(self) -> str:
        """Return the record's ``value``."""
        said: dict[str, Any] = {"engaged": self.engaged}
        if self.read_to is not None:
            said["read_to"] = self.read_to
        return json.dumps(said, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> KillSwitchCommand:
        """Read a record's ``value``.

        Raises
        ------
        ValueError
            The text is not such an object, or has fields unknown to this version.
        """
        try:
            said = json.loads(text, object_pairs_hook=_once_each)
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
        if not isinstance(said, dict) or type(said.get("engaged")) is not bool:
            raise ValueError('it needs "engaged", true or false')
        unknown = sorted(said.keys() - {"engaged", "read_to"})
        if unknown:
            raise ValueError(f"it has fields this version does not know: {', '.join(unknown)}")
        read_to = said.get("read_to")
        if "read_to" in said and (type(read_to) is not int or read_to < 0 or said["engaged"]):
            raise ValueError('"read_to" is an offset and only allowed in an off')
        return cls(said["engaged"], read_to)


class Unreadable(NamedTuple):
    """A record in ``ops.control`` that is not a valid control record.

    Attributes
    ----------
    key
        The record's key, which may still identify its kind.
    detail
        Description of the problem.
    as_of_ms
        Time stamp of the record, epoch ms.
    kind
        Its kind, where it could be decoded and only its values are invalid; "" otherwise.
    """

    key: bytes | None
    detail: str
    as_of_ms: int
    kind: str = ""


class KillSwitch(NamedTuple):
    """State of the kill switch according to the log.

    Attributes
    ----------
    engaged
        Whether opening and increasing positions is forbidden.
    why
        All reasons why it is engaged; empty when it is off.
    since_ms
        Time stamp of the record since which the state has held; None without a record.
    actor, reason
        Actor and reason of the last effective record.
    offset
        Offset of that record; None without one.
    """

    engaged: bool = True
    why: tuple[str, ...] = (NO_RECORD,)
    since_ms: int | None = None
    actor: str = ""
    reason: str = ""
    offset: int | None = None


def kill_switch_problem(record: Control) -> str | None:
    """Return why a ``kill_switch`` record is invalid; None when it is valid."""
    if record.instrument is not None:
        return (
            f"kill_switch record: it names {record.instrument}, but the switch is for all "
            "instruments"
        )
    try:
        KillSwitchCommand.from_json(record.value)
    except ValueError as error:
        return f"kill_switch record: {error}"
    return None


def fold_kill_switch(records: Iterable[tuple[int, Control | Unreadable]]) -> KillSwitch:
    """Fold the records of ``ops.control``, in the order of their offsets.

    Parameters
    ----------
    records
        (offset, record); kinds other than ``kill_switch`` have no effect.
    """
    switch = KillSwitch()
    for offset, record in records:
        switch = after(switch, offset, record)
    return switch


def after(switch: KillSwitch, offset: int, record: Control | Unreadable) -> KillSwitch:
    """Return the state after one more record.

    Bytes that cannot be decoded engage, unless their key is of another kind: they may have been an
    operator's command. A record with invalid values engages when it is of this kind.
    """
    if isinstance(record, Unreadable):
        if record.kind and record.kind != KIND:
            return switch
        if not record.kind and record.key is not None and _named(record.key) in OTHER_KINDS:
            return switch
        why = f"ops.control: the record at offset {offset} cannot be read ({record.detail})"
        return _said(switch, offset, record.as_of_ms, (why,), "", record.detail)
    if record.kind != KIND:
        return switch
    problem = kill_switch_problem(record)
    if problem is not None:
        why = (
            f"ops.control: the record at offset {offset} by {record.actor} is malformed ({problem})"
        )
        return _said(switch, offset, record.as_of_ms, (why,), record.actor, record.reason)
    word = KillSwitchCommand.from_json(record.value)
    if word.engaged:
        why = f"ops.control: engaged by {record.actor}: {record.reason}"
        return _said(switch, offset, record.as_of_ms, (why,), record.actor, record.reason)
    if _came_first(switch, word):
        late = f"the off at offset {offset} by {record.actor} was sent before its author read that"
        return switch._replace(why=(switch.why[0], f"{late}: repeat it"))
    return _said(switch, offset, record.as_of_ms, (), record.actor, record.reason)


def _named(key: bytes) -> bytes:
    return key.split(b":")[0]


def _came_first(switch: KillSwitch, off: KillSwitchCommand) -> bool:
    engaged_at = switch.offset if switch.engaged else None
    return off.read_to is not None and engaged_at is not None and engaged_at >= off.read_to


def _said(
    switch: KillSwitch, offset: int, at_ms: int, why: tuple[str, ...], actor: str, reason: str
) -> KillSwitch:
    engaged = bool(why)
    goes_on = switch.since_ms is not None and switch.engaged == engaged
    return KillSwitch(engaged, why, switch.since_ms if goes_on else at_ms, actor, reason, offset)


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        raise ValueError("it names a field twice")
    return dict(pairs)
