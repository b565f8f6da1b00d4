"""The guards of every order that opens or increases, in order (docs/spec/trading-loop.md 5.4).

All guards are evaluated and every result is recorded with the order, so an intent shows all reasons
against it. A value that is missing, not a number, or negative where it cannot be is refused.
Reducing and closing pass all guards except those that block all sending.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from decimal import Decimal
from typing import NamedTuple

from streams.config.settings import Config
from streams.config.trading import Trading
from streams.pipeline.limits import GUARD_LIMITS
from streams.records.events import GateDecision
from streams.records.trading_events import GuardVerdict
from streams.trading.brokers.broker import Account, InstrumentTerms, Mode, Quote
from streams.trading.currency_exposure import CurrencyShare, within


class Switches(NamedTuple):
    """Switches that apply to the whole account.

    Attributes
    ----------
    killed
        Why the kill switch is engaged; empty when it is off.
    unreconciled
        Why the executor is not reconciled with the broker; empty when it is.
    """

    mode: Mode
    killed: tuple[str, ...]
    unreconciled: str = ""


class VenueFacts(NamedTuple):
    """Facts of the venue: account, terms, prices and their ages."""

    now_ms: int
    account: Account | None
    terms: InstrumentTerms | None
    quote: Quote | None
    price_interval_ms: int
    unit_value: float | None


class Exposure(NamedTuple):
    """Positions before and after the order.

    Attributes
    ----------
    order_units, held_units
        Unsigned, of the order's instrument.
    trades_here
        Open trades in the instrument.
    instruments_held
        Number of other instruments with a position, whoever opened it.
    gross_value
        Notional of the executor's positions, in the account's currency; None when unknown.
    base
        The account base; None when unknown.
    last_opened_ms
        The venue's time of the last opening or increasing order of the instrument.
    losses_in_a_row
        Consecutive losing trades, since the last one that engaged the kill switch.
    currencies
        Both currencies of the instrument before and after the order; None when unknown.
    week_end
        Reason to close before the weekend; empty outside the last minutes of the week.
    """

    order_units: Decimal
    held_units: Decimal
    trades_here: int
    instruments_held: int
    foreign: str
    gross_value: float | None
    base: float | None
    last_opened_ms: int | None
    margin_blocked: bool
    daily_loss: float | None
    drawdown: float | None
    losses_in_a_row: int = 0
    currencies: tuple[CurrencyShare, ...] | None = ()
    week_end: str = ""


class OrderBasis(NamedTuple):
    """Facts of the log: the decision and the weights of the order.

    Attributes
    ----------
    opening
        True for an opening order, false for an increase.
    not_at_entry
        Why this is not at the run's entry; empty when it is, or for an increase.
    weights_ms
        Epoch of the weights; None without weights.
    """

    opening: bool
    decision: GateDecision
    config: Config
    not_at_entry: str
    weights_ms: int | None
    selected: bool


def sending_guards(trading: Trading, mode: Mode) -> tuple[GuardVerdict, ...]:
    """Return the guards that block every order, also closing ones."""
    live = mode != "live" or trading.live_trading_enabled
    return (
        _said("read_only", not trading.read_only, "READ_ONLY", trading.read_only),
        _said("dry_run", not trading.dry_run_trades, "DRY_RUN_TRADES", trading.dry_run_trades),
        _said("live_trading", live, f"mode {mode}, LIVE_TRADING_ENABLED",
              trading.live_trading_enabled),
    )  # fmt: skip


def foreign_guard(others_hold: bool) -> GuardVerdict:
    """Return whether a reduction by units is allowed: the venue closes the oldest trade first.

    With untracked positions in the instrument that may be an untracked trade. Complete closing goes
    trade by trade and is always allowed.
    """
    detail = (
        "others hold something here, and an order by units may close theirs; close all of ours "
        "by its trades instead (manifold close)"
    )
    return GuardVerdict("foreign", not others_hold, detail if others_hold else "nothing of others")


def evaluate_guards(
    trading: Trading, switches: Switches, plan: OrderBasis, market: VenueFacts, exposure: Exposure
) -> tuple[GuardVerdict, ...]:
    """Return the result of every guard for an order that opens or increases."""
    killed = switches.killed
    return (
        GuardVerdict("kill_switch", not killed, "; ".join(killed) or "off"),
        *sending_guards(trading, switches.mode),
        GuardVerdict(
            "reconciled",
            not switches.unreconciled,
            switches.unreconciled or "agrees with the broker",
        ),
        GuardVerdict("foreign", not exposure.foreign, exposure.foreign or "nothing of others"),
        *_run(plan),
        *_session(plan),
        *_freshness(trading, plan, market),
        *_gate(plan),
        *_metrics(plan),
        *_price(trading, market),
        *_margin(trading, market, exposure),
        _entry_cooldown(plan, market, exposure),
        *_losses(trading, exposure),
        *_limits(trading, plan, market, exposure),
        _currency_exposure(trading, exposure),
        GuardVerdict("week_end", not exposure.week_end, exposure.week_end or "not near"),
    )


def _run(plan: OrderBasis) -> Iterator[GuardVerdict]:
    timely = not plan.not_at_entry
    yield GuardVerdict("own_entry", timely, plan.not_at_entry or "at the run's own entry")
    # with entry in the exit bar allowed, `position` does not show that a trade ended
    apart = plan.config.exit_cooldown_sec > 0
    yield _said("trades_apart", apart, "EXIT_COOLDOWN_SEC", plan.config.exit_cooldown_sec)
    yield GuardVerdict("selected", plan.selected, "has weight" if plan.selected else "no weight")


def _session(plan: OrderBasis) -> Iterator[GuardVerdict]:
    if plan.config.session_trading_enabled:
        decision = plan.decision
        yield _said("session", decision.session_open, "session open", decision.session_open)
        yield _said("near_close", not decision.near_close, "near its close", decision.near_close)


def _freshness(trading: Trading, plan: OrderBasis, market: VenueFacts) -> Iterator[GuardVerdict]:
    decision, config, now_ms = plan.decision, plan.config, market.now_ms
    limit_s = float(config.fresh_max_signal_age_sec)
    bar_ms = decision.signal_bar_ms
    end_ms = None if bar_ms is None else bar_ms + config.granularity_ms
    yield _age("signal_age", end_ms, now_ms, limit_s)
    yield _age("decision_age", decision.as_of_ms, now_ms, limit_s)
    weights_s = float(config.alloc_interval_sec + config.gates_blob_max_age_sec)
    yield _age("weights_age", plan.weights_ms, now_ms, weights_s)
    price_s = trading.fresh_max_ws_age_sec + market.price_interval_ms / 1000
    priced_ms = None if market.quote is None else market.quote.time_ms
    yield _age("price_age", priced_ms, now_ms, price_s)


def _gate(plan: OrderBasis) -> Iterator[GuardVerdict]:
    decision = plan.decision
    reasons = ", ".join(decision.reasons)
    eligible = decision.eligible and not decision.reasons
    yield GuardVerdict("eligible", eligible, reasons or "eligible")
    until_ms = decision.cooldown_until_ms
    cooled = until_ms is None or until_ms <= decision.as_of_ms
    yield GuardVerdict("cooldown", cooled, "none" if cooled else f"until {until_ms}")


def _metrics(plan: OrderBasis) -> Iterator[GuardVerdict]:
    metrics, config = plan.decision.metrics, plan.config
    if metrics is None:
        yield GuardVerdict("metrics", False, "the decision has no metrics")
        return
    for limit in GUARD_LIMITS[config.gate_mode].values():
        wanted = getattr(config, limit.setting)
        if wanted is None:
            continue
        found = float(getattr(metrics, limit.metric))
        least = limit.relation == ">="
        passed = math.isfinite(found) and (found >= wanted if least else found <= wanted)
        yield GuardVerdict(limit.metric, passed, f"{found:.4f}, wanted {limit.relation} {wanted:g}")


def _price(trading: Trading, market: VenueFacts) -> Iterator[GuardVerdict]:
    quote = market.quote
    if quote is None:
        yield GuardVerdict("tradeable", False, "the venue has no price")
        yield GuardVerdict("spread", False, "the venue has no price")
        return
    yield _said("tradeable", quote.tradeable, "tradeable", quote.tradeable)
    sound = _positive(quote.bid) and _positive(quote.ask) and quote.ask >= quote.bid
    spread = quote.spread_bps if sound else math.nan
    detail = f"{spread:.2f} bps" if sound else f"bid {quote.bid!r}, ask {quote.ask!r}: no prices"
    yield GuardVerdict(
        "spread",
        _at_most(spread, trading.max_spread_bps),
        f"{detail}, MAX_SPREAD_BPS {trading.max_spread_bps:g}",
    )


def _margin(trading: Trading, market: VenueFacts, exposure: Exposure) -> Iterator[GuardVerdict]:
    account, terms, value = market.account, market.terms, market.unit_value
    high, low = trading.margin_hyst_high, trading.margin_hyst_low
    if account is None:
        yield GuardVerdict("margin", False, "the account is not known")
        yield GuardVerdict("margin_after", False, "the account is not known")
        return
    ratio = account.margin_ratio
    passed = _at_most(ratio, high) and not exposure.margin_blocked
    held = " (blocked until it falls below LOW)" if exposure.margin_blocked else ""
    yield GuardVerdict("margin", passed, f"{ratio:.4f} in use, MARGIN_HYST {low:g}/{high:g}{held}")
    if terms is None or value is None:
        yield GuardVerdict("margin_after", False, "the terms or the value of a unit are not known")
        return
    needed = float(exposure.order_units) * value * terms.margin_rate
    total = account.margin_used + account.margin_available
    after = (account.margin_used + needed) / total if total > 0.0 else math.nan
    yield GuardVerdict(
        "margin_after",
        _at_most(after, high) and _at_most(needed, account.margin_available),
        f"{after:.4f} in use after it, MARGIN_HYST_HIGH {high:g}",
    )


def _entry_cooldown(plan: OrderBasis, market: VenueFacts, exposure: Exposure) -> GuardVerdict:
    last_ms, wanted_s = exposure.last_opened_ms, plan.config.entry_cooldown_sec
    if not plan.opening or last_ms is None:
        return GuardVerdict("entry_cooldown", True, "no entry before")
    since_s = (market.now_ms - last_ms) / 1000
    detail = f"{since_s:.1f} s since the last entry, ENTRY_COOLDOWN_SEC {wanted_s}"
    return GuardVerdict("entry_cooldown", since_s >= wanted_s, detail)


def _losses(trading: Trading, exposure: Exposure) -> Iterator[GuardVerdict]:
    for guard, found, setting in (
        ("daily_loss", exposure.daily_loss, "risk_max_daily_loss"),
        ("drawdown", exposure.drawdown, "risk_max_drawdown"),
    ):
        limit = getattr(trading, setting)
        known = found is not None
        passed = found is not None and _at_most(found, limit) and found < limit
        shown = f"{found:.4%}" if known else "not known"
        yield GuardVerdict(guard, passed, f"{shown}, {setting.upper()} {limit:g}")
    most, row = trading.risk_max_consecutive_losses, exposure.losses_in_a_row
    detail = f"{row} losing trades in a row, RISK_MAX_CONSECUTIVE_LOSSES {most}"
    yield GuardVerdict("consecutive_losses", not most or row < most, detail)


def _limits(
    trading: Trading, plan: OrderBasis, market: VenueFacts, exposure: Exposure
) -> Iterator[GuardVerdict]:
    units, after = exposure.order_units, exposure.held_units + exposure.order_units
    least = None if market.terms is None else market.terms.min_units
    big_enough = least is not None and units.is_finite() and units >= least
    shown = "not known" if least is None else f"{least:f}"
    yield GuardVerdict("min_size", big_enough, f"{units:f} units, least {shown}")
    yield _limit("max_position_size", float(units), trading.risk_max_position_size,
                 "RISK_MAX_POSITION_SIZE")  # fmt: skip
    yield _limit("max_net_units", float(after), trading.risk_max_net_units_per_pair,
                 "RISK_MAX_NET_UNITS_PER_PAIR")  # fmt: skip
    yield _limit("max_positions_per_pair", exposure.trades_here + 1,
                 trading.risk_max_positions_per_pair, "RISK_MAX_POSITIONS_PER_PAIR")  # fmt: skip
    yield _limit("max_total_positions", exposure.instruments_held + 1,
                 trading.risk_max_total_positions, "RISK_MAX_TOTAL_POSITIONS")  # fmt: skip
    value, gross, base = market.unit_value, exposure.gross_value, exposure.base
    limit = plan.config.risk_alloc_target_pct
    if value is None or gross is None or base is None:
        yield GuardVerdict("total_exposure", False, "not known: a price or a figure is missing")
        return
    total = (gross + float(units) * value) / base if base > 0.0 else math.nan
    yield _limit("total_exposure", total, limit, "RISK_ALLOC_TARGET_PCT")


def _currency_exposure(trading: Trading, exposure: Exposure) -> GuardVerdict:
    limit, found = trading.risk_max_currency_exposure_pct, exposure.currencies
    if not limit:
        return GuardVerdict("currency_exposure", True, "RISK_MAX_CURRENCY_EXPOSURE_PCT 0")
    if found is None:
        detail = "not known: a price or a figure is missing"
        return GuardVerdict("currency_exposure", False, detail)
    said = ", ".join(f"{share.currency} {share.after:.4f}" for share in found)
    detail = f"{said} of the base after it, RISK_MAX_CURRENCY_EXPOSURE_PCT {limit:g}"
    return GuardVerdict("currency_exposure", all(within(s, limit) for s in found), detail)


class MarginGate:
    """Margin hysteresis: closed from MARGIN_HYST_HIGH on, open again below MARGIN_HYST_LOW.

    The state before a start is unknown: it begins closed, and opens below LOW.
    """

    def __init__(self, trading: Trading) -> None:
        self._low, self._high = trading.margin_hyst_low, trading.margin_hyst_high
        self.blocked = True

    def update(self, ratio: float) -> bool:
        """Update with the margin used (a fraction); return whether entries are blocked."""
        if not math.isfinite(ratio) or ratio < 0.0 or ratio >= self._high:
            self.blocked = True
        elif ratio < self._low:
            self.blocked = False
        return self.blocked


def _positive(number: float) -> bool:
    return math.isfinite(number) and number > 0.0


def _at_most(number: float, limit: float) -> bool:
    return math.isfinite(number) and 0.0 <= number <= limit


def _said(guard: str, passed: bool, what: str, found: object) -> GuardVerdict:
    shown = int(found) if isinstance(found, bool) else found
    return GuardVerdict(guard, bool(passed), f"{what} {shown}")


def _limit(guard: str, found: float, limit: float, setting: str) -> GuardVerdict:
    return GuardVerdict(guard, _at_most(found, limit), f"{found:.6g}, {setting} {limit:g}")


def _age(guard: str, at_ms: int | None, now_ms: int, limit_s: float) -> GuardVerdict:
    if at_ms is None:
        return GuardVerdict(guard, False, f"not known, limit {limit_s:g} s")
    age_s = (now_ms - at_ms) / 1000
    # a timestamp ahead of the venue's clock is as invalid as an old one
    passed = -limit_s <= age_s <= limit_s
    return GuardVerdict(guard, passed, f"{age_s:.1f} s, limit {limit_s:g} s")
