"""What is ours: the fold of ``exec.orders`` and ``exec.fills`` of one account.

Everything the executor must remember is in these two topics, so an executor that starts anywhere
knows what was ordered, what became of it, what is held and under which joined trade.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from streams.events import GRANULARITY_MS, BrokerReport, OrderIntent
from streams.execution.brackets import levels
from streams.execution.broker import LevelRule, Transaction
from streams.execution.market_day import Worth
from streams.execution.runs import Joined

EPSILON = 1e-6
FINAL = ("filled", "rejected", "cancelled")


@dataclass
class Holding:
    """What we hold in one instrument.

    Attributes
    ----------
    units
        Without a sign; ``direction`` has it.
    entry_price, stop_loss, take_profit
        Price of the fill that opened it, and the run's levels computed from that price.
    control_offset
        End of ``ops.control`` that the opening intent was made under.
    trade_ids
        The venue's trades, as the opening fills named them.
    """

    instrument: str
    direction: int
    units: float
    average_price: float
    entry_bar_ms: int
    entry_ms: int
    entry_price: float
    stop_loss: float | None
    take_profit: float | None
    control_offset: int
    opening_id: str
    weight: float
    trade_ids: list[str] = field(default_factory=list)

    @property
    def signed_units(self) -> float:
        """Units with the sign of the direction."""
        return self.direction * self.units

    @property
    def joined(self) -> Joined:
        """The trade of the run that was joined."""
        return Joined(self.direction, self.entry_ms)


class Ledger:
    """The fold; records of other accounts or modes are not taken in.

    Parameters
    ----------
    account_id, mode
        Whose orders these are.

    Attributes
    ----------
    cursor
        Transaction up to which everything booked had been looked at when the last intent was made.
        An order's own answer does not move it: what others caused may lie before that.
    decided_ms
        Instrument -> ``as_of`` of the newest decision that an intent follows.
    """

    def __init__(self, account_id: str, mode: str) -> None:
        self._account_id, self._mode = account_id, mode
        self.intents: dict[str, OrderIntent] = {}
        self.unresolved: dict[str, OrderIntent] = {}
        self.doubtful: dict[str, BrokerReport] = {}
        self.reports: dict[str, list[BrokerReport]] = {}
        self.holdings: dict[str, Holding] = {}
        self.last_opened_ms: dict[str, int] = {}
        self.decided_ms: dict[str, int] = {}
        self.worth = Worth()
        self.realized_pl = 0.0
        self.cursor = ""
        self.highest_transaction_id = ""
        self._transactions: set[str] = set()
        self._sequences: dict[tuple[str, int], int] = {}
        self._unsent: dict[str, OrderIntent] = {}

    def take_intent(self, intent: OrderIntent) -> None:
        """Take in an intent, in the order of its partition."""
        if (intent.account_id, intent.mode) != (self._account_id, self._mode):
            return
        self.intents[intent.order_id] = intent
        known_ms = self.decided_ms.get(intent.instrument, 0)
        self.decided_ms[intent.instrument] = max(known_ms, intent.as_of_ms)
        if intent.entry_bar_ms is not None:
            place = (intent.instrument, intent.entry_bar_ms)
            self._sequences[place] = max(self._sequences.get(place, 0), intent.sequence + 1)
        self.cursor = _later(self.cursor, intent.transaction_id)
        if not intent.submitted:
            self._unsent[intent.instrument] = intent
            return
        self._unsent.pop(intent.instrument, None)
        self.unresolved[intent.order_id] = intent
        if intent.kind in ("open", "increase"):
            self.last_opened_ms[intent.instrument] = intent.placed_ms

    def take_report(self, report: BrokerReport) -> None:
        """Take in what the broker said, in the order of its partition.

        A fill of an order that was thought lost counts all the same: the broker's word holds.
        """
        intent = self.intents.get(report.order_id)
        if report.account_id != self._account_id or intent is None:
            return
        self.reports.setdefault(report.order_id, []).append(report)
        if report.transaction_id:
            self._transactions.add(report.transaction_id)
            self.highest_transaction_id = _later(self.highest_transaction_id, report.transaction_id)
        if report.status == "unknown":
            self.doubtful[report.order_id] = report
            return
        if report.cause == "order":
            self.unresolved.pop(report.order_id, None)
            self.doubtful.pop(report.order_id, None)
        if report.status == "filled":
            self._fill(intent, report)

    def observe(self, at_ms: int, nav: float | None) -> None:
        """Note what the account was worth."""
        if nav is not None:
            self.worth.observe(at_ms, nav)

    def booked(self, transaction: Transaction) -> bool:
        """Return whether a report of this transaction is in the log.

        An order is filled all at once, so a fill of it that is there already is this one.
        """
        if transaction.transaction_id in self._transactions:
            return True
        reports = self.reports.get(transaction.client_id, ())
        filled = any(r.status == "filled" and r.cause == "order" for r in reports)
        return transaction.kind == "fill" and transaction.cause == "order" and filled

    def next_sequence(self, instrument: str, entry_bar_ms: int) -> int:
        """Return the number of the next intent of a joined trade."""
        return self._sequences.get((instrument, entry_bar_ms), 0)

    def attempted(self, instrument: str, entry_bar_ms: int) -> bool:
        """Return whether the entry of that bar has had its intent."""
        return (instrument, entry_bar_ms) in self._sequences

    def unsent(self, instrument: str) -> OrderIntent | None:
        """Return the newest intent of the instrument when that was not submitted."""
        return self._unsent.get(instrument)

    def waiting(self, instrument: str) -> list[OrderIntent]:
        """Return the intents of the instrument whose outcome is not known."""
        return [i for i in self.unresolved.values() if i.instrument == instrument]

    def _fill(self, intent: OrderIntent, report: BrokerReport) -> None:
        price = report.price
        if price is None or not math.isfinite(price) or report.units <= 0.0:
            return
        self.realized_pl += report.realized_pl or 0.0
        direction = 1 if report.side == "buy" else -1
        held = self.holdings.get(intent.instrument)
        if held is None:
            self.holdings[intent.instrument] = _opened(intent, report, direction, price)
        elif held.direction == direction:
            units = held.units + report.units
            held.average_price += (price - held.average_price) * report.units / units
            held.units = units
            held.trade_ids += [t for t in report.trade_ids if t not in held.trade_ids]
        else:
            left = held.units - report.units
            del self.holdings[intent.instrument]
            if left > EPSILON:
                held.units = left
                self.holdings[intent.instrument] = held
            elif left < -EPSILON:
                turned = report._replace(units=-left)
                self.holdings[intent.instrument] = _opened(intent, turned, direction, price)


def _opened(intent: OrderIntent, report: BrokerReport, direction: int, price: float) -> Holding:
    stop, target = intent.stop_loss, intent.take_profit
    rule = rule_of(intent)
    if rule is not None:
        stop, target = levels(rule, price, direction)
    entry_bar_ms = -1 if intent.entry_bar_ms is None else intent.entry_bar_ms
    return Holding(
        intent.instrument,
        direction,
        report.units,
        price,
        entry_bar_ms,
        entry_bar_ms + GRANULARITY_MS[intent.granularity],
        price,
        stop,
        target,
        intent.control_offset,
        intent.order_id,
        intent.weight,
        list(report.trade_ids),
    )


def rule_of(intent: OrderIntent) -> LevelRule | None:
    """Return the rule that an intent's levels follow; None when it has none of its own."""
    stop, target = intent.level_stop, intent.level_target
    if stop is None or target is None:
        return None
    if intent.level_kind == "pct":
        return LevelRule("pct", stop, target)
    return LevelRule("distance", stop, target) if intent.level_kind == "distance" else None


def _later(known: str, found: str) -> str:
    return found if transaction_order(found) > transaction_order(known) else known


def transaction_order(transaction_id: str) -> tuple[int, str]:
    """Return what transaction ids are ordered by: as numbers when they are numbers."""
    return (int(transaction_id), "") if transaction_id.isdigit() else (-1, transaction_id)
