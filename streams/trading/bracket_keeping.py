"""Maintains the brackets of the executor's trades: the run's levels, or manual changes.

Every change is a record of kind ``brackets`` in ``exec.orders``: the executor's before the venue is
called, a manual one as soon as it is detected.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import NamedTuple

from streams.errors import Recoverable
from streams.oanda.errors import RequestRefused
from streams.records.trading_events import OrderIntent
from streams.trading.bracket_changes import (
    EXECUTOR,
    KIND,
    OPERATOR,
    Level,
    Side,
    TradeBrackets,
    Verdict,
    sentence,
    verdict,
)
from streams.trading.brokers.brackets import in_precision
from streams.trading.brokers.broker import BracketKind, OpenTrade
from streams.trading.context import ExecutorContext
from streams.trading.holdings import Holding
from streams.trading.paper import PaperBroker
from streams.trading.planning_state import Order, PlanningState, order_intent
from streams.trading.terms import Terms

log = logging.getLogger("manifold.executor")


class _Judged(NamedTuple):
    """A stop or a target, and the action for it."""

    what: BracketKind
    found: Level
    wanted: float | None
    known: Side
    verdict: Verdict


class BracketKeeper:
    """Maintains the brackets of one account.

    Parameters
    ----------
    parts, terms
        The parts of the executor; the terms of the instruments.
    desk
        Returns the current planning state from the log.
    ordering
        Lock, held from planning a record until it is in the log.

    Attributes
    ----------
    by_hand
        Instrument -> manual changes of open trades of the executor, a sentence each.
    """

    def __init__(
        self,
        parts: ExecutorContext,
        terms: Terms,
        desk: Callable[[], PlanningState],
        ordering: asyncio.Lock,
    ) -> None:
        self._parts, self._terms, self._desk, self._ordering = parts, terms, desk, ordering
        self.by_hand: dict[str, list[str]] = {}

    async def keep(self, trades: Sequence[OpenTrade]) -> list[str]:
        """Record manual changes, and set the run's levels where none was made.

        A venue that sets brackets with the fill does not need this. Refusals of the venue are
        returned, a sentence each: the executor still closes when the run does.

        Parameters
        ----------
        trades
            The open trades as just read.
        """
        problems: list[str] = []
        if isinstance(self._parts.broker, PaperBroker):
            return problems
        by_hand: dict[str, list[str]] = {}
        for trade in trades:
            ledger = self._parts.ledger
            held = ledger.holdings.get(trade.instrument)
            if held is None or not ledger.is_ours(trade.trade_id, trade.client_id):
                continue
            if held.trade_ids and trade.trade_id not in held.trades:
                continue  # closed meanwhile
            await self._terms.learn([trade.instrument], again=False)
            if self._terms.of(trade.instrument) is None:
                continue  # the venue no longer trades it: reported where the terms are read
            try:
                said = await self._keep_one(trade, held)
            except (Recoverable, RequestRefused) as error:
                problems.append(f"{trade.instrument}: brackets of trade {trade.trade_id}: {error}")
                continue
            if said:
                by_hand.setdefault(trade.instrument, []).extend(said)
        self.by_hand = by_hand
        return problems

    async def _keep_one(self, trade: OpenTrade, held: Holding) -> list[str]:
        known = self._known(trade)
        stop_wanted, target_wanted = self._wanted(held)
        judged = [
            await self._judge(trade, "stop", Level(trade.stop_loss, trade.trailing_stop),
                              stop_wanted, known.stop),
            await self._judge(trade, "target", Level(trade.take_profit), target_wanted,
                              known.target),
        ]  # fmt: skip
        said = [
            sentence(one.what, trade.trade_id, one.found, one.wanted, held.direction)
            for one in judged
            if one.verdict == "others" or one.known.by_others is not None
        ]
        changed = {one.what for one in judged if one.verdict == "others"}
        if changed:
            await self._record(trade, held, judged, OPERATOR, changed, "; ".join(said))
        if not self._sends_nothing:
            await self._set(trade, held, judged)
        return said

    def _known(self, trade: OpenTrade) -> TradeBrackets:
        ledger = self._parts.ledger
        known = ledger.brackets.setdefault(trade.trade_id, TradeBrackets())
        opening = ledger.intents.get(ledger.openers.get(trade.trade_id, trade.client_id))
        if opening is not None:
            known.opened_with(opening)
        return known

    def _wanted(self, held: Holding) -> tuple[float | None, float | None]:
        terms = self._terms.of(held.instrument)
        if terms is None or not self._parts.trading.auto_tp_on_fill_enabled:
            return None, None
        stop, target = (
            None if price is None else in_precision(price, terms)
            for price in (held.stop_loss, held.take_profit)
        )
        return stop, target

    @property
    def _sends_nothing(self) -> bool:
        return self._parts.trading.read_only or self._parts.trading.dry_run_trades

    async def _judge(
        self, trade: OpenTrade, what: BracketKind, found: Level, wanted: float | None, known: Side
    ) -> _Judged:
        due = verdict(found, wanted, known, None)
        if due == "ask":
            removed = await self._parts.broker.bracket_ended(trade.trade_id, what)
            due = verdict(found, wanted, known, removed)
        return _Judged(what, found, wanted, known, due)

    async def _set(self, trade: OpenTrade, held: Holding, judged: Sequence[_Judged]) -> None:
        due = {one.what: one.wanted for one in judged if one.verdict == "set"}
        if not due:
            return
        new = {o.what for o in judged if o.what in due and o.wanted not in o.known.ours}
        if new:
            names = " and ".join(sorted(due))
            reason = f"the run's {names} of trade {trade.trade_id}"
            await self._record(trade, held, judged, EXECUTOR, new, reason)
        await self._parts.broker.set_levels(trade.trade_id, due.get("stop"), due.get("target"))

    async def _record(
        self,
        trade: OpenTrade,
        held: Holding,
        judged: Sequence[_Judged],
        by: str,
        about: set[BracketKind],
        reason: str,
    ) -> None:
        async with self._ordering:
            made = self._made(trade, held, judged, by, about, reason)
            await self._parts.dispatch.note(made)
        log.warning("%s: %s", trade.instrument, reason)

    def _made(
        self,
        trade: OpenTrade,
        held: Holding,
        judged: Sequence[_Judged],
        by: str,
        about: set[BracketKind],
        reason: str,
    ) -> OrderIntent:
        order = Order(
            trade.instrument, KIND, -held.direction, abs(trade.units), held.entry_bar_ms,
            held.weight, Decimal(0), reason, held.opening_id,
        )  # fmt: skip
        levels = {
            one.what: Level(one.wanted) if by == EXECUTOR else one.found
            for one in judged
            if one.what in about
        }
        stop, target = levels.get("stop", Level(None)), levels.get("target", Level(None))
        return order_intent(self._desk(), order, ())._replace(
            submitted=False,
            stop_loss=stop.price,
            trailing_stop=stop.trailing,
            take_profit=target.price,
            trade_id=trade.trade_id,
            stop_by=by if "stop" in about else "",
            target_by=by if "target" in about else "",
        )
