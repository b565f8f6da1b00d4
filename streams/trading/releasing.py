"""Hands positions over that an operator has released: from then on they are not ours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from decimal import Decimal

from streams.trading.brokers.broker import OpenTrade
from streams.trading.brokers.units import ZERO
from streams.trading.context import Parts
from streams.trading.desk import Desk
from streams.trading.holdings import Holding
from streams.trading.ledger import Ledger
from streams.trading.operator_commands import Given
from streams.trading.reports import Told, release_report

RELEASE = "release "
"""What the reason of a report that releases a position begins with."""


def releasable(desk: Desk) -> list[tuple[Holding, Given]]:
    """Return the positions that were released, with the command; not beside an order in doubt.

    What an order in doubt has changed would be booked to a position that is not there any more.
    """
    found = []
    for name, held in sorted(desk.ledger.holdings.items()):
        given = desk.commands.releases(name, held.control_offset)
        if given is not None and not desk.ledger.waiting(name):
            found.append((held, given))
    return found


async def release(parts: Parts, desk: Callable[[], Desk], ordering: asyncio.Lock) -> None:
    """Take the released positions out of the books, by a report each.

    Parameters
    ----------
    ordering
        Held from planning an order until it stands in the log.
    """
    broker, dispatch = parts.broker, parts.dispatch
    async with ordering:
        for held, given in releasable(desk()):
            told = Told(broker.now_ms(), broker.price_interval_ms, dispatch.nav)
            intent = parts.ledger.intents[held.opening_id]
            reason = f"{RELEASE}{given.words}"
            await dispatch.record(release_report(intent, held, told, reason))


def released_words(ledger: Ledger, trades: Iterable[OpenTrade], instrument: str = "") -> list[str]:
    """Return which of the venue's open trades were ours until they were released, in sentences.

    Parameters
    ----------
    instrument
        Only this one; empty for all.
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
