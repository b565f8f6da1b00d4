"""An operator's commands to the executor of one account: records of ``ops.control``. Pure.

An executor carries out the commands in the log, so it does not matter which one reads a command, or
when. ``close`` and ``release`` apply to positions whose opening order precedes the record, not to
later ones. ``pause`` applies until ``resume``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, get_args

from streams.instants import clock
from streams.records.events import Control
from streams.records.log_record import InvalidRecord
from streams.trading.order_log import last_offsets, offsets_of

InstrumentCommand = Literal["pause", "resume", "release", "close"]
Limit = Literal["drawdown"]

INSTRUMENT_COMMANDS: Final[tuple[InstrumentCommand, ...]] = get_args(InstrumentCommand)
LIMITS: Final[tuple[Limit, ...]] = get_args(Limit)
RESET: Final = "limits_reset"
ORDER_LOG: Final = "order_log"
"""Name of the reset that confirms the comparison of the order log with the broker."""


class Given(NamedTuple):
    """A command: its offset in ``ops.control``, actor, reason and time."""

    offset: int
    actor: str
    reason: str
    at_ms: int

    @property
    def words(self) -> str:
        """Actor and reason as text."""
        return f"by {self.actor}: {self.reason}"


class Commands(NamedTuple):
    """The effective commands of one account, by instrument; the last one of each kind.

    Attributes
    ----------
    resets
        The drawdown resets, in the order of ``ops.control``.
    checked
        Partition of the order log -> last offset up to which an operator has compared invalid
        records with the broker.
    """

    paused: Mapping[str, Given]
    released: Mapping[str, Given]
    closed: Mapping[str, Given]
    resets: tuple[Given, ...]
    checked: Mapping[str, int] = MappingProxyType({})

    def releases(self, instrument: str, control_offset: int) -> Given | None:
        """Return the command that releases positions opened under ``control_offset``."""
        return _about(self.released, instrument, control_offset)

    def closes(self, instrument: str, control_offset: int) -> Given | None:
        """Return the command that closes positions opened under ``control_offset``."""
        return _about(self.closed, instrument, control_offset)

    def not_carried_out(self, instrument: str, control_offset: int) -> str:
        """Return the command about a position opened under ``control_offset``, as text.

        Empty when there is none. A released position is not closed.
        """
        released = self.releases(instrument, control_offset)
        given = released or self.closes(instrument, control_offset)
        if given is None:
            return ""
        kind = "close" if released is None else "release"
        return f"{kind} of {clock(given.at_ms)} UTC {given.words}: not carried out yet"

    @property
    def last_close(self) -> int:
        """Offset of the last close command; -1 without any."""
        return max((given.offset for given in self.closed.values()), default=-1)


NO_COMMANDS: Final = Commands({}, {}, {}, ())


def _about(given: Mapping[str, Given], instrument: str, control_offset: int) -> Given | None:
    found = given.get(instrument)
    return found if found is not None and control_offset <= found.offset else None


def instrument_command(
    kind: InstrumentCommand,
    instrument: str,
    account_id: str,
    actor: str,
    reason: str,
    now_ms: int,
) -> Control:
    """Return the record of a command about one instrument to an account's executor."""
    return Control(kind, instrument, _value(account_id=account_id), actor, reason, now_ms)


def limits_reset(limit: Limit, account_id: str, actor: str, reason: str, now_ms: int) -> Control:
    """Return the record that resets a limit, which is then measured from the current value on."""
    value = _value(account_id=account_id, limit=limit)
    return Control(RESET, None, value, actor, reason, now_ms)


def order_log_checked(
    invalid: Sequence[InvalidRecord], account_id: str, actor: str, reason: str, now_ms: int
) -> Control:
    """Return the record that confirms these invalid records, so that opening is allowed again."""
    value = _value(account_id=account_id, limit=ORDER_LOG, records=last_offsets(invalid))
    return Control(RESET, None, value, actor, reason, now_ms)


def command_problem(record: Control) -> str | None:
    """Return what is wrong with a command; None when it is valid, or not such a command."""
    about_instrument = record.kind in INSTRUMENT_COMMANDS
    if not about_instrument and record.kind != RESET:
        return None
    if about_instrument and not record.instrument:
        return f"{record.kind} record: it names no instrument"
    names = {"account_id"} if about_instrument else {"account_id", "limit"}
    try:
        said = json.loads(record.value)
    except ValueError:
        return f"{record.kind} record: its value is not JSON"
    if record.kind == RESET and isinstance(said, dict) and said.get("limit") == ORDER_LOG:
        names |= {"records"}
    given = isinstance(said, dict) and said.keys() == names
    if not given or not all(isinstance(text, str) and text for text in said.values()):
        return f"{record.kind} record: it needs {' and '.join(sorted(names))}, and nothing else"
    if "records" in names:
        try:
            offsets_of(said["records"])
        except ValueError as error:
            return f"{record.kind} record: {error}"
    elif record.kind == RESET and said["limit"] not in LIMITS:
        return f"{record.kind} record: no limit is called {said['limit']!r}"
    return None


def command_account(record: Control) -> str | None:
    """Return the account of a command; None when it is not a valid command."""
    if record.kind not in (*INSTRUMENT_COMMANDS, RESET) or command_problem(record):
        return None
    return str(json.loads(record.value)["account_id"])


def accounts_of(records: Iterable[tuple[int, Control]]) -> list[str]:
    """Return the accounts that received commands about instruments, sorted."""
    commands = (record for _, record in records if record.kind in INSTRUMENT_COMMANDS)
    return sorted({a for one in commands if (a := command_account(one)) is not None})


def resets_a_limit(record: Control, account_id: str) -> bool:
    """Return whether a record resets a limit of an account."""
    return record.kind == RESET and command_account(record) == account_id


def commands_of(records: Iterable[tuple[int, Control]], account_id: str) -> Commands:
    """Return the effective commands of an account; invalid records are left out."""
    paused: dict[str, Given] = {}
    found: dict[str, dict[str, Given]] = {"pause": paused, "release": {}, "close": {}}
    resets: list[Given] = []
    checked: dict[str, int] = {}
    for offset, record in records:
        name = record.instrument or ""
        if command_account(record) != account_id:
            continue
        given = Given(offset, record.actor, record.reason, record.as_of_ms)
        said = json.loads(record.value)
        if said.get("limit") == ORDER_LOG:
            for place, last in offsets_of(said["records"]).items():
                checked[place] = max(checked.get(place, -1), last)
        elif record.kind == RESET:
            resets.append(given)
        elif record.kind == "resume":
            paused.pop(name, None)
        elif record.kind != "pause" or name not in paused:
            found[record.kind][name] = given
    return Commands(paused, found["release"], found["close"], tuple(resets), checked)


def _value(**content: str) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"))
