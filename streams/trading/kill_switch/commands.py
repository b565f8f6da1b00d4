"""Engages and clears the kill switch, for the command line, the service and the executor."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ClassVar, NamedTuple

from streams.config.kill_switch import KillSwitchSettings
from streams.config.runtime import Runtime
from streams.errors import Fatal, Recoverable
from streams.kafka.control_topic import append_control
from streams.printable import says_something
from streams.records.codec import Codec
from streams.records.events import Control
from streams.records.kill_switch import KIND, KillSwitchCommand
from streams.trading.kill_switch.key import KillSwitchKey
from streams.trading.kill_switch.lease import (
    ENGAGED,
    KeySnapshot,
    Lease,
    LeaseRecord,
    lease_state,
    valkey_problem,
)
from streams.trading.kill_switch.tail import ControlTail

PATIENCE_S = 2.0
APPEND_S = 15.0
READ_S = 5.0
AGAIN_S = 0.1
TRIES = 50


class NotCleared(Fatal):
    """A refused "off", with the reason."""

    exit_code: ClassVar[int] = 1


class Engaged(NamedTuple):
    """The result of engaging.

    Attributes
    ----------
    offset
        Of the record in ``ops.control``.
    key_problem
        Empty when the key in Valkey is "1" too; else why that is unknown.
    """

    offset: int
    key_problem: str


class Cleared(NamedTuple):
    """The result of clearing.

    Attributes
    ----------
    offset
        Of the record in ``ops.control``.
    still
        The remaining reasons why it is engaged; empty when the kill switch is off.
    """

    offset: int
    still: str


def engage(
    runtime: Runtime,
    codec: Codec,
    actor: str,
    reason: str,
    now_ms: int,
    settings: KillSwitchSettings | None = None,
    valkey_wait_s: float = PATIENCE_S,
    logged: Callable[[int], None] = lambda offset: None,
) -> Engaged:
    """Engage: append to the log, then set the key to "1" and fence lease holders with an older
    offset.

    When it returns without a ``key_problem``, no reader of the log or of the key finds it off,
    whether a lease holder runs or not. If the log does not answer for ``PATIENCE_S``, the key is
    set to "1" at once, as an operator would.

    Parameters
    ----------
    runtime, codec
        The deployment.
    actor, reason
        Who and why; both are recorded in the log.
    now_ms
        Timestamp of the record.
    settings
        From the environment by default.
    valkey_wait_s
        Seconds to retry when Valkey does not answer. After ``KILL_SWITCH_MAX_AGE_SEC`` every "0"
        that a lease holder may have written has expired.
    logged
        Called with the offset once the record is in the log.

    Raises
    ------
    Recoverable, Fatal
        The write to the log was not acknowledged; the message says whether the key was set.
    """
    settings = _checked(actor, reason, settings)
    key = KillSwitchKey(runtime, settings)
    record = Control(KIND, None, KillSwitchCommand(True).to_json(), actor, reason, now_ms)
    try:
        with ThreadPoolExecutor(1) as pool:
            appended = pool.submit(append_control, runtime, codec, [record], APPEND_S)
            offset = _acknowledged(appended, key, settings)
        acknowledged = time.monotonic()
        logged(offset)
        return Engaged(offset, _fence(key, settings, offset, acknowledged, valkey_wait_s))
    finally:
        key.close()


def disengage(
    runtime: Runtime,
    codec: Codec,
    actor: str,
    reason: str,
    now_ms: int,
    settings: KillSwitchSettings | None = None,
    wait_s: float = 5.0,
) -> Cleared:
    """Append "off" to the log, unless a change of the key in Valkey is not in the log yet.

    Parameters
    ----------
    runtime, codec, actor, reason, now_ms, settings
        As in ``engage``.
    wait_s
        Seconds to wait for a lease holder to set the key to "0".

    Raises
    ------
    NotCleared
        A change of the key by an operator is not in the log yet, or it was engaged meanwhile.
    Recoverable, Fatal
        The log cannot be read, or the write was not acknowledged.
    """
    settings = _checked(actor, reason, settings)
    key, tail = KillSwitchKey(runtime, settings), ControlTail(runtime, codec)
    try:
        _take_custody(key, tail, settings)
        word = KillSwitchCommand(False, tail.position)
        record = Control(KIND, None, word.to_json(), actor, reason, now_ms)
        offset = append_control(runtime, codec, [record], APPEND_S)[0]
        switch = tail.refresh(READ_S)
        if switch.engaged:
            raise NotCleared(f"engaged again meanwhile: {'; '.join(switch.why)}")
        return Cleared(offset, _until_off(key, tail, settings, wait_s))
    finally:
        key.close()
        tail.close()


def _checked(actor: str, reason: str, settings: KillSwitchSettings | None) -> KillSwitchSettings:
    for name, text in (("actor", actor), ("reason", reason)):
        if not says_something(text):
            raise Fatal(
                f"the {name} is empty or has no visible character; it is recorded in the log"
            )
    return settings or KillSwitchSettings.from_env()


def _acknowledged(
    appended: Future[list[int]], key: KillSwitchKey, settings: KillSwitchSettings
) -> int:
    said = ""
    try:
        return appended.result(PATIENCE_S)[0]
    except TimeoutError:
        said = _set_as_operator(key, settings)
    except (Recoverable, Fatal) as error:
        raise type(error)(f"{error}; {_set_as_operator(key, settings)}") from error
    try:
        return appended.result()[0]
    except (Recoverable, Fatal) as error:
        raise type(error)(f"{error}; {said}") from error


def _set_as_operator(key: KillSwitchKey, settings: KillSwitchSettings) -> str:
    name = settings.kill_switch_key
    try:
        key.set_engaged()
    except (Recoverable, Fatal) as error:
        return f"and {name} could not be set either, so NOTHING IS ENGAGED BY THIS: {error}"
    return f"{name} in Valkey says 1, which engages at once; a lease holder logs it later"


def _fence(
    key: KillSwitchKey,
    settings: KillSwitchSettings,
    offset: int,
    acknowledged: float,
    valkey_wait_s: float,
) -> str:
    while True:
        try:
            for _ in range(TRIES):
                look = key.look()
                kept, leave = _fenced(look, settings, offset)
                if key.swap(look, kept, leave=leave):
                    return ""
            problem = f"{settings.kill_switch_key} changes all the time"
        except (Recoverable, Fatal) as error:
            problem = str(error)
        since_s = time.monotonic() - acknowledged
        if since_s > settings.kill_switch_max_age_sec:
            return ""
        if since_s > valkey_wait_s:
            return problem
        time.sleep(AGAIN_S)


def _fenced(
    look: KeySnapshot, settings: KillSwitchSettings, offset: int
) -> tuple[LeaseRecord, bool]:
    """Return the lease record after a logged "on", and whether an external value of the key is
    kept."""
    last = look.kept or LeaseRecord("", 0, 0, 0, 0, "", "")
    known = last._replace(offset=max(last.offset, offset + 1), beat=last.beat + 1)
    foreign = not (look.missing or look.says_off or look.ours)
    if foreign:
        return known, True
    return known._replace(value=ENGAGED, expires_ms=look.now_ms + settings.max_age_ms), False


def _take_custody(key: KillSwitchKey, tail: ControlTail, settings: KillSwitchSettings) -> None:
    """Read the log and make sure that the state of Valkey allows an "off".

    A lost key, or one set to "0" externally, does not prevent it: the key is rewritten as engaged,
    so that no lease holder takes it for a command that is not in the log yet.
    """
    name = settings.kill_switch_key
    for _ in range(TRIES):
        try:
            look = key.look()
        except Recoverable:
            tail.refresh(READ_S)
            return  # the key expires, or a lease holder reads it before it writes
        tail.refresh(READ_S)
        found = lease_state(look, name, tail.log_name, tail.position)
        if found.state == "intact":
            return
        _require_no_word(found, look)
        beat = look.kept.beat + 1 if look.kept else 1
        until_ms = look.now_ms + settings.max_age_ms
        ours = LeaseRecord(ENGAGED, until_ms, 0, tail.position, beat, tail.log_name, "")
        if key.swap(look, ours):
            return
    raise Recoverable(f"{name} in Valkey changes all the time; say off again")


def _require_no_word(found: Lease, look: KeySnapshot) -> None:
    if found.state == "word" and not look.says_off:
        raise NotCleared(
            f"{found.why}, and the log does not have that yet: a keeper writes it there within a "
            "second (manifold serve or manifold kill keep runs one); say off again after that"
        )


def _until_off(
    key: KillSwitchKey, tail: ControlTail, settings: KillSwitchSettings, wait_s: float
) -> str:
    deadline = time.monotonic() + wait_s
    while True:
        try:
            problem = valkey_problem(
                key.look(), settings.kill_switch_key, tail.log_name, settings.max_age_ms
            )
        except (Recoverable, Fatal) as error:
            problem = str(error)
        if problem is None or time.monotonic() > deadline:
            return problem or ""
        time.sleep(AGAIN_S)
