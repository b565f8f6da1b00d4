"""The lease holder: keeps the key in Valkey equal to the log, and records its changes in the log.

``ops.control`` is the record; the key shows the state to programs that do not read the log. A
round:

1. read both keys and the server's time,
2. read the log to its end, *after* that,
3. if the key is not under our lease (``lease``), append "engaged" to the log, read that back,
4. write the key and the lease record, in one script, if neither has changed since step 1.

"0" is therefore written only over our own value, with the log read to its end in between, and it
expires ``KILL_SWITCH_MAX_AGE_SEC`` after step 1, before the log was read: a lease holder that is
suspended between two steps, or has lost Kafka, cannot prolong an old "off". The expiry is the
heartbeat for plain readers; the timestamp in the lease record is the heartbeat for our readers, who
so do not depend on an expiry that others can extend. All times are the Valkey server's. Engaging
through the log (``commands.engage``) writes the key too and stores the offset in the lease record;
a lease holder that has not read that far fails at step 4.

What this cannot detect: an operator's change that Valkey acknowledged and then lost, together with
less than one round of ours (``ROUND_S``), in a failover to a replica or a machine crash.

The switch can be off only while a lease holder runs: ``manifold serve`` runs one, and without a
service ``manifold kill keep``. Of several one writes, the others stand by until its timestamp is
old.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable
from threading import Lock

from streams.config.kill_switch import KillSwitchSettings
from streams.config.runtime import Runtime
from streams.errors import Fatal, Recoverable
from streams.kafka.control_topic import ControlAppender
from streams.process.pausing import pause
from streams.records.codec import Codec
from streams.records.events import Control
from streams.records.kill_switch import KIND, KillSwitch, KillSwitchCommand
from streams.trading.kill_switch.key import KillSwitchKey
from streams.trading.kill_switch.lease import (
    ACTOR,
    ENGAGED,
    OFF,
    KeySnapshot,
    Lease,
    LeaseRecord,
    lease_state,
    word_due,
)
from streams.trading.kill_switch.metrics import ENVIRONMENT, KillSwitchMetrics
from streams.trading.kill_switch.tail import ControlTail

ROUND_S = 0.2
WITHIN_S = 2.0
APPEND_S = 5.0
TAKEOVER_MS = 2_000

log = logging.getLogger("manifold.kill_switch")


class KillSwitchKeeper:
    """One lease holder.

    Parameters
    ----------
    runtime, codec, settings
        The deployment. Nothing is connected before the first round.
    metrics
        Its Prometheus metrics.
    now_ms
        Wall clock, for the timestamps of the records that it appends.

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
        metrics: KillSwitchMetrics | None = None,
        now_ms: Callable[[], int] = lambda: int(time.time() * 1000),
    ) -> None:
        self._settings = settings
        self.metrics = metrics or KillSwitchMetrics()
        self._now_ms = now_ms
        self._tail = ControlTail(runtime, codec)
        self._appender = ControlAppender(runtime, codec, APPEND_S)
        self._key = KillSwitchKey(runtime, settings)
        self._id = uuid.uuid4().hex
        self._beat = 0
        self._seeded = False
        self._trouble = ""
        self._stopping = asyncio.Event()
        self._lock = Lock()

    def stop(self) -> None:
        """Ask ``run`` to return after the current round."""
        self._stopping.set()

    async def run(self) -> None:
        """Hold the lease until ``stop``; waits for unavailable services while the key expires."""
        try:
            while not self._stopping.is_set():
                await asyncio.to_thread(self._guarded_round)
                await pause(self._stopping, ROUND_S)
        finally:
            await asyncio.to_thread(self.close)

    def round(self) -> bool:
        """Do one round; return whether the key now equals the log and was renewed.

        Raises
        ------
        Recoverable, Fatal
            Kafka or Valkey is unavailable or refuses; the key was not renewed.
        """
        with self._lock:
            return self._round()

    def close(self) -> None:
        """Close the connections; the key stays until it expires."""
        with self._lock:
            self._tail.close()
            self._key.close()

    def _guarded_round(self) -> None:
        try:
            self.round()
        except (Recoverable, Fatal) as error:
            self.metrics.failures.inc()
            self.metrics.say(True, None, "unknown")
            if str(error) != self._trouble:
                log.warning("the kill switch lease is not renewed, so it is engaged: %s", error)
            self._trouble = str(error)
        else:
            if self._trouble:
                log.warning("the kill switch lease is renewed again")
            self._trouble = ""

    def _round(self) -> bool:
        look = self._key.look()
        switch = self._tail.refresh(WITHIN_S)
        name = self._settings.kill_switch_key
        found = lease_state(look, name, self._tail.log_name, self._tail.position, self._beat)
        told = False
        if not self._seeded:
            switch, told = self._seed(found, look, switch)
        if self._stands_by(found, look):
            self._know(look.kept)
            self._export(switch)
            return True
        if not told and word_due(found, look, switch):
            switch = self._append(KillSwitchCommand(True), ACTOR, found.why)
        return self._write(look, switch)

    def _seed(self, found: Lease, look: KeySnapshot, switch: KillSwitch) -> tuple[KillSwitch, bool]:
        """Record KILL_SWITCH of the environment in the log where it applies, never over a
        command."""
        wanted, first = self._settings.kill_switch, switch.offset is None
        forced = self._settings.kill_switch_force_env and wanted != switch.engaged
        due = first or forced
        if due and not wanted and found.state == "word" and not look.says_off:
            log.warning("KILL_SWITCH=0 is not applied: %s", found.why)
            due = False
        if due:
            reason = "first start" if first else "KILL_SWITCH_FORCE_ENV=1"
            word = KillSwitchCommand(wanted, None if wanted else self._tail.position)
            switch = self._append(word, ENVIRONMENT, f"{reason}: KILL_SWITCH={int(wanted)}")
        self._seeded = True
        return switch, due

    def _stands_by(self, found: Lease, look: KeySnapshot) -> bool:
        kept = look.kept
        if kept is None or found.state == "lost" or kept.keeper in ("", self._id):
            return False
        fresh_ms = min(TAKEOVER_MS, self._settings.max_age_ms // 3)
        return 0 <= look.now_ms - kept.stamp_ms < fresh_ms

    def _append(self, word: KillSwitchCommand, actor: str, reason: str) -> KillSwitch:
        log.warning("kill switch %s: %s", "engaged" if word.engaged else "off", reason)
        record = Control(KIND, None, word.to_json(), actor, reason, self._now_ms())
        self._appender.append([record])
        self.metrics.appended.labels(actor).inc()
        return self._tail.refresh(WITHIN_S)

    def _write(self, look: KeySnapshot, switch: KillSwitch) -> bool:
        expires_ms = look.now_ms + self._settings.max_age_ms
        last = look.kept
        kept = LeaseRecord(
            ENGAGED if switch.engaged else OFF,
            expires_ms,
            look.now_ms,
            self._tail.position,
            max(self._beat, last.beat if last else 0) + 1,
            self._tail.log_name,
            self._id,
        )
        if not self._key.swap(look, kept, until_ms=None if switch.engaged else expires_ms):
            return False  # changed meanwhile: the next round handles it
        self._know(kept)
        self._export(switch)
        return True

    def _know(self, kept: LeaseRecord | None) -> None:
        if kept is not None:
            self._beat = max(self._beat, kept.beat)

    def _export(self, switch: KillSwitch) -> None:
        self.metrics.say(switch.engaged, switch.since_ms, "log")
        self.metrics.kept.set(self._now_ms() / 1000)
