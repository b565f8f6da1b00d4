"""A deployment that trades: an executor as a process, the kill switch kept, a market bar by bar."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

from streams.config.kill_switch import KillSwitchSettings
from streams.config.settings import Config
from streams.feeds.plan import FeedPlan
from streams.feeds.synthetic import BarArrivals
from streams.feeds.writer import FactWriter
from streams.kafka.client import SILENT, confluent_config, producer_config
from streams.kafka.control_topic import read_control, seed_config
from streams.kafka.partitioner import partition_of
from streams.process.child import free_port
from streams.process.supervise import Supervised
from streams.records.control import UniverseChange
from streams.records.events import (
    PORTFOLIO_KEY,
    WATERMARK_KEY,
    Event,
    GateDecision,
    GateMetrics,
    Watermark,
    WeightEntry,
    Weights,
)
from streams.records.topics import CANDLES, FILLS, GATES, MANIFOLDS, ORDERS, WEIGHTS
from streams.records.trading_events import AccountState, OrderIntent
from streams.trading.brokers.units import units_of
from streams.trading.kill_switch.reader import KillSwitchReader
from streams.trading.ledger import Ledger
from tests.support.deployment import Deployment
from tests.support.v20 import Handle
from tests.support.waiting import PATIENCE_S, until

METRICS = GateMetrics(0.9, 0.9, 0.1, 0.1, 0.1, 9, 0.0, 0.0)


def await_that(ready: Callable[[], Any], otherwise: Callable[[], str]) -> Any:
    """Wait until ``ready`` returns something true and return it."""
    return until(ready, otherwise, every_s=0.005)


def switch_off(deployment: Deployment) -> None:
    """Run a keeper of the kill switch whose first word is "off"; wait until it is."""
    keeper = deployment.start("keeper", "kill", "keep", KILL_SWITCH="0")
    settings = KillSwitchSettings.from_env(deployment.environment)
    reader = KillSwitchReader(deployment.runtime, deployment.codec, settings)
    try:
        await_that(lambda: not reader.read().engaged, lambda: keeper.child.last_output(8))
    finally:
        reader.close()


PAIRS = ("EUR_USD", "GBP_USD", "USD_JPY")
SETTINGS = {
    "TRADING_VENUE": "oanda",
    "TOPIC_PARTITIONS": "2",
    "HOTBAND_PAIRS": ",".join(PAIRS),
    "GATE_MODE": "static",
    "SESSION_TRADING_ENABLED": "0",
    "FRESH_MAX_SIGNAL_AGE_SEC": "86400",
    "GATES_BLOB_MAX_AGE_SEC": "86400",
    "ENTRY_COOLDOWN_SEC": "0",
    "MAX_SPREAD_BPS": "100",
    "FRESH_MAX_WS_AGE_SEC": "3600",
    "RISK_MAX_DAILY_LOSS": "1",
    "RISK_MAX_DRAWDOWN": "1",
    "RECONCILE_INTERVAL_SEC": "0.5",
    "ORDER_SETTLE_SEC": "0.7",
    "OANDA_HTTP_TIMEOUT_SEC": "3",
    "OANDA_CB_FAILURES": "1000",
}
"""An executor on a test broker, quick to reconcile, that nothing but a test holds back."""


class ExecutorProcess:
    """``manifold trade`` as a process, and its ``/status``."""

    def __init__(self, deployment: Deployment, name: str = "trade", **settings: str) -> None:
        self._deployment, self._name, self.settings = deployment, name, settings
        self.port = free_port()
        self.process: Supervised | None = None

    def start(self) -> None:
        """Start it; it is restarted by nobody."""
        self.process = self._deployment.start(
            self._name, "trade", "--status-port", str(self.port), once=True, **self.settings
        )

    def status(self) -> dict[str, Any] | None:
        """Return its status; None when it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/status", timeout=5) as said:
                found: dict[str, Any] = json.load(said)
                return found
        except (urllib.error.URLError, ConnectionError, TimeoutError, json.JSONDecodeError):
            return None

    def until(self, ready: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """Wait until the status is as wanted; return it."""
        found: dict[str, Any] = await_that(
            lambda: (said := self.status()) is not None and ready(said) and said, self.words
        )
        return found

    def until_reconciled(self) -> dict[str, Any]:
        """Wait until it has reconciled."""
        return self.until(lambda said: said["reconciled"])

    def words(self) -> str:
        """Return what it said last."""
        said = "not started" if self.process is None else self.process.child.last_output(12)
        return f"{self.status()}\n{said}"


class BarByBar:
    """Writes a market into the log, one bar at a time, as a feed does."""

    def __init__(self, deployment: Deployment, market: Iterator[BarArrivals], from_ms: int) -> None:
        names = sorted(deployment.runtime.hotband_pairs)
        config = Config.from_env(deployment.environment)
        now_ms = int(time.time() * 1000)
        self._writer = FactWriter(deployment.runtime, deployment.codec, config, now_ms)
        self._plan = FeedPlan(names, config.candle_gran, self._writer.partitions)
        self._market = market
        self._writer.declare(UniverseChange("replace", tuple(names), from_ms, None), "test")
        self._writer.write(self._plan.opening(from_ms, self._writer.control.end))
        self._writer.flush()

    def next(self) -> BarArrivals:
        """Write the next bar and return it."""
        bar = next(self._market)
        facts = self._plan.bar(bar.as_of_ms, bar.candles, self._writer.control.end)
        self._writer.write(facts)
        self._writer.flush()
        return bar


class ScriptedLog:
    """Writes gate decisions and weights as the stages would, bar by bar, at a pace of one's own.

    Their source offsets are committed as the stages commit theirs, so no worker may run.

    Parameters
    ----------
    deployment
        Whose log; its settings become the configuration.
    pairs
        The universe.
    from_ms
        Start of the first bar.
    fed
        Whether a feed writes ``md.candles``; otherwise each bar's watermark is written here.
    """

    def __init__(
        self, deployment: Deployment, pairs: Sequence[str], from_ms: int, *, fed: bool = False
    ) -> None:
        runtime, codec = deployment.runtime, deployment.codec
        config = Config.from_env(deployment.environment)
        control = seed_config(
            runtime, codec, config, read_control(runtime, codec), int(time.time() * 1000)
        )
        self._runtime, self._codec, self._config = runtime, codec, config
        self._stamp = (control.state(control.end).config_id, control.end)
        self._pairs, self._bar_ms, self._number = tuple(sorted(pairs)), from_ms, 0
        self._producer = Producer(producer_config(runtime) | {"linger.ms": 0})
        group = {"group.id": runtime.application, "enable.auto.commit": False, **SILENT}
        self._group, self._fed = Consumer(confluent_config(runtime) | group), fed
        self.positions = dict.fromkeys(self._pairs, 0)

    @property
    def next_end_ms(self) -> int:
        """End of the bar that is written next."""
        return self._bar_ms + self._config.granularity_ms

    def bar(self, positions: Mapping[str, int], *, eligible: bool = True, pct: float = 0.05) -> int:
        """Write a bar's decisions and the weights of its epoch; return the bar's end.

        Parameters
        ----------
        positions
            Instrument -> position of its run; those not named keep theirs.
        pct
            Target exposure of every instrument that is in a trade.
        """
        self.positions |= positions
        bar_ms, end_ms = self._bar_ms, self.next_end_ms
        gran = self._config.candle_gran
        if not self._fed:
            self.watermark(end_ms)
        for name in self._pairs:
            position = self.positions[name]
            reasons = () if eligible else ("cooldown",)
            decision = GateDecision(
                name, gran, bar_ms, end_ms, *self._stamp, eligible, reasons, METRICS, False,
                None, 0.1, 0, 0, 0, None, True, False, position, position, None, bar_ms, 0.8,
                "static", "p1",
            )  # fmt: skip
            self._write(GATES, decision, name.encode(), end_ms)
        held = [name for name in self._pairs if self.positions[name]]
        entries = tuple(WeightEntry(name, 0.8, 1.0 / len(held), pct) for name in held)
        weights = Weights(
            gran, bar_ms, end_ms, *self._stamp, end_ms, self._pairs, self._pairs, entries, (),
            "published", None, "", 3,
        )  # fmt: skip
        self._write(WEIGHTS, weights, PORTFOLIO_KEY, end_ms)
        self.flush()
        self.commit()
        self._bar_ms = end_ms
        return end_ms

    def watermark(self, end_ms: int) -> None:
        """Write that ``md.candles`` has every bar up to here."""
        event = Watermark(end_ms, self._config.candle_gran, self._stamp[1], self._pairs)
        self._write(CANDLES, event, WATERMARK_KEY, end_ms)

    def forge(self, topic: str, event: Event, source: str, stamp_ms: int | None = None) -> None:
        """Write a record that no stage has made, at the time that it claims if none is given."""
        key = PORTFOLIO_KEY if isinstance(event, Weights) else event.instrument.encode()
        at_ms = event.as_of_ms if stamp_ms is None else stamp_ms
        self._write(topic, event, key, at_ms, source)
        self.flush()

    def flush(self) -> None:
        """Wait until everything is written."""
        assert self._producer.flush(20) == 0

    def commit(self) -> None:
        """Commit the source offsets of everything written so far."""
        places = [(GATES, 0), *((MANIFOLDS, p) for p in range(self._runtime.topic_partitions))]
        self._group.commit(
            offsets=[
                TopicPartition(self._runtime.topic(topic), partition, self._number + 1)
                for topic, partition in places
            ],
            asynchronous=False,
        )

    def partition(self, name: str) -> int:
        """Return the partition of an instrument."""
        return partition_of(name.encode(), self._runtime.topic_partitions)

    def _write(self, topic: str, event: Event, key: bytes, at_ms: int, source: str = "") -> None:
        self._number += 1
        made_from = f"{GATES}-0-{self._number}"
        if topic == GATES:
            made_from = f"{MANIFOLDS}-{self.partition(key.decode())}-{self._number}"
        headers = [] if topic == CANDLES else [("source", (source or made_from).encode())]
        self._producer.produce(
            self._runtime.topic(topic),
            self._codec.encode(topic, event),
            key,
            partition=0,
            timestamp=at_ms,
            headers=headers,
        )


def oanda_floor(
    directory: Path, bootstrap: str, prefix: str, valkey_url: str, broker: Handle, **more: str
) -> Deployment:
    """Return a deployment whose venue is a test broker."""
    return Deployment(
        directory,
        KAFKA_BOOTSTRAP_SERVERS=bootstrap,
        TOPIC_PREFIX=prefix,
        VALKEY_URL=valkey_url,
        **SETTINGS | broker.environment() | more,
    )


def script_of(deployment: Deployment, hours: int = 20, pairs: Sequence[str] = PAIRS) -> ScriptedLog:
    start_ms = int(time.time() * 1000) // 60_000 * 60_000 - hours * 3_600_000
    return ScriptedLog(deployment, pairs, start_ms)


def books(deployment: Deployment, account_id: str) -> Ledger:
    """Return what the log says is held."""
    ledger = Ledger(account_id, "practice")
    for intent in deployment.events(ORDERS):
        ledger.take_intent(intent)
    for record in deployment.events(FILLS):
        if isinstance(record, AccountState):
            ledger.take_state(record)
        else:
            ledger.take_report(record)
    return ledger


def flat(said: dict[str, Any]) -> bool:
    return bool(said["reconciled"] and not said["joined"] and not said["unresolved"])


def require_exact(deployment: Deployment, broker: Handle) -> Ledger:
    """Assert that the log and the broker's own book say the same.

    An order may be on its way at any moment, so the two are looked at until they agree, for a
    little while; what must never be is not waited for.
    """
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            return _exact(deployment, broker)
        except Unsettled:
            if time.monotonic() > end:
                raise


def require_intents_first(deployment: Deployment, broker: Handle) -> None:
    """Assert that everything the broker has ever seen stands in the order log."""
    sent = set(broker.account()["clientOrders"])
    known = {i.order_id for i in deployment.events(ORDERS) if isinstance(i, OrderIntent)}
    assert sent <= known


class Unsettled(AssertionError):
    """The log and the broker differ in what an order on its way explains."""


def _exact(deployment: Deployment, broker: Handle) -> Ledger:
    account = broker.account()
    ledger = books(deployment, broker.account_id)
    for client_id, order in account["clientOrders"].items():
        assert order["submitted"] == 1, (client_id, order)
        assert order["filled"] <= 1, (client_id, order)
        assert client_id in ledger.intents, f"{client_id} was sent without an intent in the log"
    filled = {c: float(o["units"]) for c, o in account["clientOrders"].items() if o["filled"]}
    booked: dict[str, float] = {}
    for order_id, reports in ledger.reports.items():
        for report in reports:
            by_trade = ledger.intents[order_id].close_by == "trade"
            if report.status == "filled" and report.cause == "order" and not by_trade:
                assert order_id not in booked, f"{order_id} is filled twice in the log"
                booked[order_id] = report.units * (1 if report.side == "buy" else -1)
    assert broker.violations() == []
    held = {name: h.signed_units for name, h in ledger.holdings.items()}
    there = {name: Decimal(units) for name, units in account["positions"].items()}
    if booked != filled or ledger.unresolved or held != there:
        raise Unsettled(f"{booked=} {filled=} {ledger.unresolved=} {held=} {there=}")
    _require_trade_closings(ledger, account["transactions"])
    return ledger


def _require_trade_closings(ledger: Ledger, transactions: list[dict[str, Any]]) -> None:
    """Assert that every closing of a trade of ours is booked once, with the venue's own units.

    Such an order has no client id; its fill is known by its transaction.
    """
    closed = {
        t["id"]: abs(Decimal(t["units"]))
        for t in transactions
        if t.get("reason") == "MARKET_ORDER_TRADE_CLOSE"
        and (t.get("tradesClosed") or [t["tradeReduced"]])[0]["tradeID"] in ledger.openers
    }
    reports = [r for each in ledger.reports.values() for r in each if r.status == "filled"]
    ids = [r.transaction_id for r in reports if r.transaction_id in closed]
    assert len(set(ids)) == len(ids), f"a closing is booked twice: {ids}"
    booked = {r.transaction_id: units_of(r.units) for r in reports if r.transaction_id in closed}
    if booked != closed:
        raise Unsettled(f"{booked=} {closed=}")
