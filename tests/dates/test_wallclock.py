"""The library that moves a clock: what it moves, and what it leaves alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis

from streams.stack.valkey import ValkeyServer
from tests.dates.wallclock import MovableClock, moved_by
from tests.support.waiting import until

DAY_S = 86_400
PROGRAM = """
import asyncio, json, queue, subprocess, threading, time
begun = time.monotonic()
time.sleep(0.1)
threading.Event().wait(0.1)
threading.Lock().acquire(timeout=0.1) and threading.Lock().acquire(timeout=0.1)
try:
    queue.Queue().get(timeout=0.1)
except queue.Empty:
    pass
asyncio.run(asyncio.sleep(0.1))
took = time.monotonic() - begun
child = int(subprocess.check_output(["date", "+%s"]))
import datetime
now = datetime.datetime.now(datetime.UTC).timestamp()
print(json.dumps([time.time(), now, child, took]))
"""


@pytest.mark.parametrize("offset_s", [-1000 * DAY_S, -7_200, 7_200])
def test_a_process_and_its_children_see_the_moved_clock_and_wait_as_long_as_before(
    offset_s: int,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | moved_by(offset_s),
        capture_output=True,
        text=True,
        check=True,
    )
    *seen, took = json.loads(done.stdout)
    wanted = time.time() + offset_s
    for now in seen:
        assert 0 <= wanted - now < 600
    assert 0.4 <= took < 600, "an absolute deadline was not moved back"


def test_a_clock_moves_while_a_program_runs(tmp_path: Path) -> None:
    clock = MovableClock(tmp_path / "offset")
    program = "import sys, time\nfor line in sys.stdin: print(time.time(), flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env=os.environ | clock.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdin is not None and running.stdout is not None
        for offset_s in (0, 7_200, -7_200, 0):
            clock.move_to(offset_s)
            running.stdin.write("\n")
            running.stdin.flush()
            assert abs(float(running.stdout.readline()) - time.time() - offset_s) < 600
        running.stdin.close()


def test_valkey_sees_the_moved_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = MovableClock(tmp_path / "offset")
    for name, value in clock.environment.items():
        monkeypatch.setenv(name, value)
    server = ValkeyServer(tmp_path / "valkey")
    server.start()
    try:
        with redis.Redis.from_url(server.url) as client:
            client.set("kept", 1, px=60_000)
            clock.move_to(-7_200)
            # the server looks at the clock between its rounds
            until(lambda: abs(client.time()[0] + 7_200 - time.time()) < 600, "it sees the clock")
            clock.move_to(7_200)
            until(lambda: client.get("kept") is None, "it runs out by that clock")
    finally:
        server.stop()
