"""Everything is killed, frozen and emptied at random instants; nobody ever reads a false "off".

An observer reads the key all the time, as a naive consumer does: exactly "0" is off. From an
acknowledged ``on``, or an operator's acknowledged ``SET`` to 1, until somebody begins to say off,
it must not see off once.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from streams.errors import Recoverable
from streams.process.child import Child
from streams.stack.kafka import QUICK_JVM, KafkaBroker
from streams.stack.valkey import ValkeyServer
from streams.trading.kill_switch.commands import NotCleared
from streams.trading.kill_switch.keeper import ROUND_S
from tests.support.environment import kept_environment
from tests.support.kill_switch_place import KEY, Place, plain_observer
from tests.support.waiting import until

ROUNDS = int(os.environ.get("MANIFOLD_FAULT_KILLS", "10"))
MAX_AGE_S = 1.5
IN_A_ROUND_S = ROUND_S + 0.15
"""So long after the broker was stopped the keeper has looked at the key and asks for the log's end:
what it does with the answer rests on that look, however long the answer takes."""
WORDS = ("on", "set")
FAULTS = ("keeper", "valkey", "emptied", "frozen", "kafka")

NEEDED = {"on": ("kafka",), "set": ("valkey", "emptied")}

pytestmark = pytest.mark.kafka


def nothing() -> None:
    """Heal what needs no healing."""


class Stage:
    """A place of its own whose every process can be killed, with an observer."""

    def __init__(self, broker: KafkaBroker, server: ValkeyServer, directory: Path) -> None:
        self.broker, self.server = broker, server
        self.place = Place(
            broker.bootstrap,
            "faults.",
            server.url,
            KILL_SWITCH="0",
            KILL_SWITCH_MAX_AGE_SEC=f"{MAX_AGE_S:g}",
        )
        kept = kept_environment()
        command = [sys.executable, "-m", "streams", "kill", "keep"]
        env = kept | self.place.environment
        self.keeper = Child("keeper", command, directory / "keeper.log", env)
        self.observer = plain_observer(server.url)
        self.observer.start()

    def stop(self) -> None:
        self.observer.stop()
        self.keeper.stop()
        self.place.close()

    def run(self, seconds: float) -> None:
        """Let time pass; a keeper that was killed comes back."""
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            self.revive()
            time.sleep(0.01)

    def revive(self) -> bool:
        """Start the keeper where it was killed or gave up."""
        if not self.keeper.running:
            self.keeper.start()
        return False

    def clear(self) -> None:
        """Say off until it is; what is refused because a word is on its way is said again."""

        def off() -> bool:
            self.revive()
            if self.place.plain() == "off":
                return True
            with suppress(NotCleared, Recoverable):
                self.place.off(wait_s=1.0)
            return self.place.plain() == "off"

        until(off)

    def engage(self, word: str) -> None:
        """Engage, until that is acknowledged."""
        if word == "on":
            # an answer that was lost is asked for again: the observer counts from the first one
            until(self._on)
        else:
            until(lambda: self.place.valkey.set(KEY, "1"))

    def _on(self) -> bool:
        try:
            return not self.place.on(valkey_wait_s=MAX_AGE_S + 1.0).key_problem
        except Recoverable:
            return False

    def fault(self, name: str, chance: random.Random) -> Callable[[], None]:
        """Do it; return what ends it."""
        if name == "keeper":
            self.keeper.kill()
        elif name == "frozen":
            os.kill(self.keeper.pid, signal.SIGSTOP)
            time.sleep(chance.uniform(0.0, 0.2))
            return lambda: os.kill(self.keeper.pid, signal.SIGCONT)
        elif name == "kafka":
            self.broker.kill()
            return self.broker.start
        else:
            self.server.kill()
            if name == "emptied":
                shutil.rmtree(self.server.directory / "appendonlydir", ignore_errors=True)
            return self.server.start
        return nothing


@pytest.fixture(scope="module")
def stage(kafka: KafkaBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Servers of its own: a test that can have the shared Kafka can have another."""
    place = tmp_path_factory.mktemp("kill-switch")
    broker = KafkaBroker(place / "kafka", jvm=QUICK_JVM)
    server = ValkeyServer(place / "valkey")
    broker.start()
    server.start()
    made = Stage(broker, server, place)
    yield made
    made.stop()
    server.stop()
    broker.stop()


def require_never_off(stage: Stage, since: float, what: str) -> None:
    before = time.monotonic()
    assert stage.observer.looks(since, before) > 10, "hardly anybody was looking"
    stage.observer.require_never_off(since, before, what)


def test_no_fault_at_any_instant_shows_an_off_that_nobody_said(stage: Stage) -> None:
    chance = random.Random(20)
    place, reader = stage.place, stage.place.reader()
    for number in range(ROUNDS):
        stage.clear()
        until(lambda: not reader.read().engaged)
        told = len(place.words())
        word = WORDS[number % len(WORDS)]
        fault = FAULTS[number // len(WORDS) % len(FAULTS)]
        # a word that is lost before the keeper has seen it is the worst that can happen to one
        first = chance.random() < 0.5 and (word, fault) != ("set", "emptied")
        if first:
            heal = stage.fault(fault, chance)
            time.sleep(chance.uniform(0.0, 0.3))
            if fault in NEEDED[word]:
                heal()  # a word needs somebody who acknowledges it
                heal = nothing
            stage.engage(word)
            since = time.monotonic()
        else:
            stage.engage(word)
            since = time.monotonic()
            if word == "set" and fault == "valkey":
                # acknowledged and lost within a round of the keeper is what nobody can know
                place.valkey.execute_command("WAITAOF", 1, 0, 5_000)
            time.sleep(chance.uniform(0.0, 0.05 if fault == "emptied" else 0.25))
            heal = stage.fault(fault, chance)
        stage.run(chance.uniform(0.0, 0.5))
        heal()
        stage.run(0.6)
        until(lambda: reader.read().log is not None)
        assert reader.read().engaged
        require_never_off(stage, since, f"round {number}: {word}, {fault}, {first=}")
        until(lambda told=told: len(place.words()) > told)
        assert any(w.value == '{"engaged":true}' for w in place.words()[told:])


def test_a_restart_of_everything_keeps_what_was_said(stage: Stage) -> None:
    reader = stage.place.reader()
    for engaged in (False, True):
        if engaged:
            stage.engage("on")
            since = time.monotonic()
        else:
            stage.clear()
        told = len(stage.place.words())
        stage.keeper.kill()
        stage.server.kill()
        stage.broker.kill()
        stage.broker.start()
        stage.server.start()
        stage.revive()
        until(lambda: stage.revive() or reader.read().log is not None)
        if engaged:
            stage.run(1.0)
            require_never_off(stage, since, "everything was restarted")
            assert reader.read().engaged
        else:
            until(lambda: stage.revive() or not reader.read().engaged)
        assert len(stage.place.words()) == told


@contextmanager
def frozen(child: Child) -> Iterator[None]:
    """Stop a process for the block."""
    child.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        child.signal(signal.SIGCONT)


def test_an_operators_word_in_the_middle_of_a_round_is_never_overwritten(stage: Stage) -> None:
    for _ in range(3):
        stage.clear()
        told = len(stage.place.words())
        with frozen(stage.broker.child):
            time.sleep(IN_A_ROUND_S)
            stage.engage("set")
            since = time.monotonic()
        until(lambda told=told: len(stage.place.words()) > told)
        stage.run(0.5)
        require_never_off(stage, since, "set in the middle of a round")
        assert stage.place.words()[told].actor == "valkey"


def test_a_keeper_frozen_in_a_round_while_somebody_engages_does_not_wake_up_to_say_off(
    stage: Stage,
) -> None:
    for longer in (False, True):
        stage.clear()
        stage.broker.child.signal(signal.SIGSTOP)
        time.sleep(IN_A_ROUND_S)
        with frozen(stage.keeper):
            # the broker answers the keeper's question first, and then takes the word
            stage.broker.child.signal(signal.SIGCONT)
            time.sleep(0.1)
            stage.engage("on")
            since = time.monotonic()
            if longer:
                time.sleep(MAX_AGE_S + 0.5)
                assert stage.place.valkey.get(KEY) is None, "nobody proves that he lives"
        until(lambda: stage.place.valkey.get(KEY) == b"1")
        stage.run(0.5)
        require_never_off(stage, since, "the keeper woke up")
