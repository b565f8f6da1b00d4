"""Ctrl-C: what holds it back, and where work that never waits lets it in."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading

import pytest

from streams.pipeline.chain import make_chain
from streams.pipeline.memory import Derivation
from streams.process.interrupts import hold_interrupts, redeliver_lost_interrupts
from tests.support.changing_log import a_log, changing_control
from tests.support.stage_bench import CODEC
from tests.support.waiting import PATIENCE_S


@pytest.fixture(autouse=True)
def handler_of_a_command() -> None:
    """What holds in a command that has no handler of its own."""
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_takes_effect_when_what_cannot_take_it_has_ended() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), hold_interrupts():
        signal.raise_signal(signal.SIGINT)
        done.append("all of it")
    assert done == ["all of it"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_an_interrupt_that_another_thread_receives_is_held_back_too() -> None:
    done = []
    waiting, go_on = threading.Event(), threading.Event()

    def receive() -> None:
        waiting.set()
        go_on.wait()
        signal.raise_signal(signal.SIGINT)

    receiver = threading.Thread(target=receive)
    receiver.start()  # before the signal is blocked: a thread inherits what is
    waiting.wait()
    with pytest.raises(KeyboardInterrupt), hold_interrupts():
        go_on.set()
        receiver.join()
        done.append("all of it")
    assert done == ["all of it"]


def test_without_an_interrupt_nothing_happens_and_errors_pass() -> None:
    with pytest.raises(ZeroDivisionError), hold_interrupts():
        raise ZeroDivisionError
    with hold_interrupts():
        pass
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_that_raises_nothing_stays_in_place() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    try:
        with hold_interrupts():
            signal.raise_signal(signal.SIGINT)
            assert heard == []
        assert heard == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_process_that_is_started_inside_never_receives_one() -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGINT); print('still here')"
    with hold_interrupts():
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "still here\n")


def test_in_another_thread_it_leaves_the_handler_alone() -> None:
    found = []

    def look() -> None:
        with hold_interrupts():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler]


class Finalized:
    """Receives an interrupt while it is deleted."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def test_an_interrupt_inside_a_finalizer_is_delivered_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)
    redeliver_lost_interrupts()
    with pytest.raises(KeyboardInterrupt):
        made = Finalized()
        del made
        threading.Event().wait(PATIENCE_S / 10)
    assert capsys.readouterr().err == ""


def test_other_errors_of_finalizers_are_printed_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    printed: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: printed.append(lost.exc_type))
    redeliver_lost_interrupts()

    class Broken:
        def __del__(self) -> None:
            raise ZeroDivisionError

    Broken()
    assert printed == [ZeroDivisionError]


def test_a_derivation_is_interrupted_at_its_next_chunk() -> None:
    derivation = Derivation()
    derivation.use(make_chain(CODEC, changing_control()).stages)
    log, fed = a_log(1), []

    async def feed() -> None:
        for start in range(0, len(log), 100):
            await derivation.feed(log[start : start + 100])
            fed.append(start)
            if len(fed) == 2:
                signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(feed())
    assert len(fed) == 2
