"""Hands released positions over to the operator: the executor no longer manages them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from decimal import Decimal

from streams.trading.brokers.broker import OpenTrade
from streams.trading.brokers.units import ZERO
from streams.trading.context import ExecutorContext
from streams.trading.holdings import Holding
from streams.trading.ledger import Ledger
from streams.trading.operator_commands import Given
from streams.trading.planning_state import PlanningState
from streams.trading.reports import Told, release_report

RELEASE = "release "
"""Prefix of the reason of a report that releases a position."""


def releasable(desk: PlanningState) -> list[tuple[Holding, Given]]:
    """Return the released positions with the command, except those with an unresolved order.

    The fill of an unresolved order would be booked to a position that no longer exists.
    """
    found = []
    for name, held in sorted(desk.ledger.holdings.items()):
        given = desk.commands.releases(name, held.control_offset)
        if given is not None and not desk.ledger.waiting(name):
            found.append((held, given))
    return found


async def release(
    parts: ExecutorContext, desk: Callable[[], PlanningState], ordering: asyncio.Lock
) -> None:
    """Remove the released positions from the ledger, by a report each.

    Parameters
    ----------
    ordering
        Lock, held from planning an order until it is in the log.
    """
    broker, dispatch = parts.broker, parts.dispatch
    async with ordering:
        for held, given in releasable(desk()):
            told = Told(broker.now_ms(), broker.price_interval_ms, dispatch.nav)
            intent = parts.ledger.intents[held.opening_id]
            reason = f"{RELEASE}{given.words}"
            await dispatch.record(release_report(intent, held, told, reason))


def released_words(ledger: Ledger, trades: Iterable[OpenTrade], instrument: str = "") -> list[str]:
    """Return the open trades at the venue that were released, a sentence each.

    Parameters
    ----------
    instrument
        Limit to this instrument; empty for all.
    """
    units: dict[tuple[str, str], Decimal] = {}
    for trade in trades:
        report = ledger.released.get(trade.trade_id)
        if report is not None and instrument in ("", trade.instrument):
            key = (trade.instrument, (report.reason or "").removeprefix(RELEASE))
            units[key] = units.get(key, ZERO) + trade.units
    return [
        f"{amount:f} units of {name} are open and were released {by}; they are not closed"
        for (name, by), amount in sorted(units.items())
    ]
