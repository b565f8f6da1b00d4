"""Runs a history with real processes on Kafka: an executor that is killed with -9, a broker.

Waits of a history are shortened here: what matters is where in an order's life a kill comes.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from streams.config.kill_switch import KillSwitchSettings
from streams.kafka.control_topic import append_control
from streams.trading.flatten import flatten_record
from streams.trading.kill_switch.commands import disengage, engage
from tests.support.execution_bench import MINUTE
from tests.support.histories import (
    PAIRS,
    TOKEN,
    Bar,
    Delist,
    Flatten,
    Halt,
    Heal,
    History,
    Kill,
    Lose,
    Step,
    Switch,
    Wait,
    happen_at_venue,
    prepare,
    shown,
)
from tests.support.history_checks import Seen, Told, due_to_close, require_settled, require_sound
from tests.support.trading import ExecutorProcess, books, oanda_floor, script_of, switch_off
from tests.support.v20 import V20Process
from tests.support.v20.faults import SPARED
from tests.support.waiting import PATIENCE_S

LONGEST_WAIT_S, LONGEST_LATE_S = 1.0, 5.0
SLACK_S = 0.5
"""How exactly the instant is known at which the switch was engaged for every reader."""


class ProcessVenue:
    """The test broker as a process, used by somebody else than the executor."""

    def __init__(self, broker: V20Process) -> None:
        self.broker = broker

    async def api(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Make a request of the API."""
        return self.broker.api(method, path, body, **{SPARED: "1"})

    async def control(self, method: str, path: str, body: Any = None) -> Any:
        """Use the control API."""
        answer = self.broker.control(method, path, body)
        if path == "/token":
            self.broker.token = str(body["token"])
        return answer


class ProcessRun:
    """One account on a Kafka, its executor and its broker as processes."""

    def __init__(self, directory: Path, bootstrap: str, prefix: str, valkey_url: str) -> None:
        self.broker = V20Process(hours="always", token=TOKEN).start()
        self.floor = oanda_floor(directory, bootstrap, prefix, valkey_url, self.broker)
        self.venue = ProcessVenue(self.broker)
        self.executor = ExecutorProcess(self.floor)
        self.switch: list[tuple[float, bool]] = []
        self.told = Told({}, -1)
        self.prices: dict[str, float] = {}

    def stop(self) -> None:
        """End everything."""
        self.floor.stop()
        self.broker.stop()

    def _set_switch(self, engaged: bool) -> None:
        runtime, codec = self.floor.runtime, self.floor.codec
        settings = KillSwitchSettings.from_env(self.floor.environment)
        begun = time.time()
        call = engage if engaged else disengage
        call(runtime, codec, "ops", "a step", int(begun * 1000), settings)
        # off from the beginning of the call, engaged from its end: whoever reads may be early
        self.switch.append((time.time() if engaged else begun, engaged))

    def _flatten(self) -> None:
        self._set_switch(True)
        now_ms = int(time.time() * 1000)
        record = flatten_record(self.broker.account_id, "ops", "storm", now_ms)
        offset = append_control(self.floor.runtime, self.floor.codec, [record])[0]
        self.told = self.told._replace(flatten=offset)

    def _bar(self, bar: Bar) -> None:
        moves = {n: p for n, p in zip(PAIRS, bar.positions, strict=True) if p is not None}
        bar_ms = self.script.next_end_ms - MINUTE
        self.script.bar(moves, eligible=bar.eligible, pct=bar.pct)
        self.told = self.told.after(bar_ms, moves)

    def _keep_alive(self) -> None:
        """Start an executor that has ended by itself, as a supervisor does."""
        process = self.executor.process
        if process is not None and not process.child.running:
            self.executor.start()

    def happen(self, step: Step) -> None:
        """Let a step happen."""
        if isinstance(step, Wait):
            time.sleep(min(step.seconds, LONGEST_WAIT_S))
        elif isinstance(step, Bar):
            self._bar(step)
        elif isinstance(step, Kill):
            assert self.executor.process is not None
            self.executor.process.child.kill()
            time.sleep(min(step.seconds, LONGEST_WAIT_S))
            self.executor.start()
        elif isinstance(step, Switch):
            self._set_switch(step.engaged)
        elif isinstance(step, Flatten):
            self._flatten()
        else:
            if isinstance(step, Lose):
                step = step._replace(seconds=min(step.seconds, LONGEST_LATE_S))
            asyncio.run(happen_at_venue(step, self.venue, self.prices))
        self._keep_alive()

    def seen(self) -> Seen:
        """Return what there is to see; of the broker first, so that the log has all of it."""
        account, requests = self.broker.account(), self.broker.requests()
        ledger = books(self.floor, self.broker.account_id)
        return Seen(ledger, account, requests, self.switch, SLACK_S)

    def settle(self) -> None:
        """Let everything work again, leave it alone, and assert what must hold then."""
        self.happen(Heal())
        for name in PAIRS:
            self.happen(Halt(name, False))
            self.happen(Delist(name, False))
        end = time.monotonic() + PATIENCE_S
        while True:
            self._keep_alive()
            said, seen = self.executor.status(), self.seen()
            require_sound(seen)
            try:
                assert said is not None and said["reconciled"], self.executor.words()
                require_settled(seen, due_to_close(seen.ledger, self.told))
                return
            except AssertionError:
                if time.monotonic() > end:
                    raise
            time.sleep(0.2)

    def run(self, history: History) -> Seen:
        """Run a history: healed and left alone at its end, then closed by its runs."""
        try:
            switch_off(self.floor)
            self.switch.append((0.0, False))
            self.prices = asyncio.run(prepare(self.venue))
            self.script = script_of(self.floor)
            self.executor.start()
            self.executor.until_reconciled()
            self.happen(Bar((0, 0, 0)))
            for step in history:
                self.happen(step)
            self.settle()
            self.happen(Bar((0, 0, 0)))
            self.settle()
            seen = self.seen()
            assert not seen.ledger.holdings, "every run has ended"
        except Exception as error:
            error.add_note(f"history = {shown(history)}\n{self.executor.words()}")
            raise
        return seen
