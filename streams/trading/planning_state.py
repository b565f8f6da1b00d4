"""The state from which orders are planned, and how a plan becomes an intent. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from types import MappingProxyType
from typing import Literal, NamedTuple

from streams.candles.calendar import FX, Calendar
from streams.config.settings import Config
from streams.config.trading import Trading
from streams.records.events import GateDecision
from streams.records.trading_events import GuardVerdict, OrderIntent
from streams.trading.brokers.broker import Account, InstrumentTerms, Mode, Quote
from streams.trading.guards import Switches
from streams.trading.ledger import Ledger
from streams.trading.operator_commands import NO_COMMANDS, Commands
from streams.trading.operator_orders import OperatorOrder
from streams.trading.order_ids import order_id
from streams.trading.runs import Runs, RunState, WeightsHistory

Kind = Literal["open", "increase", "reduce", "close", "brackets"]


class Flatten(NamedTuple):
    """An operator's flatten command: offset, actor and reason."""

    offset: int
    actor: str
    reason: str


class PlanningState(NamedTuple):
    """The part of the log that orders depend on.

    Attributes
    ----------
    control_end
        Offset up to which ``ops.control`` has been read.
    cursor
        The venue's transaction up to which all were processed.
    config_of
        Returns the configuration (with the instrument's parameters) of a decision.
    placed_ms
        Returns the venue's clock for an order in an instrument.
    calendar
        The market calendar.
    commands
        Operator commands on single instruments.
    operator_orders
        All operator orders, old ones included.
    unconfirmed
        Instrument -> its newest decision that could not be checked in time; it may only close.
    """

    application: str
    account_id: str
    mode: Mode
    trading: Trading
    runs: Runs
    allocation: WeightsHistory
    ledger: Ledger
    flatten: Flatten | None
    control_end: int
    cursor: str
    config_of: Callable[[GateDecision], Config]
    placed_ms: Callable[[str], int]
    calendar: Calendar = FX
    commands: Commands = NO_COMMANDS
    operator_orders: Sequence[OperatorOrder] = ()
    unconfirmed: Mapping[str, GateDecision] = MappingProxyType({})

    @property
    def close_asked(self) -> int:
        """Offset of the last operator command that closes a position; -1 without any."""
        flatten = -1 if self.flatten is None else self.flatten.offset
        return max(flatten, self.commands.last_close)


class Venue(NamedTuple):
    """The state of the venue at the time of planning.

    Attributes
    ----------
    foreign
        Instrument -> untracked positions and orders there, as text.
    foreign_held
        Instruments with untracked positions.
    late
        Instrument -> why the decision is not at the run's entry.
    ranges
        Instrument -> average true range at its entry, in atr mode.
    """

    now_ms: int
    account: Account
    terms: Mapping[str, InstrumentTerms]
    quotes: Mapping[str, Quote]
    rates: Mapping[str, float]
    price_interval_ms: int
    switches: Switches
    margin_blocked: bool
    foreign: Mapping[str, str]
    foreign_held: frozenset[str]
    late: Mapping[str, str]
    ranges: Mapping[str, float | None]


class Order(NamedTuple):
    """The common fields of all planned orders.

    Attributes
    ----------
    direction
        1 buys, -1 sells.
    opener
        Id of the order that opened the trade; empty for an opening order.
    """

    instrument: str
    kind: Kind
    direction: int
    units: Decimal
    entry_bar_ms: int
    weight: float
    target: Decimal
    reason: str
    opener: str


def order_intent(
    desk: PlanningState, order: Order, guards: tuple[GuardVerdict, ...]
) -> OrderIntent:
    """Return the intent of an order; write it before planning another of its trade."""
    name, ledger = order.instrument, desk.ledger
    run = desk.runs.of(name)
    sequence = ledger.next_sequence(name, order.entry_bar_ms)
    return OrderIntent(
        name,
        *_stamps(run, ledger, order),
        desk.control_end,
        order_id(desk.application, desk.mode, desk.account_id, name, order.entry_bar_ms, sequence),
        "buy" if order.direction > 0 else "sell",
        float(order.units),
        order.kind,
        order.weight,
        float(order.target),
        None,
        None,
        guards,
        all(verdict.passed for verdict in guards),
        desk.account_id,
        desk.mode,
        order.entry_bar_ms,
        sequence,
        max(desk.placed_ms(name), run.candle_end_ms if run else 0),
        order.reason,
        transaction_id=desk.cursor,
    )


def _stamps(run: RunState | None, ledger: Ledger, order: Order) -> tuple[str, int, int, str]:
    """Return granularity, bar, as_of and config of the order's decision."""
    if run is not None:
        decision = run.decision
        return decision.granularity, decision.bar_ms, decision.as_of_ms, decision.config_id
    opened = ledger.intents[order.opener]
    return opened.granularity, opened.bar_ms, opened.as_of_ms, opened.config_id


def said_before(desk: PlanningState, intent: OrderIntent) -> bool:
    """Return whether the log already has the same order as not sent."""
    before = desk.ledger.unsent(intent.instrument)
    if before is None or intent.submitted:
        return False
    return (before.kind, before.entry_bar_ms, _failing(before)) == (
        intent.kind,
        intent.entry_bar_ms,
        _failing(intent),
    )


def _failing(intent: OrderIntent) -> tuple[str, ...]:
    return tuple(verdict.guard for verdict in intent.guards if not verdict.passed)
