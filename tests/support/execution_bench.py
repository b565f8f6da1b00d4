"""What the tests of execution share: decisions, weights, accounts and a desk made by hand."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from streams.config.settings import Config
from streams.config.trading import Trading
from streams.records.events import GateDecision, GateMetrics, WeightEntry, Weights
from streams.trading.brokers.broker import Account, InstrumentTerms, Quote
from streams.trading.guards import Switches
from streams.trading.ledger import Ledger
from streams.trading.plan import PlanningState, Venue
from streams.trading.runs import Runs, WeightsHistory

MINUTE = 60_000
T0 = 1_704_880_800_000
"""2024-01-10 10:00 UTC, a Wednesday: London is open."""
PAIR = "EUR_USD"
CONFIG = Config()
METRICS = GateMetrics(0.8, 0.6, 0.4, 0.3, 0.2, 5, -0.5, 1e-4)
TERMS = InstrumentTerms(PAIR, 5, 0, Decimal(1), Decimal(10**8), 0.02, 0.0001)
ACCOUNT = Account("paper", "USD", 100_000.0, 100_000.0, 0.0, 100_000.0, 0.0, "7")


def decision(
    bar: int, position: int, *, instrument: str = PAIR, params: str = "p1", **changed: Any
) -> GateDecision:
    """Return the decision at the end of a bar, everything in order; ``changed`` replaces fields."""
    bar_ms = T0 + bar * MINUTE
    made = GateDecision(
        instrument, "M1", bar_ms, bar_ms + MINUTE, "c1", 0, True, (), METRICS, False, None, 0.1,
        0, 0, 0, None, True, False, position, position, None, bar_ms, 0.7, "adaptive", params,
    )  # fmt: skip
    return made._replace(**changed)


def weights(bar: int, **pct: float) -> Weights:
    """Return the weights of the epoch at the end of a bar: instrument -> target exposure."""
    at_ms = T0 + (bar + 1) * MINUTE
    entries = tuple(WeightEntry(n, 0.7, 1.0 / len(pct), p) for n, p in sorted(pct.items()))
    return Weights(
        "M1", at_ms - MINUTE, at_ms, "c1", 0, at_ms, (PAIR,), (PAIR,), entries, (), "published",
        None, "", 3,
    )  # fmt: skip


def desk(
    *decisions: GateDecision, epochs: tuple[Weights, ...] = (), trading: Trading | None = None,
    **changed: Any,
) -> PlanningState:  # fmt: skip
    """Return a desk whose log holds these decisions and weights."""
    runs, allocation = Runs(), WeightsHistory()
    for number, one in enumerate(decisions):
        runs.take(one, f"sep.manifolds-0-{number}")
    for one in epochs:
        allocation.take(one)
    made = PlanningState(
        "app", "paper", "paper", trading or Trading(), runs, allocation, Ledger("paper", "paper"),
        None, 5, "7", lambda _: CONFIG, lambda _: decisions[-1].as_of_ms if decisions else T0,
    )  # fmt: skip
    made.ledger.observe(T0, ACCOUNT.nav)
    return made._replace(**changed)


def venue(bar: int, **changed: Any) -> Venue:
    """Return a venue at the end of a bar at which nothing stands in the way."""
    now_ms = T0 + (bar + 1) * MINUTE
    quote = Quote(PAIR, 1.1000, 1.1001, now_ms)
    made = Venue(
        now_ms, ACCOUNT, {PAIR: TERMS}, {PAIR: quote}, {"EUR": 1.10005, "USD": 1.0}, MINUTE,
        Switches("paper", ()), False, {}, frozenset(), {}, {},
    )  # fmt: skip
    return made._replace(**changed)
