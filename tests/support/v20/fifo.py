"""The FIFO rule of accounts in the United States, as OANDA's pages and reason names describe it.

Of several trades of one size in an instrument the oldest must be closed first; and no two of them
may have one size unless neither has a take profit or a stop loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from tests.support.v20.account import Account, Trade


def fifo_refusal(
    account: Account,
    instrument: str,
    closed: Sequence[tuple[Trade, Decimal]],
    opened: Decimal,
    bracketed: bool,
    only: Trade | None,
) -> str | None:
    """Return why a fill is cancelled; None when the rule does not forbid it.

    Parameters
    ----------
    closed
        Trades that it would reduce, and the signed units taken from each.
    opened, bracketed
        Signed units of the trade that it would open, and whether that has a stop or a target.
    only
        The trade that the order names, when it names one.
    """
    if not account.fifo:
        return None
    here = [t for t in account.open.values() if t.instrument == instrument]
    if only is not None:
        older = here[: here.index(only)]
        if any(trade.units == only.units for trade in older):
            return "FIFO_VIOLATION"
    taken = {trade.id: units for trade, units in closed}
    left = [(abs(t.units + taken.get(t.id, 0)), t) for t in here]
    kept = [(size, trade) for size, trade in left if size]
    if opened and any(s == abs(opened) and (bracketed or t.orders) for s, t in kept):
        return "FIFO_VIOLATION_SAFEGUARD_VIOLATION"
    for size, trade in kept:
        twins = [t for s, t in kept if s == size and t is not trade]
        if trade.id in taken and any(trade.orders or t.orders for t in twins):
            return "FIFO_VIOLATION_SAFEGUARD_PARTIAL_CLOSE_VIOLATION"
    return None


def has_twin(account: Account, trade: Trade) -> bool:
    """Return whether a bracket on a trade would violate the safeguard."""
    return account.fifo and any(
        t is not trade and t.instrument == trade.instrument and abs(t.units) == abs(trade.units)
        for t in account.open.values()
    )
