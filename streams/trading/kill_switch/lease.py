"""Whose word stands in Valkey: what we wrote ourselves, what another hand did, what was lost.

The key holds "1" or "0" for whoever reads it plainly. Beside it the companion key holds what we
last wrote and until when. Only a key whose value *and* expiry are those of the companion is ours;
an operator's ``SET`` has no expiry or another one. A key that has expired by itself is still in our
custody. Everything else (another value, a deletion, an emptied or older database) may be or may
hide an operator's word, so it breaks the custody and counts as engaged until the log has it.

All instants are the Valkey server's own: no two clocks are ever compared.
"""

from __future__ import annotations

import json
from typing import Any, Literal, NamedTuple

from streams.records.kill_switch import KillSwitch

OFF, ENGAGED = "0", "1"
NO_KEY = -2
ACTOR = "valkey"
"""In whose name the keeper tells the log what it found in Valkey."""


class Kept(NamedTuple):
    """The companion key: our last write.

    Attributes
    ----------
    value
        What was written.
    expires_ms
        When that expires.
    stamp_ms
        The instant before which the log was read to its end: the proof of life.
    offset
        Up to where ``ops.control`` was known by then. Nobody who knows less may write "0".
    beat
        Number of the write; one that is lower than a known one shows that writes were lost.
    log
        Cluster and topic.
    keeper
        Who wrote; while its stamp is fresh the others stand by.
    """

    value: str
    expires_ms: int
    stamp_ms: int
    offset: int
    beat: int
    log: str
    keeper: str

    def to_json(self) -> str:
        """Return the text of the companion key."""
        return json.dumps(self._asdict(), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: bytes) -> Kept | None:
        """Read the companion key; None when it is no text of ours."""
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


class Look(NamedTuple):
    """Both keys at one instant of the server.

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
        The same of the companion.
    """

    now_ms: int
    kind: str
    value: bytes
    expires_ms: int
    kept_kind: str
    kept_text: bytes

    @property
    def kept(self) -> Kept | None:
        """What the companion says."""
        return Kept.from_json(self.kept_text) if self.kept_kind == "string" else None

    @property
    def missing(self) -> bool:
        """Whether there is no key."""
        return self.expires_ms == NO_KEY

    @property
    def says_off(self) -> bool:
        """Whether a plain reader takes it for off."""
        return self.kind == "string" and self.value == OFF.encode()

    @property
    def shown(self) -> str:
        """The value, for a sentence."""
        if self.kind != "string":
            return f"a {self.kind}"
        text = self.value[:40].decode("utf-8", "backslashreplace")
        return repr(text) + ("..." if len(self.value) > 40 else "")

    @property
    def ours(self) -> bool:
        """Whether the key is there as we last wrote it."""
        kept = self.kept
        return (
            kept is not None
            and self.kind == "string"
            and self.value == kept.value.encode()
            and self.expires_ms == kept.expires_ms
        )


class Custody(NamedTuple):
    """``intact``; ``word``: another hand wrote; ``lost``: what we wrote is gone. And why."""

    state: Literal["intact", "word", "lost"]
    why: str = ""


def custody(look: Look, key: str, log: str, end: int | None = None, beat: int = 0) -> Custody:
    """Return whether what stands in Valkey is our last write, or its expiry.

    Parameters
    ----------
    look
        Both keys.
    key
        Name of the key, for the sentences.
    log
        Cluster and topic of the log that it shall mirror.
    end
        Up to where that log reaches, read after ``look``; None when that is not known.
    beat
        Number of the last write that is known to have been made.
    """
    kept = look.kept
    if kept is None and look.missing:
        return Custody("lost", f"Valkey holds no trace of {key}: it is new, or lost what it held")
    if kept is None or not (look.ours or look.missing):
        return Custody("word", f"{key} in Valkey was set to {look.shown} by another hand")
    if look.missing and look.now_ms < kept.expires_ms:
        return Custody("lost", f"{key} was deleted from Valkey")
    if kept.beat < beat:
        return Custody("lost", f"Valkey lost its last writes: {key} is older than it was")
    if kept.log != log:
        return Custody("lost", f"{key} was kept for another log ({kept.log}, not {log})")
    if end is not None and kept.offset > end:
        return Custody(
            "lost",
            f"{key} was kept up to offset {kept.offset} of ops.control, which ends at {end}: "
            "the topic was made anew",
        )
    return Custody("intact")


def word_due(found: Custody, look: Look, switch: KillSwitch) -> bool:
    """Return whether the log has to be told that it is engaged, before we may write the key.

    An operator's word is told even when it is engaged already, for it may be cleared later by
    somebody who does not know of it; the same word again adds nothing. A "0" of another hand and
    lost keys are not words, but may hide one: they are told where the log says off.
    """
    if found.state == "intact":
        return False
    if found.state == "word" and not look.says_off:
        return not (switch.engaged and switch.actor == ACTOR)
    return not switch.engaged


def valkey_problem(look: Look, key: str, log: str, max_age_ms: int) -> str | None:
    """Return why the key counts as engaged; None when it says off and proves that it is alive."""
    if look.missing:
        return f"{key} is missing in Valkey (is a keeper running? manifold kill keep)"
    if not look.says_off:
        whose = "" if look.ours else ", set by another hand"
        return f"{key} in Valkey says {look.shown}{whose}"
    kept = look.kept
    if kept is None or not look.ours:
        return f"{key} in Valkey says '0', but the keeper did not write that"
    if kept.log != log:
        return f"{key} in Valkey is kept for another log ({kept.log}, not {log})"
    age_ms = look.now_ms - kept.stamp_ms
    if not 0 <= age_ms <= max_age_ms:
        return (
            f"{key} in Valkey has no proof of life: it was verified {age_ms / 1000:.1f} s ago, "
            f"more than {max_age_ms / 1000:g} s or not yet by the server's clock"
        )
    return None


def as_look(answer: list[Any]) -> Look:
    """Return what the look script answered."""
    now_ms, kind, value, expires_ms, kept_kind, kept = answer
    return Look(
        int(now_ms), kind.decode(), bytes(value), int(expires_ms), kept_kind.decode(), bytes(kept)
    )
