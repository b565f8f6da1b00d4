"""The kill switch: what a question costs, and how fast a word is in the log and in the key."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from streams.stack.kafka import KafkaBroker
from streams.stack.valkey import ValkeyServer
from tests.perf.rows import Row, at_rank, row
from tests.support.kill_switch_place import KEY, Place
from tests.support.waiting import until

QUESTIONS, WORDS = 2_000, 20


def rows() -> list[Row]:
    """Measure and return the rows of the table."""
    with tempfile.TemporaryDirectory(prefix="manifold-bench-") as name:
        directory = Path(name)
        broker = KafkaBroker(directory / "kafka")
        broker.start()
        valkey = ValkeyServer(directory / "valkey")
        valkey.start()
        try:
            place = Place(broker.bootstrap, "bench.", valkey.url, KILL_SWITCH="0")
            try:
                return _measured(place)
            finally:
                place.close()
        finally:
            valkey.stop()
            broker.stop()


def _measured(place: Place) -> list[Row]:
    keeper, reader, stopping = place.keeper(), place.reader(), threading.Event()

    def keep() -> None:
        while not stopping.wait(0.2):
            keeper.round()

    thread = threading.Thread(target=keep)
    thread.start()
    try:
        until(lambda: not reader.read().engaged)
        _timed(lambda: reader.read(), 200)
        asked = _timed(lambda: reader.read(), QUESTIONS)
        assert not reader.read().engaged
        set_to_log, on_to_answer, on_returns = [], [], []
        for _ in range(WORDS):
            _clear(place)
            began = time.perf_counter()
            place.valkey.set(KEY, "1")
            until(lambda: reader.read().actor == "valkey", every_s=0.001)
            set_to_log.append(time.perf_counter() - began)
            until(lambda: place.valkey.pttl(KEY) > 0)
            _clear(place)
            began = time.perf_counter()
            on = threading.Thread(target=place.on)
            on.start()
            until(lambda: reader.read().engaged, every_s=0.001)
            on_to_answer.append(time.perf_counter() - began)
            on.join()
            on_returns.append(time.perf_counter() - began)
        return [
            _row("kill.read", "kill switch: one read, nothing new in the log", asked),
            _row(
                "kill.set",
                "kill switch: SET ops:kill_switch 1 to its record in the log",
                set_to_log,
            ),
            _row("kill.on", "kill switch: engage called to a reader's answer", on_to_answer),
            _row(
                "kill.return", "kill switch: engage called to its return, log and key", on_returns
            ),
        ]
    finally:
        stopping.set()
        thread.join()


def _clear(place: Place) -> None:
    place.off(wait_s=0.0)
    until(lambda: place.plain() == "off")


def _timed(act: Callable[[], Any], count: int) -> list[float]:
    took = []
    for _ in range(count):
        began = time.perf_counter()
        act()
        took.append(time.perf_counter() - began)
    return took


def _row(key: str, name: str, took: list[float]) -> Row:
    note = f"p95 {at_rank(took, 0.95) * 1e3:.2f} ms, slowest {max(took) * 1e3:.2f} ms"
    return row(
        key, name, at_rank(took, 0.5) * 1e3, "ms", f"median of {len(took):,}, one by one", note=note
    )
