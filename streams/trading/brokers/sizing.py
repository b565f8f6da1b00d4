"""Sizing: from a weight to target units, and from the position to the next order.

The base is ``min(balance, margin used + margin available)`` of the account. Used plus available
margin is the NAV with open positions marked to market, so the base is not reduced by open
positions, nor enlarged by unrealised gains. A target exposure is the notional of the position in
the account's currency (docs/spec/trading-loop.md 4.4, 4.5): ``exposure = target_exposure_pct *
base``.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import NamedTuple

from streams.trading.brokers.broker import Account, InstrumentTerms
from streams.trading.brokers.units import ZERO, floored, units_of


class SizingRefused(ValueError):
    """A size cannot be computed; the message names the invalid number."""


class StepRules(NamedTuple):
    """How a position moves to its target.

    Attributes
    ----------
    ramp
        Maximum increase per order, as a fraction of the target (PM_RAMP_STEP_PCT).
    least
        A difference below this fraction of the target is ignored (PM_REBALANCE_MIN_PCT).
    max_order
        Maximum units of one order (RISK_MAX_POSITION_SIZE).
    """

    ramp: float
    least: float
    max_order: float


def account_base(account: Account) -> float:
    """Return the base of target exposures, in the account's currency.

    Raises
    ------
    SizingRefused
        A figure of the account is not a number, or the base is not positive.
    """
    return base_of(
        account.account_id, account.balance, account.margin_used, account.margin_available
    )


def base_of(account_id: str, balance: float, margin_used: float, margin_available: float) -> float:
    """Return the base from an account's figures, in its currency.

    Raises
    ------
    SizingRefused
        As in ``account_base``.
    """
    if not all(math.isfinite(figure) for figure in (balance, margin_used, margin_available)):
        raise SizingRefused(f"account {account_id} has a figure that is not a number")
    if margin_used < 0.0 or margin_available < 0.0:
        raise SizingRefused(f"account {account_id} has a negative margin")
    base = min(balance, margin_used + margin_available)
    if base <= 0.0:
        raise SizingRefused(f"account {account_id} has no money left: base {base:g}")
    return base


def target_units(
    target_exposure_pct: float,
    base: float,
    unit_value: float,
    terms: InstrumentTerms,
    max_net_units: float,
) -> Decimal:
    """Return the unsigned target units; 0 when below the minimum order.

    Parameters
    ----------
    target_exposure_pct
        Fraction of the base, from ``risk.weights``.
    base
        Account base, in the account's currency.
    unit_value
        Value of one unit in the account's currency: the rate of the base currency.
    max_net_units
        Maximum units of one instrument (RISK_MAX_NET_UNITS_PER_PAIR).

    Raises
    ------
    SizingRefused
        A value is not a number, or not positive where it must be.
    """
    if not (math.isfinite(target_exposure_pct) and 0.0 <= target_exposure_pct <= 1.0):
        raise SizingRefused(f"target exposure {target_exposure_pct!r} is no fraction of an account")
    for what, number in (("account base", base), ("value of a unit", unit_value)):
        if not (math.isfinite(number) and number > 0.0):
            raise SizingRefused(f"{what} {number!r} is not a positive number")
    if not (math.isfinite(max_net_units) and max_net_units >= 0.0):
        raise SizingRefused(f"RISK_MAX_NET_UNITS_PER_PAIR {max_net_units!r} is not a number")
    most = min(target_exposure_pct * base / unit_value, max_net_units)
    units = floored(most, terms.units_digits)
    return units if units >= terms.min_units else ZERO


def next_change(
    held: Decimal, target: Decimal, rules: StepRules, terms: InstrumentTerms
) -> Decimal:
    """Return the units to add to (positive) or remove from (negative) ``held`` now; 0 for none.

    Units are unsigned: the direction is the trade's. Increases are made in steps, reductions at
    once; a target of 0 changes nothing, because a position ends with its run, not with its size.

    Raises
    ------
    SizingRefused
        A number of units is invalid.
    """
    if not all(number.is_finite() and number >= 0 for number in (held, target)):
        raise SizingRefused(f"{held} units held, {target} wanted: not numbers of units")
    if target <= 0:
        return ZERO
    most = min(units_of(rules.max_order), terms.max_units)
    least = units_of(rules.least) * target
    missing = target - held
    if missing > 0:
        if held > 0 and missing < least:
            return ZERO
        ramp = max(units_of(rules.ramp) * target, terms.min_units)
        step = floored(min(missing, ramp, most), terms.units_digits)
        return step if step >= terms.min_units else ZERO
    excess = floored(min(-missing, most), terms.units_digits)
    too_little = -missing < least or excess < terms.min_units
    return ZERO if too_little else -excess
