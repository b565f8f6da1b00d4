"""Reads the kill switch: before every order, and for the service.

It is off only if both agree at the moment of the query: the last record of the log, read to its
end, is "off", and the key in Valkey is exactly "0", written by a lease holder that read the log at
most ``KILL_SWITCH_MAX_AGE_SEC`` ago. Everything else is engaged.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from threading import Lock
from typing import NamedTuple

from streams.config.kill_switch import KillSwitchSettings
from streams.config.runtime import Runtime
from streams.errors import Fatal, Recoverable
from streams.records.codec import Codec
from streams.records.kill_switch import KillSwitch
from streams.trading.kill_switch.key import KillSwitchKey
from streams.trading.kill_switch.lease import KeySnapshot, valkey_problem
from streams.trading.kill_switch.tail import ControlTail

WITHIN_S = 2.0

log = logging.getLogger("manifold.kill_switch")


class KillSwitchState(NamedTuple):
    """The answer.

    Attributes
    ----------
    engaged
        Whether opening and increasing are blocked. Closing and reducing are not.
    why
        Every reason for which it is engaged; empty when it is off.
    since_ms
        Start of this state: time of the log's record if the log has this state, else when this
        reader first found it.
    actor, reason, offset
        Of the log's last record if the log has this state; else empty and None.
    log
        The state in the log alone; None when it could not be read.
    valkey
        The key's value as text; None when it is missing or could not be read.
    """

    engaged: bool
    why: tuple[str, ...]
    since_ms: int | None
    actor: str
    reason: str
    offset: int | None
    log: KillSwitch | None
    valkey: str | None


class KillSwitchReader:
    """Reads the log and Valkey; follows the log between queries, so that a query is cheap.

    Parameters
    ----------
    runtime, codec, settings
        The deployment. Connects at the first query.
    within_s
        Seconds after which the log counts as unreadable; Valkey has a shorter limit of its own.
    now_ms
        Wall clock, only for ``since_ms``.

    Raises
    ------
    Fatal
        VALKEY_URL or VALKEY_TLS_CA is unusable.
    """

    def __init__(
        self,
        runtime: Runtime,
        codec: Codec,
        settings: KillSwitchSettings,
        within_s: float = WITHIN_S,
        now_ms: Callable[[], int] = lambda: int(time.time() * 1000),
    ) -> None:
        self._settings, self._within_s, self._now_ms = settings, within_s, now_ms
        self._tail = ControlTail(runtime, codec)
        self._key = KillSwitchKey(runtime, settings)
        self._lock = Lock()
        self._found: tuple[bool, int] | None = None

    def read(self) -> KillSwitchState:
        """Return the state at the moment of the call. Never raises: engaged if it cannot be read.

        May be called from any thread.
        """
        with self._lock:
            try:
                return self._read()
            except Exception as error:  # on any error the switch counts as engaged
                log.exception("the kill switch could not be read")
                why = (f"the kill switch could not be read: {type(error).__name__}",)
                return KillSwitchState(True, why, self._since(True), "", "", None, None, None)

    async def aread(self) -> KillSwitchState:
        """Return the same without blocking the event loop."""
        return await asyncio.to_thread(self.read)

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            self._tail.close()
            self._key.close()

    def _read(self) -> KillSwitchState:
        why: list[str] = []
        said: KillSwitch | None = None
        look: KeySnapshot | None = None
        try:
            said = self._tail.refresh(self._within_s)
            why += said.why
        except (Recoverable, Fatal) as error:
            why.append(f"ops.control cannot be read: {error}")
        try:
            look = self._key.look()
        except (Recoverable, Fatal) as error:
            why.append(str(error))
        if look is not None:
            # a log that was never reached has no name yet; reported above
            name = self._tail.log_name or (look.kept.log if look.kept else "")
            key, max_age_ms = self._settings.kill_switch_key, self._settings.max_age_ms
            problem = valkey_problem(look, key, name, max_age_ms)
            why += [problem] if problem else []
        engaged = said is None or said.engaged or look is None or bool(why)
        word = said if said is not None and said.engaged == engaged else KillSwitch()
        found_ms = self._since(engaged)
        since_ms = found_ms if word.since_ms is None else word.since_ms
        shown = None if look is None or look.missing else look.shown.strip("'")
        return KillSwitchState(
            engaged, tuple(why), since_ms, word.actor, word.reason, word.offset, said, shown
        )

    def _since(self, engaged: bool) -> int:
        if self._found is None or self._found[0] != engaged:
            self._found = (engaged, self._now_ms())
        return self._found[1]
