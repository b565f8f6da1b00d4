"""The ledger: a fold over ``exec.orders`` and ``exec.fills`` of one account.

The whole state of the executor is in these two topics: orders, their results, positions and their
joined trades. So an executor can start on any host.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal

from streams.instants import GRANULARITY_MS
from streams.records.log_record import InvalidRecord
from streams.records.trading_events import AccountState, BrokerReport, OrderIntent
from streams.trading.bracket_changes import KIND as BRACKETS
from streams.trading.bracket_changes import TradeBrackets
from streams.trading.brokers.brackets import levels
from streams.trading.brokers.transaction import Transaction
from streams.trading.brokers.units import ZERO, units_of
from streams.trading.fifo import refused_by_fifo
from streams.trading.holdings import ClosedTrade, Holding, rule_of, transaction_order
from streams.trading.market_day import Marks, Worth
from streams.trading.nav_history import NavHistory
from streams.trading.order_log import SKIPPED

RELEASED = "released"
"""Cause of the report that removes a released position from the ledger."""
FINAL = ("filled", "rejected", "cancelled")


class Ledger:
    """The fold; records of other accounts or modes are ignored.

    Parameters
    ----------
    account_id, mode
        The account and its trading mode.

    Attributes
    ----------
    cursor
        Transaction up to which all were processed when the last intent was made. An order's own
        answer does not move it: other transactions may precede it.
    decided_ms
        Instrument -> ``as_of`` of the newest decision of an intent.
    closed_ahead
        Instrument -> signed units of closings whose opening fill has not been booked yet.
    nav_history
        The NAV over the last week.
    state
        The newest record of the limits' reference values; None before the first.
    closed
        The closed trades, except those ended by a correction of the ledger: their P&L is unknown.
    fifo
        Whether the venue has ever refused an order by the FIFO rule.
    refused
        Instrument -> number of consecutive refused opening or resizing orders, and time of the
        last.
    openers
        Every trade of the venue that the executor opened -> id of its opening order.
    ended
        Instrument and entry bar of joined trades that were ended without an order of the executor
        -> cause as text.
    brackets
        Trade of the venue -> state of its stop and target.
    released
        Trades released to the operator -> the report of the release.
    requests
        Request id of an operator's order -> its intent, sent or refused.
    invalid
        Invalid records of the order log; they may belong to this account.
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
        self.nav_history = NavHistory()
        self.state: AccountState | None = None
        self.closed_ahead: dict[str, Decimal] = {}
        self.closed: list[ClosedTrade] = []
        self.fifo = False
        self.refused: dict[str, tuple[int, int]] = {}
        self.openers: dict[str, str] = {}
        self.ended: dict[tuple[str, int], str] = {}
        self.brackets: dict[str, TradeBrackets] = {}
        self.released: dict[str, BrokerReport] = {}
        self.requests: dict[str, OrderIntent] = {}
        self.invalid: list[InvalidRecord] = []
        self.realized_pl = 0.0
        self.cursor = ""
        self.highest_transaction_id = ""
        self._transactions: set[str] = set()
        self._sequences: dict[tuple[str, int], int] = {}
        self._unsent: dict[str, OrderIntent] = {}

    def take_intent(self, intent: OrderIntent) -> None:
        """Apply an intent, in partition order."""
        if (intent.account_id, intent.mode) != (self._account_id, self._mode):
            return
        if intent.kind == BRACKETS:
            self.brackets.setdefault(intent.trade_id, TradeBrackets()).take(intent)
            self._number(intent)
            return
        self.intents[intent.order_id] = intent
        known_ms = self.decided_ms.get(intent.instrument, 0)
        self.decided_ms[intent.instrument] = max(known_ms, intent.as_of_ms)
        self._number(intent)
        if intent.request_id:
            self.requests[intent.request_id] = intent
        if not intent.submitted:
            if not intent.request_id:
                self._unsent[intent.instrument] = intent
            return
        self._unsent.pop(intent.instrument, None)
        self.unresolved[intent.order_id] = intent
        if intent.kind in ("open", "increase"):
            self.last_opened_ms[intent.instrument] = intent.placed_ms

    def _number(self, intent: OrderIntent) -> None:
        if intent.entry_bar_ms is not None:
            place = (intent.instrument, intent.entry_bar_ms)
            self._sequences[place] = max(self._sequences.get(place, 0), intent.sequence + 1)
        self.cursor = _later(self.cursor, intent.transaction_id)

    def take_report(self, report: BrokerReport) -> None:
        """Apply a broker report, in partition order.

        A fill of an order that was considered lost is applied too: the broker is authoritative.
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
        self.fifo = self.fifo or refused_by_fifo(report.reason)
        if report.cause == "order" and intent.kind != "close":
            self._count_refusals(intent, report)
        if report.status == "filled":
            self._fill(intent, report)

    def take_state(self, state: AccountState) -> None:
        """Apply the limits' reference values: the newest record has all of them."""
        if (state.account_id, state.mode) != (self._account_id, self._mode):
            return
        self.state = state
        marks = Marks(state.peak_nav, state.day_ms, state.day_start_nav)
        self.worth.restore(state.as_of_ms, state.nav, marks)

    @property
    def losses_judged_to(self) -> str:
        """Transaction up to which losing trades have engaged the kill switch; "" when none have."""
        return "" if self.state is None else self.state.losses_judged_to

    def observe(self, at_ms: int, nav: float | None) -> None:
        """Record the NAV."""
        if nav is not None:
            self.worth.observe(at_ms, nav)

    def booked(self, transaction: Transaction) -> bool:
        """Return whether a report of this transaction is in the log.

        An order is filled completely or not at all, so an existing fill of it is this one.
        """
        if transaction.transaction_id in self._transactions:
            return True
        reports = self.reports.get(transaction.client_id, ())
        filled = any(r.status == "filled" and r.cause == "order" for r in reports)
        return transaction.kind == "fill" and transaction.cause == "order" and filled

    def is_ours(self, trade_id: str, client_id: str = "") -> bool:
        """Return whether the executor manages a trade: opened by it, and not released."""
        opened = client_id in self.intents or trade_id in self.openers
        return opened and trade_id not in self.released

    def next_sequence(self, instrument: str, entry_bar_ms: int) -> int:
        """Return the sequence number of the next intent of a joined trade."""
        known = self._sequences.get((instrument, entry_bar_ms), 0)
        # an invalid record may have used this id
        return max(known, SKIPPED) if self.invalid else known

    def attempted(self, instrument: str, entry_bar_ms: int) -> bool:
        """Return whether the entry of that bar already has an intent."""
        return (instrument, entry_bar_ms) in self._sequences

    def unsent(self, instrument: str) -> OrderIntent | None:
        """Return the newest intent of the instrument if it was not submitted."""
        return self._unsent.get(instrument)

    def waiting(self, instrument: str) -> list[OrderIntent]:
        """Return the intents of the instrument without a known result."""
        return [i for i in self.unresolved.values() if i.instrument == instrument]

    def _fill(self, intent: OrderIntent, report: BrokerReport) -> None:
        price = report.price
        if price is None or not math.isfinite(price):
            return
        if not math.isfinite(report.units) or report.units <= 0.0:
            return
        self.realized_pl += report.realized_pl or 0.0
        name, direction = intent.instrument, 1 if report.side == "buy" else -1
        opens = intent.kind in ("open", "increase")
        if report.cause == RELEASED:
            self.released.update(dict.fromkeys(report.trade_ids, report))
        # an untracked order that closes a tracked trade may open an untracked one in the same fill
        ours = report.cause in ("order", "other") and report.side == intent.side
        if opens and ours and report.trade_ids:
            self.openers.setdefault(report.trade_ids[0], intent.order_id)
        units = units_of(report.units)
        held = self.holdings.get(name)
        if not opens and (held is None or held.direction == direction):
            self._close_ahead(name, direction * units)
            return
        if held is None or held.direction == direction:
            units = self._not_closed_ahead(name, direction, units)
            if held is None and units:
                made = _opened(intent, report, direction, price, units)
                if not made.by_operator:
                    made.ended = self.ended.get((name, made.entry_bar_ms), "")
                self.holdings[name] = made
            elif held is not None and units:
                _increase(held, report, price, units)
            return
        left = _reduce(held, units, report.trade_ids)
        held.realized_pl += report.realized_pl or 0.0
        if report.cause not in ("order", RELEASED):
            held.reduced = _closed_by_others(report)
        elif intent.request_id and report.cause == "order":
            held.reduced = f"{units_of(report.units):f} units were closed by an operator's order"
        if not held.trades:
            del self.holdings[name]
            if report.transaction_id and report.cause != RELEASED:
                self.closed.append(ClosedTrade(name, report.transaction_id, held.realized_pl))
            by_others = held.reduced and report.cause != "order" and not held.by_operator
            if by_others and report.transaction_id:
                self.ended[name, held.entry_bar_ms] = held.reduced
        if left and not opens:
            self._close_ahead(name, direction * left)
        elif left:
            # the position was reversed: the rest has the other direction
            self.holdings[name] = _opened(intent, report, direction, price, left)

    def _count_refusals(self, intent: OrderIntent, report: BrokerReport) -> None:
        """Count refusals of the venue; an order that never reached it has no transaction."""
        name = intent.instrument
        if report.status == "filled":
            self.refused.pop(name, None)
        elif report.transaction_id or report.broker_ids:
            count, _ = self.refused.get(name, (0, 0))
            self.refused[name] = (count + 1, intent.placed_ms)

    def _close_ahead(self, name: str, signed_units: Decimal) -> None:
        self.closed_ahead[name] = self.closed_ahead.get(name, ZERO) + signed_units

    def _not_closed_ahead(self, name: str, direction: int, units: Decimal) -> Decimal:
        """Return the rest of an opening fill after closings that were booked before it."""
        ahead = self.closed_ahead.get(name, ZERO)
        if ahead * direction >= 0:
            return units
        taken = min(units, abs(ahead))
        left = ahead + direction * taken
        if left:
            self.closed_ahead[name] = left
        else:
            del self.closed_ahead[name]
        return units - taken


def _increase(held: Holding, report: BrokerReport, price: float, units: Decimal) -> None:
    share = float(units / (held.units + units))
    held.average_price += (price - held.average_price) * share
    trade = _opened_trade(report)
    held.trades[trade] = held.trades.get(trade, ZERO) + units


def _reduce(held: Holding, units: Decimal, named: Sequence[str]) -> Decimal:
    """Reduce the trades that a fill names, oldest first; return the excess.

    The excess of a fill over the trades it names reduces the other trades.
    """
    order = [t for t in held.trades if t in named] + [t for t in held.trades if t not in named]
    for trade in order:
        part = min(units, held.trades[trade])
        held.trades[trade] -= part
        units -= part
        if not held.trades[trade]:
            del held.trades[trade]
    return units


def _closed_by_others(report: BrokerReport) -> str:
    units = units_of(report.units)
    return f"{units:f} units were closed by no order of ours ({report.reason or report.cause})"


def _opened_trade(report: BrokerReport) -> str:
    return report.trade_ids[0] if report.trade_ids else ""


def _opened(
    intent: OrderIntent, report: BrokerReport, direction: int, price: float, units: Decimal
) -> Holding:
    stop, target = intent.stop_loss, intent.take_profit
    rule = rule_of(intent)
    if rule is not None:
        stop, target = levels(rule, price, direction)
    entry_bar_ms = -1 if intent.entry_bar_ms is None else intent.entry_bar_ms
    return Holding(
        intent.instrument,
        direction,
        price,
        entry_bar_ms,
        entry_bar_ms + GRANULARITY_MS[intent.granularity],
        price,
        stop,
        target,
        intent.control_offset,
        intent.order_id,
        intent.weight,
        {_opened_trade(report): units},
        by_operator=bool(intent.request_id),
    )


def _later(known: str, found: str) -> str:
    return found if transaction_order(found) > transaction_order(known) else known
