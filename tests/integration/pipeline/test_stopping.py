"""Processes told to stop while they start, and commands interrupted at work: no traceback."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.process.child import Child, free_port
from streams.records.topics import SIGNALS
from streams.stack.kafka import KafkaBroker
from tests.support.candle_files import market, write_csv
from tests.support.deployment import Deployment, random_instants
from tests.support.waiting import PATIENCE_S, until

pytestmark = pytest.mark.kafka

INTERRUPTED = (130, -signal.SIGINT)
"""Python ends by the signal itself where it came while a module's text was being run."""


@pytest.fixture
def deployment(
    tmp_path: Path, topic_prefix: str, kafka: KafkaBroker, valkey_url: str
) -> Iterator[Deployment]:
    made = Deployment(
        tmp_path,
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
        VALKEY_URL=valkey_url,
        TOPIC_PREFIX=topic_prefix,
    )
    yield made
    made.stop()


def catches_sigterm(pid: int) -> bool:
    """Return whether the process has a handler of its own for SIGTERM."""
    fields = dict(
        line.split(":", 1)
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    )
    return bool(int(fields["SigCgt"], 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize(
    "command",
    [
        ("worker",),
        ("mirror",),
        ("serve",),
        ("trade",),
        ("kill", "keep"),
        ("feed", "synthetic", "--live"),
    ],
    ids=" ".join,
)
def test_told_to_stop_while_it_starts(deployment: Deployment, command: tuple[str, ...]) -> None:
    others = ("WS_PORT", "ALLOCATOR_STATUS_PORT", "HYDRATOR_STATUS_PORT", "TRADE_STATUS_PORT")
    settings = dict.fromkeys(others, "0") | {"API_PORT": str(free_port())}
    for after_s in (0.0, *random_instants(11, 2, 0.0, 2.0)):
        process = deployment.start(command[0], *command, **settings).child
        process.wait_until(lambda process=process: catches_sigterm(process.pid), PATIENCE_S)
        time.sleep(after_s)
        assert process.stop() == 0, (after_s, process.last_output(60))


@pytest.mark.parametrize(
    "command",
    [
        ("feed", "synthetic", "--bars", "50000", "--start", "2024-03-04"),
        ("tail", "md.candles", "--follow"),
        ("replay", "--topic", "sep.signals"),
        ("replay", "--processes", "2"),
        ("verify", "--processes", "2"),
        ("topics", "check"),
    ],
    ids=" ".join,
)
def test_interrupted_at_work(deployment: Deployment, command: tuple[str, ...]) -> None:
    filled = deployment.run("feed", "synthetic", "--bars", "2000", "--start", "2024-02-26")
    assert filled.returncode == 0, filled.stderr
    for number, after_s in enumerate(random_instants(17, 3, 1.0, 3.0)):
        process = deployment.start(f"{command[0]}-{number}", *command).child
        time.sleep(after_s)
        require_interrupted(process)


def require_interrupted(process: Child, ended: tuple[int, ...] = (0, *INTERRUPTED)) -> None:
    """Interrupt a command as a terminal does; assert that it ends without a traceback."""
    os.killpg(process.pid, signal.SIGINT)
    until(lambda: not process.running, lambda: process.last_output(60))
    said = process.log.read_text()
    assert "Traceback" not in said, said[-3_000:]
    assert process.returncode in ended, said[-3_000:]


def test_a_replay_to_records_ends_where_it_is(deployment: Deployment) -> None:
    bars = 12_000
    path = write_csv(deployment.directory / "long.csv", market(("EUR_USD",), bars))
    process = deployment.start("long", "replay", path, "--topic", SIGNALS).child
    process.wait_until(lambda: b"\n" in process.log.read_bytes(), PATIENCE_S)
    require_interrupted(process, INTERRUPTED)
    assert process.log.read_bytes().count(b"\n") < bars // 2, "it went on to its end"
