"""Closing while the broker answers no questions: flatten and a restarted executor.

Every endpoint that tells something of the account is down, alone and in pairs, for as long as it
takes. When the broker has closed the position is printed (pytest -s): its own log of requests says.
"""

from __future__ import annotations

import itertools
import os
import time
import uuid
from collections.abc import Iterator, Sequence

import pytest

from streams.stack.kafka import KafkaBroker
from tests.support.deployment import Deployment
from tests.support.trading import (
    PAIRS,
    ExecutorProcess,
    await_that,
    flat,
    oanda_floor,
    require_exact,
    script_of,
    switch_off,
)
from tests.support.v20 import V20Process

pytestmark = pytest.mark.kafka

READS = {
    "trades": r"/openTrades$",
    "positions": r"/openPositions$",
    "orders": r"/pendingOrders$",
    "summary": r"/summary$",
    "transactions": r"/transactions/sinceid$",
    "pricing": r"/pricing$",
    "instruments": r"/instruments$",
}
SINGLES = [(name,) for name in READS]
ALL_PAIRS = list(itertools.combinations(READS, 2))
PAIRS_DOWN = ALL_PAIRS if os.environ.get("MANIFOLD_FAULT_KILLS") else [
    ("trades", "transactions"), ("trades", "positions"), ("summary", "transactions"),
]  # fmt: skip


@pytest.fixture(scope="module")
def broker() -> Iterator[V20Process]:
    with V20Process(hours="always") as made:
        yield made


@pytest.fixture(scope="module")
def floor(
    kafka: KafkaBroker,
    new_database: object,
    tmp_path_factory: pytest.TempPathFactory,
    broker: V20Process,
) -> Iterator[Deployment]:
    """A deployment whose venue is the test broker; one for all cases."""
    assert callable(new_database)
    made = oanda_floor(
        tmp_path_factory.mktemp("reads"), kafka.bootstrap, f"t{uuid.uuid4().hex[:8]}.",
        new_database(), broker, OANDA_HTTP_BACKOFF="1",
    )  # fmt: skip
    yield made
    made.stop()


@pytest.fixture(scope="module")
def script(floor: Deployment) -> object:
    switch_off(floor)
    return script_of(floor)


def opened(floor: Deployment, script: object) -> ExecutorProcess:
    """Open two positions, with a trade of somebody else beside one; kill the executor."""
    assert floor.run("kill", "off", "--reason", "the next case").returncode == 0
    executor = ExecutorProcess(floor, PM_RAMP_STEP_PCT="1")
    executor.start()
    executor.until_reconciled()
    script.bar(dict.fromkeys(PAIRS, 0))  # type: ignore[attr-defined]
    script.bar({"EUR_USD": 1, "GBP_USD": -1})  # type: ignore[attr-defined]
    executor.until(lambda said: len(said["joined"]) == 2 and not said["unresolved"])
    assert executor.process is not None
    executor.process.child.kill()
    return executor


def down(broker: V20Process, names: Sequence[str], **fault: object) -> None:
    for name in names:
        broker.fault(method="GET", path=READS[name], **{"kind": "status", "code": 503, **fault})  # type: ignore[arg-type]


def closed_after_s(broker: V20Process, begun: float) -> float:
    """Return when the last of the two positions was closed, in seconds since ``begun``."""
    found = [r["time"] for r in broker.requests("/close") if r["time"] > begun]
    assert len(found) >= 2, broker.requests("/close")
    return float(max(found)) - begun


@pytest.mark.parametrize("names", [*SINGLES, *PAIRS_DOWN], ids="+".join)
def test_flatten_closes_whatever_cannot_be_read(
    floor: Deployment, script: object, broker: V20Process, names: tuple[str, ...]
) -> None:
    opened(floor, script)
    down(broker, names)
    begun = time.time()
    done = floor.run("flatten", "--reason", "storm", "--within", "60")
    after_s = closed_after_s(broker, begun)
    broker.clear_faults()
    print(f"CLOSED {'+'.join(names)}: {after_s:.2f} s, ended {time.time() - begun:.1f} s")
    assert broker.account()["positions"] == {}
    assert done.returncode == 0, done.stdout + done.stderr
    unread = {"trades", "positions", "orders", "summary", "transactions"} & set(names)
    assert done.stderr.count("could not be read") == len(unread), done.stderr
    require_exact(floor, broker)


def test_a_restarted_executor_closes_what_the_run_has_left_while_nothing_can_be_read(
    floor: Deployment, script: object, broker: V20Process
) -> None:
    executor = opened(floor, script)
    down(broker, list(READS), kind="hang")
    script.bar(dict.fromkeys(PAIRS, 0))  # type: ignore[attr-defined]
    executor.start()
    await_that(lambda: broker.account()["positions"] == {}, executor.words)
    broker.clear_faults()
    executor.until(flat)
    require_exact(floor, broker)
    assert executor.process is not None
    executor.process.stop()
