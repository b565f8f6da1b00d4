"""Rules that engage the kill switch automatically: consecutive losing trades, total exposure."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Mapping, Sequence
from decimal import Decimal

from streams.errors import Recoverable
from streams.trading.account_states import AccountStates
from streams.trading.brokers.broker import Account, Position
from streams.trading.brokers.conversion import base_currency, quote_currency
from streams.trading.brokers.sizing import SizingRefused, account_base
from streams.trading.context import ExecutorContext
from streams.trading.holdings import losses_in_a_row
from streams.trading.kill_switch.commands import engage

ACTOR = "executor"

log = logging.getLogger("manifold.executor")


async def engage_by_itself(parts: ExecutorContext, reason: str) -> None:
    """Engage the kill switch, with the cause in ``ops.control``.

    Raises
    ------
    Recoverable
        The write to the log is not acknowledged.
    """
    now_ms = int(time.time() * 1000)
    await asyncio.to_thread(engage, parts.runtime, parts.codec, ACTOR, reason, now_ms)
    log.error("kill switch engaged: %s", reason)


def total_exposure(
    positions: Sequence[Position], rates: Mapping[str, float], base: float
) -> float | None:
    """Return the notional of all positions of the account as a fraction of its base.

    Parameters
    ----------
    rates
        Value of one unit of a currency in the account's.

    Returns
    -------
    float or None
        None when a position has no value in the account's currency.
    """
    total = 0.0
    for position in positions:
        value = rates.get(base_currency(position.instrument))
        quoted = rates.get(quote_currency(position.instrument))
        if value is None and quoted is not None:
            value = position.average_price * quoted  # no price, but the position is still open
        if value is None or not math.isfinite(value):
            return None
        total += float(abs(position.units)) * value
    return total / base


class KillRules:
    """The rules of one account.

    Parameters
    ----------
    parts, states
        The parts of the executor; the record of the trades already evaluated.
    """

    def __init__(self, parts: ExecutorContext, states: AccountStates) -> None:
        self._parts, self._states = parts, states

    async def losses(self, account: Account) -> None:
        """Engage after too many consecutive losing trades; each is counted once.

        Raises
        ------
        Recoverable
            The write to the log is not acknowledged.
        """
        limit, ledger = self._parts.trading.risk_max_consecutive_losses, self._parts.ledger
        row = losses_in_a_row(ledger.closed, ledger.losses_judged_to)
        if not limit or len(row) < limit or ledger.worth.marks is None:
            return  # without an observed NAV it could not be recorded, and would be counted again
        lost = sum(one.realized_pl for one in row)
        names = ", ".join(dict.fromkeys(one.instrument for one in row))
        await engage_by_itself(
            self._parts,
            f"{len(row)} losing trades in a row ({names}: {lost:.2f} {account.currency}) of "
            f"account {account.account_id}, RISK_MAX_CONSECUTIVE_LOSSES {limit}",
        )
        await self._states.losses_judged(account, row[-1].transaction_id)

    async def exposure(self, account: Account, positions: Sequence[Position]) -> None:
        """Engage while the total exposure of the account is above the limit.

        Raises
        ------
        Recoverable
            A price or a figure is missing; the write to the log is not acknowledged.
        """
        limit, broker = self._parts.trading.risk_max_total_exposure_pct, self._parts.broker
        held = [position for position in positions if position.units != Decimal(0)]
        if not limit or not held:
            return
        names = sorted({position.instrument for position in held})
        await broker.quotes(names)
        rates = await broker.home_rates(sorted({c for name in names for c in name.split("_")}))
        try:
            found = total_exposure(held, rates, account_base(account))
        except SizingRefused as error:
            raise Recoverable(f"total exposure: {error}") from error
        if found is None:
            raise Recoverable(f"total exposure: a position has no value in {account.currency}")
        if found <= limit or (await self._parts.kill.aread()).engaged:
            return
        await engage_by_itself(
            self._parts,
            f"{', '.join(names)} are worth {found:.4g} times the base of account "
            f"{account.account_id}, RISK_MAX_TOTAL_EXPOSURE_PCT {limit:g}",
        )
