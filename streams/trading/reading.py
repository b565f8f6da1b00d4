"""Reads the account at the venue: one failed query does not affect the others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import TypeVar

from streams.errors import Recoverable
from streams.oanda.errors import RequestRefused
from streams.trading.brokers.broker import Account, Broker, OpenTrade, PendingOrder, Position
from streams.trading.dispatch import Dispatch
from streams.trading.ledger import Ledger

T = TypeVar("T")

TRANSACTIONS, TRADES, ORDERS = "transactions", "open trades", "pending orders"
ACCOUNT, POSITIONS = "account", "positions"
ROUNDS = 3


class Reading:
    """The last answer of the venue to each query.

    Attributes
    ----------
    unread
        Queries that failed at the last attempt -> reason.
    trades, orders, account, positions
        The last answers; None before the first.
    as_of
        ``Dispatch.changes`` of these answers; None when orders changed the account during the
        reading.
    """

    def __init__(self, broker: Broker, dispatch: Dispatch, ledger: Ledger) -> None:
        self._broker, self._dispatch, self._ledger = broker, dispatch, ledger
        self._flat_after = -1
        self.unread: dict[str, str] = {}
        self.as_of: int | None = None
        self.trades: tuple[OpenTrade, ...] | None = None
        self.orders: tuple[PendingOrder, ...] | None = None
        self.account: Account | None = None
        self.positions: tuple[Position, ...] | None = None

    async def read(self) -> None:
        """Run all queries; repeat if a transaction was booked meanwhile.

        Raises
        ------
        Fatal
            The venue refuses access.
        """
        for _ in range(ROUNDS):
            fills = self._dispatch.fills
            booked = await self._book()
            changes = self._dispatch.changes
            # two at a time: opening connections is slow, and an order may need one at once
            trades, orders = await asyncio.gather(
                self.ask(TRADES, self._broker.trades()), self.ask(ORDERS, self._broker.orders())
            )
            account, positions = await asyncio.gather(
                self.ask(ACCOUNT, self._broker.account()),
                self.ask(POSITIONS, self._broker.positions()),
            )
            self.trades = self.trades if trades is None else tuple(trades)
            self.orders = self.orders if orders is None else tuple(orders)
            self.account = account or self.account
            self.positions = self.positions if positions is None else tuple(positions)
            before = self._dispatch.cursor
            booked = booked and await self._book()
            quiet = self._dispatch.changes == changes and not self._dispatch.in_flight
            self.as_of = changes if quiet else None
            if self._nothing_of_ours(trades, account, positions):
                self._flat_after = fills
            if quiet and (not booked or self._dispatch.cursor == before):
                break

    async def _book(self) -> bool:
        await self.ask(TRANSACTIONS, self._dispatch.follow_up())
        return TRANSACTIONS not in self.unread

    async def ask(self, what: str, question: Awaitable[T]) -> T | None:
        """Return an answer; None when the query fails, which is recorded under ``what``."""
        try:
            found = await question
        except (Recoverable, RequestRefused) as error:
            self.unread[what] = str(error)
            return None
        self.unread.pop(what, None)
        return found

    def _nothing_of_ours(
        self,
        trades: Iterable[OpenTrade] | None,
        account: Account | None,
        positions: Iterable[Position] | None,
    ) -> bool:
        """Return whether an answer shows that no position is open, independent of the ledger."""
        ledger = self._ledger
        if TRANSACTIONS not in self.unread:
            return True  # the ledger is complete
        if trades is not None:
            return not any(ledger.is_ours(t.trade_id, t.client_id) for t in trades)
        if positions is not None:
            names = {intent.instrument for intent in ledger.intents.values()}
            return not any(
                p.instrument in names and (not p.trade_ids or any(map(ledger.is_ours, p.trade_ids)))
                for p in positions
            )
        return account is not None and account.open_trades == 0

    @property
    def confirmed(self) -> bool:
        """Whether the venue has confirmed, since the last fill, that no position is open."""
        return self._flat_after == self._dispatch.fills

    @property
    def others_hold(self) -> frozenset[str]:
        """Instruments with untracked positions, according to the last answers."""
        ledger = self._ledger
        found = {
            t.instrument for t in self.trades or () if not ledger.is_ours(t.trade_id, t.client_id)
        }
        found |= self._dispatch.others_filled
        if self.trades is None or TRADES in self.unread:
            found |= {
                p.instrument
                for p in self.positions or ()
                if not all(map(ledger.is_ours, p.trade_ids))
            }
        return frozenset(found)
