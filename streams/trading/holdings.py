"""Positions of the executor, and its closed trades."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

from streams.instants import GRANULARITY_MS
from streams.records.trading_events import OrderIntent
from streams.trading.brokers.broker import LevelRule
from streams.trading.brokers.units import ZERO
from streams.trading.runs import JoinedTrade

NO_RUN = -1
"""Entry bar of an operator position: no bar begins before 1970."""


@dataclass
class Holding:
    """The executor's position in one instrument.

    Attributes
    ----------
    trades
        The venue's trades, oldest first: id -> unsigned units; "" has units without a known trade.
    entry_price, stop_loss, take_profit
        Price of the opening fill, and the run's levels computed from it.
    control_offset
        End offset of ``ops.control`` when the opening intent was made.
    reduced
        How a part was closed without an order of the executor, as text; then it is not increased.
    ended
        What had ended its trade before this fill, as text; then it is closed.
    by_operator
        Whether an operator's order opened it: no run manages it.
    """

    instrument: str
    direction: int
    average_price: float
    entry_bar_ms: int
    entry_ms: int
    entry_price: float
    stop_loss: float | None
    take_profit: float | None
    control_offset: int
    opening_id: str
    weight: float
    trades: dict[str, Decimal] = field(default_factory=dict)
    realized_pl: float = 0.0
    reduced: str = ""
    ended: str = ""
    by_operator: bool = False

    @property
    def units(self) -> Decimal:
        """Unsigned units of all trades."""
        return sum(self.trades.values(), ZERO)

    @property
    def trade_ids(self) -> list[str]:
        """The venue's ids of the trades, oldest first."""
        return [trade for trade in self.trades if trade]

    @property
    def signed_units(self) -> Decimal:
        """Units with the sign of the direction."""
        return self.direction * self.units

    @property
    def joined(self) -> JoinedTrade:
        """The trade of the run that was joined."""
        return JoinedTrade(self.direction, self.entry_ms)


class ClosedTrade(NamedTuple):
    """A closed trade: its realised P&L, and the transaction that closed it."""

    instrument: str
    transaction_id: str
    realized_pl: float


def joined_by(intent: OrderIntent) -> JoinedTrade:
    """Return the run's trade that an opening order joins."""
    entry_bar_ms = -1 if intent.entry_bar_ms is None else intent.entry_bar_ms
    direction = 1 if intent.side == "buy" else -1
    return JoinedTrade(direction, entry_bar_ms + GRANULARITY_MS[intent.granularity])


def rule_of(intent: OrderIntent) -> LevelRule | None:
    """Return the rule of an intent's brackets; None when it has none."""
    stop, target = intent.level_stop, intent.level_target
    if stop is None or target is None:
        return None
    if intent.level_kind == "pct":
        return LevelRule("pct", stop, target)
    return LevelRule("distance", stop, target) if intent.level_kind == "distance" else None


def losses_in_a_row(closed: Sequence[ClosedTrade], judged_to: str) -> list[ClosedTrade]:
    """Return the newest consecutive losing trades, oldest first.

    A trade with zero P&L ends the sequence like a winning one.

    Parameters
    ----------
    closed
        In any order; sorted by the venue's transactions.
    judged_to
        Transaction up to which losses have already engaged the kill switch.
    """
    found: list[ClosedTrade] = []
    since = transaction_order(judged_to)
    for one in sorted(closed, key=lambda c: transaction_order(c.transaction_id), reverse=True):
        if one.realized_pl >= 0.0 or transaction_order(one.transaction_id) <= since:
            break
        found.append(one)
    return found[::-1]


def transaction_order(transaction_id: str) -> tuple[int, str]:
    """Return the sort key of transaction ids: numeric where possible."""
    return (int(transaction_id), "") if transaction_id.isdigit() else (-1, transaction_id)
