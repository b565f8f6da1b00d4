"""Prometheus metrics of the executor; names of the profile (docs/spec/trading-loop.md 5.7)."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from streams.kafka.decoding import InvalidRecordsCollector
from streams.process.started import ProcessCollector
from streams.records.config_following import ConfigCollector, FollowedConfig
from streams.records.reasons import DecisionRefusal
from streams.records.topics import GATES, WEIGHTS
from streams.records.trading_events import BrokerReport, OrderIntent
from streams.trading.ledger import RELEASED
from streams.trading.reports import status_word

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


KINDS = ("open", "increase", "reduce", "close", "brackets")
STATUSES = ("accepted", "filled", "rejected", "cancelled", "unknown")
CAUSES = ("order", "stop_loss", "take_profit", "other", RELEASED)


class ExecutorMetrics:
    """The metrics that an executor exports.

    Prometheus detects an increase only in a series that it has scraped before, so every counter
    exists from the start, as 0.

    Parameters
    ----------
    followed
        The followed configuration.
    """

    def __init__(self, followed: FollowedConfig | None = None) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(ConfigCollector(followed))
        self.registry.register(InvalidRecordsCollector())
        self.registry.register(ProcessCollector())
        of = self.registry
        self.nav_change = Gauge(
            "sep_nav_change_7d",
            "Change of the net asset value over 7 days as a fraction of the earlier value, "
            "without deposits and withdrawals; NaN while not known for 7 days",
            registry=of,
        )
        self.nav = Gauge("sep_nav", "Net asset value, in the account's currency", registry=of)
        self.balance = Gauge("sep_nav_balance", "Balance, in the account's currency", registry=of)
        self.margin = Gauge("sep_margin_ratio", "Margin used / (used + available)", registry=of)
        self.invalid = Gauge(
            "manifold_order_log_invalid_records",
            "Invalid records of exec.orders and exec.fills; they block opening",
            registry=of,
        )
        self.refused_decisions = Counter(
            "manifold_refused_decisions",
            "Decisions and weights not acted on, because no stage can have written them",
            ["topic", "reason"],
            registry=of,
        )
        self.unconfirmed = Gauge(
            "manifold_unconfirmed_decisions",
            "Decisions and weights that the brokers gave no answer about; they block opening",
            registry=of,
        )
        self.kill = Gauge("sep_kill_switch", "1 while the kill switch is engaged", registry=of)
        self.entries = Counter(
            "sep_strategy_entry", "Trades joined, by instrument", ["instrument"], registry=of
        )
        self.units = Gauge("sep_position_units", "Signed units, open", ["instrument"], registry=of)
        self.intents = Counter(
            "manifold_order_intents", "Intents written", ["kind", "submitted"], registry=of
        )
        self.reports = Counter(
            "manifold_broker_reports",
            "Broker reports written; accepted: the venue has the order, which waits for a price",
            ["status", "cause"],
            registry=of,
        )
        self.blocked = Counter(
            "manifold_guard_blocked", "Orders refused by a guard", ["guard"], registry=of
        )
        self.answer_seconds = Histogram(
            "manifold_order_answer_seconds",
            "Seconds from the committed intent to the broker's answer",
            buckets=SECONDS,
            registry=of,
        )
        self.decision_seconds = Histogram(
            "manifold_decision_to_order_seconds",
            "Seconds from receiving a decision or weights to sending the order",
            buckets=SECONDS,
            registry=of,
        )
        self.reconciled = Gauge("manifold_reconciled", "1 when ledger equals broker", registry=of)
        self.differences = Gauge(
            "manifold_reconcile_differences", "Differences at the last reconcile", registry=of
        )
        self.cannot_close = Gauge(
            "manifold_cannot_close",
            "1 while a closing of the instrument is due and fails",
            ["instrument"],
            registry=of,
        )
        self.untraded = Gauge(
            "manifold_instrument_untraded",
            "1 for an instrument that the venue does not trade",
            ["instrument"],
            registry=of,
        )
        self.last_cycle = Gauge(
            "manifold_executor_cycle_seconds", "Time of the last cycle (Unix time)", registry=of
        )
        for unknown in (self.nav_change, self.nav, self.balance, self.margin):
            unknown.set(float("nan"))  # NaN, because 0 would be a valid value
        self.kill.set(1)  # engaged until first read
        for kind in KINDS:
            for submitted in "01":
                self.intents.labels(kind, submitted)
        for topic in (GATES, WEIGHTS):
            for reason in DecisionRefusal:
                self.refused_decisions.labels(topic, str(reason))
        for status in STATUSES:
            for cause in CAUSES:
                self.reports.labels(status, cause)

    def expect(self, instruments: Iterable[str]) -> None:
        """Create the counters of each of these labels, as 0."""
        for name in instruments:
            self.entries.labels(name)

    def intended(self, intent: OrderIntent) -> None:
        """Count an intent and the guards that refused it."""
        self.intents.labels(intent.kind, str(int(intent.submitted))).inc()
        for verdict in intent.guards:
            self.blocked.labels(verdict.guard).inc(not verdict.passed)

    def reported(self, intent: OrderIntent, report: BrokerReport) -> None:
        """Count a report."""
        self.reports.labels(status_word(report), report.cause).inc()
        filled = report.status == "filled" and report.cause == "order"
        if filled and intent.kind == "open":
            self.entries.labels(intent.instrument).inc()
