"""Reconciliation of ledger and broker: differences, untracked positions, corrections. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from streams.trading.brokers.broker import OpenTrade, PendingOrder
from streams.trading.brokers.units import ZERO
from streams.trading.ledger import Ledger


class Correction(NamedTuple):
    """A correction of the ledger: signed units to add to an order and a trade."""

    order_id: str
    instrument: str
    signed_units: Decimal
    price: float
    reason: str
    trade_ids: tuple[str, ...] = ()


class Comparison(NamedTuple):
    """The result.

    Attributes
    ----------
    differences
        All differences, a sentence each.
    foreign
        Instrument -> untracked positions and orders.
    foreign_held
        Instruments with untracked positions.
    corrections
        Corrections that make the ledger equal to the broker.
    """

    differences: tuple[str, ...]
    foreign: dict[str, str]
    foreign_held: frozenset[str]
    corrections: tuple[Correction, ...]


def compare_positions(
    ledger: Ledger, trades: Sequence[OpenTrade], orders: Sequence[PendingOrder]
) -> Comparison:
    """Compare the positions in the ledger with those at the broker.

    Tracked are orders with the client id of an intent, and trades opened by a tracked fill. In an
    instrument with an unresolved order no correction is made: that order may explain the
    difference.
    """
    ours = [t for t in trades if ledger.is_ours(t.trade_id, t.client_id)]
    others = [t for t in trades if t not in ours]
    differences: list[str] = []
    corrections: list[Correction] = []
    for name in sorted({t.instrument for t in ours} | set(ledger.holdings)):
        here = [t for t in ours if t.instrument == name]
        held = ledger.holdings.get(name)
        booked = held.signed_units if held else ZERO
        there = sum((t.units for t in here), ZERO)
        if there == booked:
            continue
        waiting = ledger.waiting(name)
        said = f"{name}: our books say {booked:f} units, the broker has {there:f} of ours"
        if waiting:
            differences.append(f"{said}; {len(waiting)} order(s) without a known outcome")
            continue
        differences.append(f"{said}; the books now follow the broker")
        order_id = here[0].client_id if here else ""
        if order_id not in ledger.intents and held is not None:
            order_id = held.opening_id
        price = here[0].price if here else held.average_price if held else 0.0
        if order_id in ledger.intents:
            booked_ids = () if held is None else held.trades
            missing = tuple(t.trade_id for t in here if t.trade_id not in booked_ids)
            corrections.append(Correction(order_id, name, there - booked, price, said, missing))
    foreign = _foreign(ledger, others, orders)
    differences += [f"{name}: {what}" for name, what in sorted(foreign.items())]
    held_by_others = frozenset(t.instrument for t in others)
    return Comparison(tuple(differences), foreign, held_by_others, tuple(corrections))


def _foreign(
    ledger: Ledger, trades: Sequence[OpenTrade], orders: Sequence[PendingOrder]
) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for trade in trades:
        whose = "was released" if trade.trade_id in ledger.released else "is not ours"
        what = f"trade {trade.trade_id} of {trade.units:f} units {whose}"
        found.setdefault(trade.instrument, []).append(what)
    for order in orders:
        if order.client_id not in ledger.intents:
            what = f"order {order.order_id} of {order.units:f} units is not ours"
            found.setdefault(order.instrument, []).append(what)
    return {
        name: "; ".join(what) + ": nothing is opened here, and it is not touched"
        for name, what in found.items()
    }
