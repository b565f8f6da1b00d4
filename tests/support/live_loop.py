"""The live loop as real processes: feed, service and executor, which a test kills and restarts.

What stands between the feed's candles and the executor, the stages, is a script: the decisions of a
bar and its weights are written when the feed has that bar in the log, and only then. So an order
comes of a candle, as it does live, but comes surely.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from streams.config.kill_switch import KillSwitchSettings
from streams.process.child import free_port
from streams.records.codec import locked_codec
from streams.records.events import Candle
from streams.records.topics import CANDLES
from streams.trading.kill_switch.reader import KillSwitchReader
from streams.trading.ledger import Ledger
from tests.support.kill_switch_place import KEY, Observer, plain_client, plain_observer
from tests.support.log_watch import LogWatch
from tests.support.oanda_venue import require_candles
from tests.support.service import ServiceProcess
from tests.support.trading import (
    PAIRS,
    ExecutorProcess,
    ScriptedLog,
    await_that,
    oanda_floor,
    require_exact,
)
from tests.support.v20 import V20Process
from tests.support.waiting import until

FEED, SERVICE, EXECUTOR = "feed", "serve", "trade"
PROCESSES = (FEED, SERVICE, EXECUTOR)
MAX_AGE_S = 5.0
HISTORY_BARS = 129
LEAST_LOOKS = 5
SETTINGS = {
    "CANDLE_GRAN": "S5",
    "CANDLE_COUNT": str(HISTORY_BARS),
    "FRESH_MAX_SIGNAL_AGE_SEC": "30",
    "KILL_SWITCH": "0",
    "KILL_SWITCH_MAX_AGE_SEC": f"{MAX_AGE_S:g}",
    "OANDA_STREAM_SILENCE_SEC": "2",
    "FEED_ABSENT_AFTER_SEC": "1",
    "FEED_SETTLE_MS": "100",
}
"""Bars of five seconds; a decision whose candle came late opens nothing."""


class Kill(NamedTuple):
    """A process that was killed, and when (monotonic)."""

    name: str
    at: float


class Stopped(NamedTuple):
    """A span in which nobody may take the kill switch for off, by both clocks."""

    what: str
    since: float
    before: float
    since_wall: float
    before_wall: float


class LiveLoop:
    """One deployment's feed, service and executor on a test broker, and who watches them.

    Parameters
    ----------
    directory, bootstrap, prefix, valkey_url
        Where.
    broker
        The venue; its market is open.
    """

    def __init__(
        self, directory: Path, bootstrap: str, prefix: str, valkey_url: str, broker: V20Process
    ) -> None:
        self.broker = broker
        self.deployment = oanda_floor(directory, bootstrap, prefix, valkey_url, broker, **SETTINGS)
        self.executor = ExecutorProcess(self.deployment, EXECUTOR)
        status_url = f"http://127.0.0.1:{self.executor.port}/status"
        self.service = ServiceProcess(self.deployment, TRADE_STATUS_URL=status_url)
        self.watch = LogWatch(self.deployment)
        self.watch.start()
        kill_settings = KillSwitchSettings.from_env(self.deployment.environment)
        self._reader = KillSwitchReader(
            self.deployment.runtime, locked_codec(prefix), kill_settings
        )
        self._valkey = plain_client(valkey_url)
        self.observers = {
            "the key in Valkey": plain_observer(valkey_url, 0.01),
            "the product's reader": Observer(lambda: not self._reader.read().engaged, 0.02),
            "GET /api/kill-switch": Observer(self._api_says_off, 0.05),
        }
        self.kills: list[Kill] = []
        self.stopped: list[Stopped] = []
        self.script: ScriptedLog

    def start(self) -> None:
        """Start everything; return when orders can flow."""
        self.deployment.start(FEED, "feed", "oanda", FEED_METRICS_PORT=str(free_port()))
        self.service.start()
        for observer in self.observers.values():
            observer.start()
        self.executor.start()
        await_that(lambda: self.watch.settled_to(PAIRS) > 0, self.words)
        settled_ms = self.watch.settled_to(PAIRS)
        self.script = ScriptedLog(self.deployment, PAIRS, settled_ms, fed=True)
        self.executor.until_reconciled()

    def stop(self) -> None:
        """End everything."""
        for observer in self.observers.values():
            if observer.is_alive():
                observer.stop()
        self.watch.stop()
        self._reader.close()
        self._valkey.close()
        self.deployment.stop()

    def words(self) -> str:
        """Return what every process said last."""
        processes = self.deployment.processes.items()
        said = [f"{name} ({p.state}): {p.child.last_output(8)}" for name, p in processes]
        return "\n".join([*said, str(self.executor.status()), str(self.watch.settled_ms)])

    # -- the market ------------------------------------------------------------------------------

    def bar(self, positions: Mapping[str, int]) -> int:
        """Write the decisions of the next bar as soon as the feed has it; return the bar's end.

        Bars that have passed meanwhile change nothing: a stage that was behind catches up so.
        """
        await_that(lambda: self.watch.settled_to(PAIRS) >= self.script.next_end_ms, self.words)
        while self.watch.settled_to(PAIRS) > self.script.next_end_ms:
            self.script.bar({})
        return self.script.bar(positions)

    def until_done(self, end_ms: int) -> None:
        """Wait until the executor has done what a bar asks for and knows what became of it."""
        self.executor.until(
            lambda said: (
                said["reconciled"] and said["epoch_ms"] >= end_ms and not said["unresolved"]
            )
        )

    # -- the processes ---------------------------------------------------------------------------

    def kill(self, names: Sequence[str]) -> float:
        """Kill -9; return when the last of them was dead."""
        for name in names:
            process = self.deployment.processes[name].child
            assert process.running, f"{name} had ended by itself: {self.words()}"
            self.kills.append(Kill(name, time.monotonic()))
            process.kill()
        return time.monotonic()

    def restart(self, names: Sequence[str]) -> None:
        """Start again what was killed, as a supervisor does; only without its growing back-off."""
        for name in names:
            self.deployment.processes[name].start()

    # -- the kill switch -------------------------------------------------------------------------

    def engage(self, word: str) -> None:
        """Engage by ``api``, ``cli`` or ``set``; return when that is acknowledged."""
        if word == "api":
            answer = self.service.post("/api/kill-switch", {"enabled": True, "reason": "a test"})
            assert answer.status == 200 and answer.json["engaged"], answer
        elif word == "cli":
            done = self.deployment.run("kill", "on", "--reason", "a test")
            assert done.returncode == 0, done.stderr
        else:
            assert self._valkey.set(KEY, "1")

    def until_off(self) -> None:
        """Say off, where that has to be said, until every consumer may open again."""

        def off() -> bool:
            found = self._reader.read()
            if found.engaged and (found.log is None or found.log.engaged):
                self.deployment.run("kill", "off", "--reason", "the test goes on")
            return not found.engaged

        until(off)

    def never_off(self, what: str, since: float, since_wall: float) -> None:
        """Note that from then until now nobody may have taken the kill switch for off."""
        for observer in self.observers.values():
            until(lambda one=observer: one.looks(since, time.monotonic()) >= LEAST_LOOKS)
        span = Stopped(what, since, time.monotonic(), since_wall, time.time())
        self.stopped.append(span)
        for reader, observer in self.observers.items():
            observer.require_never_off(span.since, span.before, f"{what}: {reader}")

    def _api_says_off(self) -> bool:
        # a service that is dead or ends in the middle of its answer says nothing
        with suppress(OSError, http.client.HTTPException, ValueError):
            answer = self.service.get("/api/kill-switch")
            return answer.status == 200 and answer.json["engaged"] is False
        return False

    # -- what must hold --------------------------------------------------------------------------

    def require_nothing_opened(self, in_flight_s: float) -> float:
        """Assert that no opening order came to the venue while the kill switch was engaged.

        Parameters
        ----------
        in_flight_s
            What may have read "off" before may come so long after.

        Returns
        -------
        float
            How long after it the last one came, in seconds; 0 when none did.
        """
        opened = [
            (request["time"], request["body"])
            for request in self.broker.requests("/orders")
            if request["method"] == "POST" and '"REDUCE_ONLY"' not in request["body"]
        ]
        assert opened, "nothing was ever opened"
        worst = 0.0
        for span in self.stopped:
            after = [
                (at - span.since_wall, body)
                for at, body in opened
                if span.since_wall < at < span.before_wall
            ]
            late = [one for one in after if one[0] > in_flight_s]
            assert not late, f"{span.what}: opened {late}"
            worst = max([worst, *(passed for passed, _ in after)])
        return worst

    def require_sound(self) -> None:
        """Assert that every process runs, and that none has met what it did not know."""
        for name, process in self.deployment.processes.items():
            assert process.child.running, f"{name} had ended by itself: {self.words()}"
            assert "Traceback" not in process.child.log.read_text(), name

    def require_candles(self) -> None:
        """Assert that every candle of the venue is in the log, once."""
        until_ms = self.watch.settled_to(PAIRS)
        found = [e for e in self.deployment.events(CANDLES) if isinstance(e, Candle)]
        require_candles(self.broker, found, PAIRS, "S5", until_ms)

    def exact(self) -> Ledger:
        """Assert that log and broker agree; return the books."""
        return require_exact(self.deployment, self.broker)

    def until_held(self, wanted: Callable[[Mapping[str, float]], bool]) -> None:
        """Wait until the executor holds what is wanted: instrument -> signed units."""

        def held(said: dict[str, Any]) -> bool:
            joined = said["joined"].items()
            units = {name: one["direction"] * one["units"] for name, one in joined}
            return bool(said["reconciled"] and not said["unresolved"] and wanted(units))

        self.executor.until(held)
