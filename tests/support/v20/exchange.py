"""The broker behind the API: accounts, the market's ticks, orders that fire, the journal."""

from __future__ import annotations

import heapq
import json
import os
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.support.v20.account import Account
from tests.support.v20.amounts import money, parse_time
from tests.support.v20.clock import BrokerClock
from tests.support.v20.instruments import INSTRUMENTS
from tests.support.v20.market import Market, Tick
from tests.support.v20.matching import Batch, Matcher
from tests.support.v20.triggers import expiry_ns, order_instrument, triggered
from tests.support.v20.valuation import Quote, figures

Json = dict[str, Any]
MS = 1_000_000
OnPrice = Callable[[str, Tick], None]
OnTransaction = Callable[[str, Json], None]


class Journal:
    """A file of batches, one line each, so that a broker that was killed comes back the same."""

    def __init__(self, path: Path | None) -> None:
        self._file: int | None = None
        self.path = path
        if path is not None:
            self._cut_torn_line(path)
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    @staticmethod
    def _cut_torn_line(path: Path) -> None:
        if path.exists():
            whole = path.read_bytes()
            path.write_bytes(whole[: whole.rfind(b"\n") + 1])

    def lines(self) -> Iterator[Json]:
        """Yield what was written before."""
        if self.path is not None:
            for line in self.path.read_text().splitlines():
                yield json.loads(line)

    def write(self, entry: Json) -> None:
        """Append one entry whole."""
        if self._file is not None:
            os.write(self._file, json.dumps(entry).encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


class Exchange:
    """Everything the broker knows.

    Parameters
    ----------
    market
        Where prices come from.
    clock
        The broker's time.
    journal
        What survives a kill.
    unique_ids
        Refuse any client order id that was ever used; OANDA refuses only those of pending orders.
    show_finished
        Find and list orders that are filled or cancelled; OANDA does not.
    """

    def __init__(
        self,
        market: Market,
        clock: BrokerClock,
        journal: Journal,
        unique_ids: bool = False,
        show_finished: bool = False,
    ) -> None:
        self.market = market
        self.clock = clock
        self.journal = journal
        self.unique_ids = unique_ids
        self.show_finished = show_finished
        self.accounts: dict[str, Account] = {}
        self.delisted: set[str] = set()
        self.price_listeners: dict[object, tuple[frozenset[str], OnPrice]] = {}
        self.transaction_listeners: dict[object, OnTransaction] = {}
        self._recover()
        self.done_ms = self.now_ns() // MS

    def _recover(self) -> None:
        newest = 0
        for entry in self.journal.lines():
            if "batch" in entry:
                account = self.accounts.setdefault(entry["account"], Account(entry["account"]))
                for transaction in entry["batch"]:
                    account.apply(transaction)
                newest = max(newest, parse_time(entry["batch"][-1]["time"]))
            elif "place" in entry:
                self.market.place(*entry["place"])
            elif "release" in entry:
                self.market.release(*entry["release"])
            newest = max(newest, entry.get("clock", 0))
        behind = newest - self.clock.now_ns()
        if behind > 0:
            self.clock.advance(behind)

    def now_ns(self) -> int:
        """Return the broker's time."""
        return self.clock.now_ns()

    def quotes(self, name: str) -> Quote:
        """Return an instrument's prices now."""
        tick, instrument = self.market.at(name, self.now_ns() // MS), INSTRUMENTS[name]
        return Quote(instrument.price(tick.bid), instrument.price(tick.ask))

    def open_account(
        self, account_id: str, currency: str, balance: Decimal, margin_rate: Decimal
    ) -> None:
        """Create an account, unless the journal had it."""
        if account_id in self.accounts:
            return
        account = self.accounts[account_id] = Account(account_id)
        batch = self.batch(account, None)
        site, division, user, number = (int(part) for part in account_id.split("-"))
        batch.add(
            "CREATE",
            divisionID=division,
            siteID=site,
            accountUserID=user,
            accountNumber=number,
            homeCurrency=currency,
        )
        batch.add("CLIENT_CONFIGURE", alias="Primary", marginRate=str(margin_rate))
        batch.add(
            "TRANSFER_FUNDS",
            amount=money(balance),
            fundingReason="CLIENT_FUNDING",
            accountBalance=money(balance),
        )
        batch.close()

    def transfer(self, account: Account, amount: Decimal) -> None:
        """Move money into an account, or out of it when negative."""
        batch = self.batch(account, None)
        batch.add(
            "TRANSFER_FUNDS",
            amount=money(amount),
            fundingReason="CLIENT_FUNDING",
            accountBalance=money(account.balance + amount),
        )
        batch.close()

    def batch(self, account: Account, request_id: str | None, time_ns: int | None = None) -> Batch:
        """Begin transactions of one instant."""
        return Batch(account, time_ns or self.now_ns(), request_id, self._written)

    def _written(self, account: Account, made: list[Json]) -> None:
        self.journal.write({"account": account.id, "batch": made})
        for listener in list(self.transaction_listeners.values()):
            for transaction in made:
                listener(account.id, transaction)

    def advance(self, ns: int) -> None:
        """Move the clock and let happen what happens on the way."""
        self.journal.write({"clock": self.clock.advance(ns)})
        self.pump()

    def place(self, name: str, bid: int, ask: int, hold: bool) -> Tick:
        """Put a price by hand at this instant; what it triggers happens now."""
        self.pump()
        if self.now_ns() // MS <= self.done_ms:
            # it may have moved on by itself since it was read
            self.clock.advance(max(0, (self.done_ms + 1) * MS - self.now_ns()))
        tick = Tick(self.now_ns() // MS, bid, ask)
        self.market.place(name, tick.time_ms, bid, ask, hold)
        entry = [name, tick.time_ms, bid, ask, hold]
        self.journal.write({"place": entry, "clock": self.now_ns()})
        self.pump()
        return tick

    def repeat_prices(self, names: set[str]) -> None:
        """Tell the streams these instruments' prices again, after their status has changed."""
        self.pump()
        for wanted, listener in list(self.price_listeners.values()):
            for name in sorted(wanted & names):
                listener(name, self.market.at(name, self.done_ms))

    def release(self, name: str) -> None:
        """Let the market make an instrument's prices again."""
        at = self.now_ns() // MS
        self.market.release(name, at)
        self.journal.write({"release": [name, at]})

    def pump(self) -> None:
        """Let every tick up to now do what it does: orders, margin, streams."""
        now_ms = self.now_ns() // MS
        if now_ms <= self.done_ms:
            return
        after, self.done_ms = self.done_ms, now_ms
        for name, tick in self._ticks(after, now_ms):
            for account in self.accounts.values():
                self._fire(account, name, tick)
            for names, listener in list(self.price_listeners.values()):
                if name in names:
                    listener(name, tick)
        for account in self.accounts.values():
            self._expire(account)
            self._close_out(account)

    def _ticks(self, after_ms: int, to_ms: int) -> Iterable[tuple[str, Tick]]:
        watched: set[str] = set()
        for account in self.accounts.values():
            watched |= {order_instrument(account, o) for o in account.pending.values()}
        for names, _ in self.price_listeners.values():
            watched |= names
        each = (self._named_ticks(name, after_ms, to_ms) for name in sorted(watched))
        return ((name, tick) for _, name, tick in heapq.merge(*each))

    def _named_ticks(self, name: str, after_ms: int, to_ms: int) -> Iterator[tuple[int, str, Tick]]:
        for tick in self.market.ticks(name, after_ms, to_ms):
            yield tick.time_ms, name, tick

    def _fire(self, account: Account, name: str, tick: Tick) -> None:
        for order in list(account.pending.values()):
            if order["id"] not in account.pending or order_instrument(account, order) != name:
                continue
            if not self.market.trading(name, tick.time_ms):
                continue
            until = expiry_ns(order)
            if until is not None and until <= tick.time_ms * MS:
                self._cancel(account, order, "TIME_IN_FORCE_EXPIRED", until)
            elif triggered(account, order, tick, self.market):
                batch = self.batch(account, None, tick.time_ms * MS)
                Matcher(self.market, batch).execute(order, tick)
                batch.close()

    def _expire(self, account: Account) -> None:
        for order in list(account.pending.values()):
            until = expiry_ns(order)
            if until is not None and until <= self.done_ms * MS:
                self._cancel(account, order, "TIME_IN_FORCE_EXPIRED", until)

    def end_order(self, order_id: str, reason: str) -> None:
        """Cancel a pending order for a reason of the broker's own."""
        for account in self.accounts.values():
            if order_id in account.pending:
                self._cancel(account, account.pending[order_id], reason, self.now_ns())

    def _cancel(self, account: Account, order: Json, reason: str, time_ns: int) -> None:
        batch = self.batch(account, None, time_ns)
        Matcher(self.market, batch).cancel(order, reason)
        batch.close()

    def _close_out(self, account: Account) -> None:
        if not account.open or figures(account, self.quotes).closeout_percent < 1:
            return
        for trade in list(account.open.values()):
            if not self.market.trading(trade.instrument, self.done_ms):
                continue
            batch = self.batch(account, None)
            created = batch.add(
                "MARKET_ORDER",
                instrument=trade.instrument,
                units=str(-trade.units),
                timeInForce="FOK",
                positionFill="REDUCE_ONLY",
                marginCloseout={"reason": "MARGIN_CHECK_VIOLATION"},
                reason="MARGIN_CLOSEOUT",
            )
            Matcher(self.market, batch).execute(account.orders[created["id"]])
            batch.close()
