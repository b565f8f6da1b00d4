"""An executor with open positions under another prefix: it goes on with what it holds."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streams.feeds.synthetic import BarArrivals, MarketRates, synthetic_market
from streams.kafka.control_topic import append_control
from streams.records.topics import FILLS, ORDERS
from streams.stack.kafka import KafkaBroker
from streams.trading.flatten import flatten_record
from tests.support.deployment import Deployment
from tests.support.migration import elsewhere, require_copy
from tests.support.oanda_venue import MONDAY_MS
from tests.support.trading import (
    PAIRS,
    BarByBar,
    ExecutorProcess,
    await_that,
    oanda_floor,
    require_exact,
    switch_off,
)
from tests.support.v20 import V20Process

pytestmark = pytest.mark.kafka

HISTORY, MOST = 150, 150
HOURS = 20
SETTINGS = {
    "AUTO_MIN_COHERENCE": "0.2",
    "GUARD_MIN_STABILITY": "0",
    "AUTO_MAX_RUPTURE": "1",
    "AUTO_MAX_ENTROPY": "1",
    "SESSION_PATTERN_MIN_OCCURRENCES": "1",
    "AUTO_DIR_THRESHOLD_BPS": "0.5",
    "EXIT_PNL_TARGET_PCT": "5",
    "EXIT_PNL_STOP_PCT": "5",
    "PM_RAMP_STEP_PCT": "1",
    "PM_DEFAULT_HOLD_SECONDS": "3600",
}
"""A run that enters within some bars, and is ended by its slope or its longest hold alone."""


@pytest.fixture
def broker() -> Iterator[V20Process]:
    with V20Process(hours="always") as made:
        yield made


@pytest.fixture
def floor(
    kafka: KafkaBroker, valkey_url: str, topic_prefix: str, tmp_path: Path, broker: V20Process
) -> Iterator[Deployment]:
    made = oanda_floor(tmp_path, kafka.bootstrap, topic_prefix, valkey_url, broker, **SETTINGS)
    yield made
    made.stop()


def follow(executor: ExecutorProcess, at_ms: int) -> dict[str, Any]:
    """Wait until the executor has followed every instrument to a bar; return its status."""
    return executor.until(
        lambda said: (
            said["reconciled"]
            and not said["unresolved"]
            and said["epoch_ms"] >= at_ms
            and all(said["decided_ms"].get(pair, 0) >= at_ms for pair in PAIRS)
        )
    )


def bars_until(bars: BarByBar, executor: ExecutorProcess, joined: bool) -> dict[str, Any]:
    """Write bars until something is held, or nothing any more; return the status then."""
    for _ in range(MOST):
        said = follow(executor, bars.next().as_of_ms)
        if bool(said["joined"]) is joined:
            return said
    raise AssertionError(executor.words())


def market_from(start_ms: int) -> Iterator[BarArrivals]:
    """Return a weekday's market as if it began at ``start_ms``, whatever day that is."""
    ahead_ms = start_ms - MONDAY_MS
    for bar in synthetic_market(5, PAIRS, MONDAY_MS, None, rates=MarketRates(20, 0, 0)):
        candles = tuple(
            c._replace(bar_ms=c.bar_ms + ahead_ms, as_of_ms=c.as_of_ms + ahead_ms)
            for c in bar.candles
        )
        yield bar._replace(as_of_ms=bar.as_of_ms + ahead_ms, candles=candles)


def sent(deployment: Deployment) -> list[str]:
    """Return the ids of the orders that were to be sent, ascending."""
    return sorted(intent.order_id for intent in deployment.events(ORDERS) if intent.submitted)


def test_open_positions_are_the_same_after_and_are_closed_by_the_run(
    floor: Deployment, broker: V20Process, tmp_path: Path
) -> None:
    start_ms = int(time.time() * 1000) // 60_000 * 60_000 - HOURS * 3_600_000
    market = market_from(start_ms)
    worker = floor.start_worker()
    bars = BarByBar(floor, market, start_ms)
    for _ in range(HISTORY):
        bars.next()
    switch_off(floor)
    former = ExecutorProcess(floor)
    former.start()
    former.until_reconciled()
    before = bars_until(bars, former, joined=True)
    last_ms = bars.next().as_of_ms
    before = follow(former, last_ms)
    require_exact(floor, broker)
    assert floor.run("kill", "on", "--reason", "another engine").returncode == 0
    assert worker.stop() == 0 and floor.processes["keeper"].stop() == 0
    orders, positions = (broker.account()[name] for name in ("clientOrders", "positions"))

    # the former executor is left running: the migration ends it before it can send anything more
    prefix = f"n{floor.runtime.topic_prefix}"
    done = floor.run("migrate", "--to-prefix", prefix, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["complete"]
    moved = elsewhere(floor, tmp_path / "moved", prefix)
    (tmp_path / "moved").mkdir()
    assert require_copy(floor, moved)[FILLS] > 0
    now_ms = int(time.time() * 1000)
    record = flatten_record(broker.account_id, "ops", "after the copy", now_ms)
    append_control(floor.runtime, floor.codec, [record])
    assert former.process is not None
    child = former.process.child
    await_that(lambda: not child.running, former.words)
    assert child.returncode == 70, former.words()
    assert broker.account()["clientOrders"] == orders

    try:
        # too early on purpose: nothing is derived yet, and then everything is derived again
        executor = ExecutorProcess(moved)
        executor.start()
        executor.until_reconciled()
        moved.start_worker()
        follow(executor, last_ms)
        await_that(lambda: executor.status()["differences"] == [], executor.words)
        after = executor.status()
        assert after["joined"] == before["joined"]
        assert broker.account()["clientOrders"] == orders
        assert broker.account()["positions"] == positions
        assert sent(moved) == sent(floor)
        assert moved.run("kill", "status").returncode == 1, "the kill switch is off"

        # the run closes, and the kill switch does not hold that back
        going_on = BarByBar(moved, market, last_ms)
        bars_until(going_on, executor, joined=False)
        ledger = require_exact(moved, broker)
        assert not ledger.holdings
        closed = {i.instrument for i in moved.events(ORDERS) if i.kind == "close"}
        assert set(before["joined"]) <= closed
        opened = {i.order_id for i in moved.events(ORDERS) if i.kind == "open" and i.submitted}
        assert opened <= orders.keys(), "something was opened with the kill switch engaged"
        moved.require_verified()
        assert executor.process is not None and executor.process.stop() == 0
    finally:
        moved.stop()
