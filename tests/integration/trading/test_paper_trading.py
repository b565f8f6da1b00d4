"""The executor on its paper account, against the backtest it follows."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from confluent_kafka import Producer

from streams.feeds.synthetic import MarketRates, synthetic_market
from streams.kafka.client import producer_config
from streams.kafka.reader import LogReader
from streams.records.events import SimulatedTrade
from streams.records.topics import FILLS, GATES, ORDERS, TRADES, WEIGHTS
from streams.records.trading_events import BrokerReport, OrderIntent
from streams.stack.kafka import KafkaBroker
from tests.support.deployment import LIVELY, Deployment
from tests.support.trading import BarByBar, ExecutorProcess, switch_off
from tests.support.waiting import PATIENCE_S

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
    refused: dict[str, int]
    verified: dict[str, Any]
    forged: list[str]


def forge(deployment: Deployment) -> list[str]:
    """Write decisions of the first pair that no stage has made; return their places.

    One is of the next bar, from the source of the last true one; one names a source that the
    worker has not processed.
    """
    codec, topic = deployment.codec, deployment.runtime.topic(GATES)
    with LogReader(deployment.runtime) as reader:
        found = [one for batch in reader.read(GATES, 0) for one in batch]
    last = next(one for one in reversed(found) if one.record.key == PAIRS[0].encode())
    true: Any = codec.decode(GATES, last.record.value)
    next_ms = true.as_of_ms + MINUTE
    later = true._replace(as_of_ms=next_ms, position=1, eligible=True, reasons=())
    places: list[str] = []
    producer = Producer(producer_config(deployment.runtime))
    for made, source in (
        (later, last.headers["source"]),
        (true._replace(position=1), f"{last.headers['source'].rpartition('-')[0]}-1000000"),
    ):
        producer.produce(
            topic, codec.encode(GATES, made), last.record.key, 0, timestamp=made.as_of_ms,
            headers=list((last.headers | {"source": source}).items()),
            on_delivery=lambda _, sent: places.append(f"{GATES}-0-{sent.offset()}"),
        )  # fmt: skip
        assert producer.flush(PATIENCE_S) == 0
    return places


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

        def bar() -> None:
            at_ms = bars.next().as_of_ms
            executor.until(
                lambda said: (
                    said["epoch_ms"] >= at_ms
                    and all(said["decided_ms"].get(pair, 0) >= at_ms for pair in PAIRS)
                )
            )

        for number in range(BARS):
            if number % RESTART_EVERY == RESTART_EVERY - 1:
                assert executor.process is not None
                executor.process.child.kill()
                executor.start()
                executor.until_reconciled()
            bar()
        written = len(deployment.events(ORDERS))
        forged = forge(deployment)
        said = executor.until(lambda said: sum(said["refused_decision_counts"].values()) == 2)
        assert len(deployment.events(ORDERS)) == written, "it has acted on a forged decision"
        joined = said["joined"]
        for _ in range(BARS):
            bar()
            now = executor.until(bool)["joined"]
            if any(one not in joined.items() and not one[1]["by_operator"] for one in now.items()):
                break  # the first true entry after the forged ones
            joined = now
        done = deployment.run("verify", "--json")
        assert done.returncode == 1, done.stdout + done.stderr
        status = executor.status()
        assert status is not None
        assert executor.process is not None
        assert executor.process.stop() == 0, executor.words()
        reports = [r for r in deployment.events(FILLS) if isinstance(r, BrokerReport)]
        yield Traded(
            deployment.events(TRADES), deployment.events(ORDERS), reports, status,
            said["refused_decision_counts"], json.loads(done.stdout)["topics"], forged,
        )  # fmt: skip
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


def test_forged_decisions_are_refused_and_named_and_the_next_true_one_counts(
    traded: Traded,
) -> None:
    assert traded.refused == {"after_candles": 1, "source_not_committed": 1}
    assert traded.verified[GATES]["difference"].startswith(f"{traded.forged[0]}: ")
    assert traded.verified[WEIGHTS]["difference"] is None, "its input is the log as it is"
    forged_ms = next(
        d["as_of_ms"] for d in traded.status["refused_decisions"] if d["reason"] == "after_candles"
    )
    later = [i for i in traded.intents if i.kind == "open" and i.as_of_ms >= forged_ms]
    assert any(i.submitted for i in later), [i.guards for i in later]


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
