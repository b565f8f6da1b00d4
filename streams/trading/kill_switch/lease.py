"""Who last wrote the key: this program, an operator, or nobody because the write was lost.

The key holds "1" or "0" for plain readers. A second key, the lease record, holds what we last wrote
and its expiry. Only a key whose value *and* expiry equal the lease record is ours; an operator's
``SET`` has no expiry or another one. A key that has expired is still under our lease. Everything
else (another value, a deletion, an emptied or older database) may be or may hide an operator's
change, so it breaks the lease and counts as engaged until it is in the log.

All instants are the Valkey server's own: no two clocks are ever compared.
"""

from __future__ import annotations

import json
from typing import Any, Literal, NamedTuple

from streams.records.kill_switch import KillSwitch

OFF, ENGAGED = "0", "1"
NO_KEY = -2
ACTOR = "valkey"
"""Actor of the records that a lease holder appends for changes found in Valkey."""


class LeaseRecord(NamedTuple):
    """The lease record: our last write.

    Attributes
    ----------
    value
        What was written.
    expires_ms
        When it expires.
    stamp_ms
        The heartbeat: after this instant the log was read to its end.
    offset
        Offset up to which ``ops.control`` was read. A writer that has read less must not write "0".
    beat
        Sequence number of the write; one lower than a known one shows that writes were lost.
    log
        Cluster and topic.
    keeper
        The writer; while its timestamp is fresh the others stand by.
    """

    value: str
    expires_ms: int
    stamp_ms: int
    offset: int
    beat: int
    log: str
    keeper: str

    def to_json(self) -> str:
        """Return the text of the lease record."""
        return json.dumps(self._asdict(), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: bytes) -> LeaseRecord | None:
        """Parse the lease record; None when it is not valid."""
        try:
            raw = json.loads(text)
        except (ValueError, RecursionError):
            return None
        if not isinstance(raw, dict) or raw.keys() != set(cls._fields):
            return None
        made = cls(**raw)
        numbers = made[1:5]
        texts = (made.value, made.log, made.keeper)
        plain = all(type(n) is int for n in numbers) and all(isinstance(t, str) for t in texts)
        return made if plain else None


class KeySnapshot(NamedTuple):
    """Both keys at one instant of the server's clock.

    Attributes
    ----------
    now_ms
        That instant.
    kind
        Type of the key's value, ``none`` without a key.
    value
        The value of a string.
    expires_ms
        When the key expires: -1 for never, -2 without a key.
    kept_kind, kept_text
        The same for the lease record.
    """

    now_ms: int
    kind: str
    value: bytes
    expires_ms: int
    kept_kind: str
    kept_text: bytes

    @property
    def kept(self) -> LeaseRecord | None:
        """The parsed lease record."""
        return LeaseRecord.from_json(self.kept_text) if self.kept_kind == "string" else None

    @property
    def missing(self) -> bool:
        """Whether the key is absent."""
        return self.expires_ms == NO_KEY

    @property
    def says_off(self) -> bool:
        """Whether the key reads as off."""
        return self.kind == "string" and self.value == OFF.encode()

    @property
    def shown(self) -> str:
        """The value as text for messages."""
        if self.kind != "string":
            return f"a {self.kind}"
        text = self.value[:40].decode("utf-8", "backslashreplace")
        return repr(text) + ("..." if len(self.value) > 40 else "")

    @property
    def ours(self) -> bool:
        """Whether the key is as we last wrote it."""
        kept = self.kept
        return (
            kept is not None
            and self.kind == "string"
            and self.value == kept.value.encode()
            and self.expires_ms == kept.expires_ms
        )


class Lease(NamedTuple):
    """``intact``; ``word``: changed by another writer; ``lost``: our write is gone. With the
    reason."""

    state: Literal["intact", "word", "lost"]
    why: str = ""


def lease_state(
    look: KeySnapshot, key: str, log: str, end: int | None = None, beat: int = 0
) -> Lease:
    """Return whether the state of the key is our last write, or its expiry.

    Parameters
    ----------
    look
        Both keys.
    key
        Name of the key, for messages.
    log
        Cluster and topic of the log that it mirrors.
    end
        End offset of that log, read after ``look``; None when not known.
    beat
        Sequence number of the last known write.
    """
    kept = look.kept
    if kept is None and look.missing:
        return Lease("lost", f"Valkey has no lease record of {key}: it is new, or lost its data")
    if kept is None or not (look.ours or look.missing):
        return Lease("word", f"{key} in Valkey was set to {look.shown} by another writer")
    if look.missing and look.now_ms < kept.expires_ms:
        return Lease("lost", f"{key} was deleted from Valkey")
    if kept.beat < beat:
        return Lease("lost", f"Valkey lost its last writes: {key} is older than before")
    if kept.log != log:
        return Lease("lost", f"{key} was written for another log ({kept.log}, not {log})")
    if end is not None and kept.offset > end:
        return Lease(
            "lost",
            f"{key} was written at offset {kept.offset} of ops.control, which ends at {end}: "
            "the topic was recreated",
        )
    return Lease("intact")


def word_due(found: Lease, look: KeySnapshot, switch: KillSwitch) -> bool:
    """Return whether "engaged" must be appended to the log before we may write the key.

    An operator's change is recorded even when already engaged, because the earlier reason may be
    cleared alone; the same change is not recorded twice. An external "0" and lost keys are not
    commands, but may hide one: they are recorded where the log says off.
    """
    if found.state == "intact":
        return False
    if found.state == "word" and not look.says_off:
        return not (switch.engaged and switch.actor == ACTOR)
    return not switch.engaged


def valkey_problem(look: KeySnapshot, key: str, log: str, max_age_ms: int) -> str | None:
    """Return why the key counts as engaged; None when it is off with a fresh heartbeat."""
    if look.missing:
        return f"{key} is missing in Valkey (is a lease holder running? manifold kill keep)"
    if not look.says_off:
        whose = "" if look.ours else ", set by another writer"
        return f"{key} in Valkey says {look.shown}{whose}"
    kept = look.kept
    if kept is None or not look.ours:
        return f"{key} in Valkey says '0', but no lease holder wrote that"
    if kept.log != log:
        return f"{key} in Valkey is of another log ({kept.log}, not {log})"
    age_ms = look.now_ms - kept.stamp_ms
    if not 0 <= age_ms <= max_age_ms:
        return (
            f"{key} in Valkey has no fresh heartbeat: it was verified {age_ms / 1000:.1f} s ago, "
            f"more than {max_age_ms / 1000:g} s or not yet by the server's clock"
        )
    return None


def as_look(answer: list[Any]) -> KeySnapshot:
    """Parse the answer of the read script."""
    now_ms, kind, value, expires_ms, kept_kind, kept = answer
    return KeySnapshot(
        int(now_ms), kind.decode(), bytes(value), int(expires_ms), kept_kind.decode(), bytes(kept)
    )
