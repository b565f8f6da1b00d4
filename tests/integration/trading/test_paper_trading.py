"""The executor on its paper account, against the backtest it follows."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from streams.feeds.synthetic import MarketRates, synthetic_market
from streams.records.events import SimulatedTrade
from streams.records.topics import FILLS, ORDERS, TRADES
from streams.records.trading_events import BrokerReport, OrderIntent
from streams.stack.kafka import KafkaBroker
from tests.support.deployment import LIVELY, Deployment
from tests.support.trading import BarByBar, ExecutorProcess, switch_off

pytestmark = pytest.mark.kafka

START_MS = 1_709_546_400_000  # Monday 2024-03-04 10:00 UTC: London is open
PAIRS = ("EUR_USD", "GBP_USD")
HISTORY, BARS, RESTART_EVERY = 150, 220, 37
MINUTE = 60_000

TRADING = LIVELY | {
    "GATE_MODE": "static",
    "AUTO_MIN_COHERENCE": "0.2",
    "GUARD_MIN_STABILITY": "0",
    "AUTO_MAX_RUPTURE": "1",
    "EXIT_PNL_TARGET_PCT": "0.02",
    "EXIT_PNL_STOP_PCT": "0.03",
    "MAX_SPREAD_BPS": "50",
    "RECONCILE_INTERVAL_SEC": "3600",
    "PM_RAMP_STEP_PCT": "1",
    "TOPIC_PARTITIONS": "2",
    "HOTBAND_PAIRS": ",".join(PAIRS),
}


class Traded(NamedTuple):
    """What the log holds when the market has ended."""

    trades: list[SimulatedTrade]
    intents: list[OrderIntent]
    reports: list[BrokerReport]
    status: dict[str, Any]


@pytest.fixture(scope="module")
def traded(
    kafka: KafkaBroker, new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Traded]:
    """A market through worker and executor, which keeps up with every bar and is killed at times.

    After kill -9 the paper account is what the log makes of it: a trade that goes on across a
    restart ends in the bar and at the price of the backtest like any other.
    """
    deployment = Deployment(
        tmp_path_factory.mktemp("paper"),
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
        TOPIC_PREFIX=f"t{uuid.uuid4().hex[:8]}.",
        VALKEY_URL=new_database(),
        **TRADING,
    )
    try:
        deployment.start_worker()
        market = synthetic_market(5, PAIRS, START_MS, None, rates=MarketRates(20, 0, 0))
        bars = BarByBar(deployment, market, START_MS)
        for _ in range(HISTORY):
            bars.next()
        switch_off(deployment)
        executor = ExecutorProcess(deployment)
        executor.start()
        executor.until_reconciled()
        for number in range(BARS):
            if number % RESTART_EVERY == RESTART_EVERY - 1:
                assert executor.process is not None
                executor.process.child.kill()
                executor.start()
                executor.until_reconciled()
            at_ms = bars.next().as_of_ms
            executor.until(
                lambda said, at_ms=at_ms: (
                    said["epoch_ms"] >= at_ms
                    and all(said["decided_ms"].get(pair, 0) >= at_ms for pair in PAIRS)
                )
            )
        status = executor.status()
        assert status is not None
        assert executor.process is not None
        assert executor.process.stop() == 0, executor.words()
        reports = [r for r in deployment.events(FILLS) if isinstance(r, BrokerReport)]
        yield Traded(deployment.events(TRADES), deployment.events(ORDERS), reports, status)
    finally:
        deployment.stop()


def fills(traded: Traded, opening: OrderIntent) -> list[BrokerReport]:
    """Return the fills of a joined trade, in order."""
    mine = {
        i.order_id
        for i in traded.intents
        if (i.instrument, i.entry_bar_ms) == (opening.instrument, opening.entry_bar_ms)
    }
    found = [r for r in traded.reports if r.order_id in mine and r.status == "filled"]
    return sorted(found, key=lambda report: int(report.transaction_id))


def test_a_joined_trade_has_the_bars_and_prices_of_the_backtests(traded: Traded) -> None:
    simulated = {(t.instrument, t.entry_bar_ms): t for t in traded.trades}
    joined = [i for i in traded.intents if i.kind == "open" and i.submitted]
    compared = []
    for opening in joined:
        done = fills(traded, opening)
        if len(done) < 2:
            continue  # still open at the end
        entry, leave = done[0], done[-1]
        trade = simulated[opening.instrument, entry.time_ms]
        assert (entry.price, leave.price) == (trade.entry_price, trade.exit_price), opening
        assert (entry.time_ms, leave.time_ms) == (trade.entry_bar_ms, trade.exit_bar_ms)
        assert (1 if entry.side == "buy" else -1) == trade.direction
        assert entry.units == leave.units == opening.units
        compared.append((trade.exit_reason, trade.direction))
    assert len(compared) >= 8, [i.guards for i in traded.intents]
    assert {"stop", "target"} <= {reason for reason, _ in compared}
    assert {reason for reason, _ in compared} - {"stop", "target"}, "none was closed by the run"
    assert {direction for _, direction in compared} == {1, -1}
    restarts = [
        START_MS + (HISTORY + n) * MINUTE for n in range(RESTART_EVERY - 1, BARS, RESTART_EVERY)
    ]
    crossed = [
        opening
        for opening in joined
        for done in [fills(traded, opening)]
        if len(done) >= 2 and any(done[0].time_ms < at < done[-1].time_ms for at in restarts)
    ]
    assert crossed, "no trade went on across a restart"


def test_money_and_books_are_the_sum_of_the_fills(traded: Traded) -> None:
    realized = sum(report.realized_pl or 0.0 for report in traded.reports)
    account = traded.status["account"]
    assert account["balance"] == pytest.approx(100_000.0 + realized)
    assert realized != 0.0
    held: dict[str, float] = {}
    for report in traded.reports:
        if report.status == "filled":
            sign = 1 if report.side == "buy" else -1
            held[report.instrument] = held.get(report.instrument, 0.0) + sign * report.units
    joined = {n: j["direction"] * j["units"] for n, j in traded.status["joined"].items()}
    assert {name: units for name, units in held.items() if units} == joined
