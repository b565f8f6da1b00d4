"""Every guard on its own: what it lets through, what it holds back, and that all are recorded."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.config.settings import Config
from streams.config.trading import Trading
from streams.trading.brokers.broker import Quote
from streams.trading.currency_exposure import CurrencyShare
from streams.trading.guards import (
    Exposure,
    MarginGate,
    OrderBasis,
    Switches,
    VenueFacts,
    evaluate_guards,
    sending_guards,
)
from tests.support.execution_bench import (
    ACCOUNT,
    CONFIG,
    METRICS,
    MINUTE,
    PAIR,
    T0,
    TERMS,
    decision,
)

NOW = T0 + 2 * MINUTE
PLAN = OrderBasis(True, decision(1, 1), CONFIG, "", NOW, True)
QUOTE = Quote(PAIR, 1.1, 1.1001, NOW - 1000)
MARKET = VenueFacts(NOW, ACCOUNT, TERMS, QUOTE, 0, 1.1)
EXPOSURE = Exposure(Decimal(1000), Decimal(0), 0, 0, "", 0.0, 1e5, None, False, 0.0, 0.0)
OFF = Switches("practice", ())
ORDER = (
    "kill_switch", "read_only", "dry_run", "live_trading", "reconciled", "foreign", "own_entry",
    "trades_apart", "selected", "session", "near_close", "signal_age", "decision_age",
    "weights_age", "price_age", "eligible", "cooldown", "coherence", "stability", "entropy",
    "rupture", "count_1h", "tradeable", "spread", "margin", "margin_after", "entry_cooldown",
    "daily_loss", "drawdown", "consecutive_losses", "min_size", "max_position_size",
    "max_net_units", "max_positions_per_pair", "max_total_positions", "total_exposure",
    "currency_exposure", "week_end",
)  # fmt: skip


def failing(
    trading: Trading = Trading(),  # noqa: B008
    switches: Switches = OFF,
    plan: OrderBasis = PLAN,
    market: VenueFacts = MARKET,
    exposure: Exposure = EXPOSURE,
) -> set[str]:
    verdicts = evaluate_guards(trading, switches, plan, market, exposure)
    if plan.decision.metrics is not None:
        assert [v.guard for v in verdicts] == list(ORDER)
    assert all(v.detail for v in verdicts)
    return {v.guard for v in verdicts if not v.passed}


def test_nothing_is_held_back_when_everything_is_in_order() -> None:
    assert failing() == set()


def gate(**changed: Any) -> dict[str, Any]:
    return {"plan": PLAN._replace(decision=PLAN.decision._replace(**changed))}


def metric(**changed: float) -> dict[str, Any]:
    return gate(metrics=METRICS._replace(**changed))


def exposed(**changed: Any) -> dict[str, Any]:
    return {"exposure": EXPOSURE._replace(**changed)}


LOSSES = {"trading": Trading(risk_max_consecutive_losses=3)}
CAPPED = {"trading": Trading(risk_max_currency_exposure_pct=0.2)}


def share(before: float, after: float) -> CurrencyShare:
    return CurrencyShare("EUR", before, after)


def priced(bid: float, ask: float, age_ms: int = 0, tradeable: bool = True) -> dict[str, Any]:
    return {"market": MARKET._replace(quote=Quote(PAIR, bid, ask, NOW - age_ms, tradeable))}


def money(used: float, available: float) -> dict[str, Any]:
    account = ACCOUNT._replace(margin_used=used, margin_available=available)
    return {"market": MARKET._replace(account=account)}


@pytest.mark.parametrize(
    ("held_back", "case"),
    [
        ({"kill_switch"}, {"switches": OFF._replace(killed=("no record",))}),
        ({"read_only"}, {"trading": Trading(read_only=True)}),
        ({"dry_run"}, {"trading": Trading(dry_run_trades=True)}),
        ({"live_trading"}, {"switches": OFF._replace(mode="live")}),
        (set(), {"switches": OFF._replace(mode="live"),
                 "trading": Trading(live_trading_enabled=True)}),
        ({"reconciled"}, {"switches": OFF._replace(unreconciled="not yet")}),
        ({"foreign"}, exposed(foreign="trade 7 is not ours")),
        ({"own_entry"}, {"plan": PLAN._replace(not_at_entry="late")}),
        ({"trades_apart"}, {"plan": PLAN._replace(config=Config(exit_cooldown_sec=0))}),
        ({"selected"}, {"plan": PLAN._replace(selected=False)}),
        ({"session"}, gate(session_open=False)),
        ({"near_close"}, gate(near_close=True)),
        ({"signal_age"}, gate(signal_bar_ms=NOW - 361_000)),
        (set(), gate(signal_bar_ms=NOW - 360_000)),
        ({"signal_age"}, gate(signal_bar_ms=None)),
        ({"decision_age"}, gate(as_of_ms=NOW - 300_001)),
        ({"weights_age"}, {"plan": PLAN._replace(weights_ms=NOW - 240_001)}),
        ({"weights_age"}, {"plan": PLAN._replace(weights_ms=None)}),
        ({"price_age"}, priced(1.1, 1.1001, 30_001)),
        (set(), priced(1.1, 1.1001, 30_000)),
        ({"price_age"}, priced(1.1, 1.1001, -30_001)),
        ({"tradeable"}, priced(1.1, 1.1001, tradeable=False)),
        ({"price_age", "tradeable", "spread"}, {"market": MARKET._replace(quote=None)}),
        ({"spread"}, priced(1.1, 1.1003)),
        ({"spread"}, priced(1.1001, 1.1)),
        ({"spread"}, priced(math.nan, 1.1)),
        ({"spread"}, priced(-1.1, 1.1)),
        ({"spread"}, priced(0.0, 1.1)),
        ({"eligible"}, gate(eligible=False)),
        ({"eligible"}, gate(reasons=("signal_stale",))),
        ({"cooldown"}, gate(cooldown_until_ms=NOW + 1)),
        (set(), gate(cooldown_until_ms=NOW)),
        ({"coherence"}, metric(coherence=0.5499)),
        (set(), metric(coherence=0.55)),
        ({"coherence"}, metric(coherence=math.nan)),
        ({"stability"}, metric(stability=0.39)),
        ({"entropy"}, metric(entropy=0.71)),
        ({"rupture"}, metric(rupture=math.inf)),
        ({"count_1h"}, metric(count_1h=1)),
        ({"metrics"}, gate(metrics=None)),
        ({"margin"}, exposed(margin_blocked=True)),
        ({"margin", "margin_after"}, money(30_001, 69_999)),
        ({"margin_after"}, money(29_999, 70_001)),
        ({"margin_after", "margin"}, money(-1.0, 2.0)),
        ({"margin", "margin_after"}, money(math.nan, 5.0)),
        ({"margin", "margin_after"}, {"market": MARKET._replace(account=None)}),
        ({"margin_after", "total_exposure"}, {"market": MARKET._replace(unit_value=None)}),
        ({"margin_after", "min_size"}, {"market": MARKET._replace(terms=None)}),
        ({"entry_cooldown"}, exposed(last_opened_ms=NOW - 59_999)),
        (set(), exposed(last_opened_ms=NOW - 60_000)),
        ({"daily_loss"}, exposed(daily_loss=0.02)),
        (set(), exposed(daily_loss=0.0199)),
        ({"daily_loss"}, exposed(daily_loss=None)),
        ({"daily_loss"}, exposed(daily_loss=math.nan)),
        ({"drawdown"}, exposed(drawdown=0.1)),
        ({"drawdown"}, exposed(drawdown=None)),
        ({"min_size"}, exposed(order_units=Decimal("0.5"))),
        ({"max_position_size"}, {"trading": Trading(risk_max_position_size=999)}),
        ({"max_net_units"}, exposed(held_units=99_001)),
        ({"max_positions_per_pair"}, exposed(trades_here=5)),
        ({"max_total_positions"}, exposed(instruments_held=7)),
        ({"total_exposure"}, exposed(gross_value=29_000.0)),
        ({"total_exposure"}, exposed(gross_value=None)),
        ({"total_exposure"}, exposed(base=None)),
        ({"week_end"}, exposed(week_end="the market week ends")),
        (set(), exposed(losses_in_a_row=99, currencies=None)),
        ({"consecutive_losses"}, LOSSES | exposed(losses_in_a_row=3)),
        (set(), LOSSES | exposed(losses_in_a_row=2)),
        ({"currency_exposure"}, CAPPED | exposed(currencies=None)),
        ({"currency_exposure"}, CAPPED | exposed(currencies=(share(0.1, 0.3),))),
        ({"currency_exposure"}, CAPPED | exposed(currencies=(share(-0.1, -0.3),))),
        ({"currency_exposure"}, CAPPED | exposed(currencies=(share(0.0, 0.1), share(0.0, -0.3)))),
        ({"currency_exposure"}, CAPPED | exposed(currencies=(share(math.nan, math.nan),))),
        (set(), CAPPED | exposed(currencies=(share(0.0, 0.2), share(-0.5, -0.3)))),
    ],
)  # fmt: skip
def test_a_guard_holds_back_what_it_is_for(held_back: set[str], case: dict[str, Any]) -> None:
    assert failing(**case) == held_back


def test_every_guard_is_evaluated_even_when_the_first_one_says_no() -> None:
    worst = EXPOSURE._replace(daily_loss=0.5, drawdown=0.5, foreign="x", margin_blocked=True)
    found = failing(
        Trading(read_only=True, dry_run_trades=True),
        Switches("live", ("engaged",), "never"),
        PLAN._replace(not_at_entry="late", selected=False, weights_ms=0),
        MARKET._replace(quote=None),
        worst,
    )
    assert len(found) >= 14


def test_sessions_do_not_bind_where_they_are_switched_off() -> None:
    plan = PLAN._replace(config=Config(session_trading_enabled=False))
    guards = {v.guard for v in evaluate_guards(Trading(), OFF, plan, MARKET, EXPOSURE)}
    assert not guards & {"session", "near_close"}


def test_an_increase_does_not_wait_for_the_entry_cooldown() -> None:
    increase = PLAN._replace(opening=False)
    assert failing(plan=increase, exposure=EXPOSURE._replace(last_opened_ms=NOW)) == set()


def test_closing_orders_meet_only_the_guards_that_stop_everything() -> None:
    assert [v.guard for v in sending_guards(Trading(), "paper")] == [
        "read_only", "dry_run", "live_trading",
    ]  # fmt: skip
    assert all(v.passed for v in sending_guards(Trading(), "practice"))
    assert not all(v.passed for v in sending_guards(Trading(read_only=True), "paper"))


def test_margin_is_blocked_from_high_until_below_low() -> None:
    gate_ = MarginGate(Trading())
    said = [gate_.update(r) for r in (0.27, 0.2, 0.27, 0.3, 0.27, 0.25, 0.2499, math.nan, 0.1)]
    assert said == [True, False, False, True, True, True, False, True, False]


@given(st.lists(st.floats(0.0, 1.0), min_size=1))
def test_margin_hysteresis_is_the_last_clear_word(ratios: list[float]) -> None:
    gate_ = MarginGate(Trading())
    for ratio in ratios:
        found = gate_.update(ratio)
    clear = [r for r in ratios if r >= 0.30 or r < 0.25]
    assert found == (clear[-1] >= 0.30 if clear else True)
