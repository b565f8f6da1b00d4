"""The paper account against the plain simulator of the backtest: who follows a run trades as it."""

from __future__ import annotations

import random
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from streams.config.settings import Config
from streams.records.events import Candle
from streams.trading.brokers.brackets import average_true_range, level_rule
from streams.trading.brokers.broker import OrderRequest
from streams.trading.brokers.paper_book import PaperBook, PaperRules
from tests.support import backtest_market as made
from tests.support.reference_backtest import Bar, Rules, simulate

GROUPS, MARKETS = 6, 10
PAIR = "EUR_USD"
UNITS = Decimal(1000)
REASONS = {"stop_loss": "stop", "take_profit": "target"}


def candle(bar: Bar, granularity: str) -> Candle:
    return Candle(
        PAIR, granularity, bar.bar_ms, bar.as_of_ms, bar.mid, bar.bid, bar.ask, True, 1, "file"
    )


def follow(bars: list[Bar], positions: list[int], rules: Rules, gran: str) -> list[dict[str, Any]]:
    """Trade after a run's positions as the executor does; return what was closed."""
    names = ("auto_tp_mode", "atr_stop_mult", "auto_tp_rr", "exit_pnl_enabled")
    names += ("exit_pnl_target_pct", "exit_pnl_stop_pct", "atr_bars")
    config = Config(**{name: getattr(rules, name) for name in names})
    book = PaperBook(PaperRules("paper", 1e7, "USD", 0.02, rules.backtest_cost_bps))
    joined, before, closed = 0, 0, []
    entry: Any = None
    for place, (bar, position) in enumerate(zip(bars, positions, strict=True)):
        for booked in book.take(candle(bar, gran)):
            if booked.kind != "fill":
                continue
            if entry is None:
                entry = booked
            else:
                assert booked.units == -entry.units
                closed.append(
                    {
                        "direction": 1 if entry.units > 0 else -1,
                        "entry_bar_ms": entry.time_ms,
                        "entry_price": entry.price,
                        "exit_bar_ms": booked.time_ms,
                        "exit_price": booked.price,
                        "reason": REASONS.get(booked.cause, "run"),
                        "gain": booked.realized_pl,
                    }
                )
                entry = None
        if joined and position != joined:
            if book.open_trades():
                held = book.open_trades()[0].units
                book.submit(
                    OrderRequest(f"c{place}", PAIR, -held, True, None, None, None, bar.as_of_ms)
                )
            joined = 0
        if position and before == 0:
            mids = [b.mid for b in bars[: place + 1]]
            rule = level_rule(config, average_true_range(mids, config.atr_bars))
            order = OrderRequest(
                f"o{place}", PAIR, UNITS * position, False, None, None, rule, bar.as_of_ms
            )
            assert book.submit(order).outcome == "pending"
            joined = position
        before = position
    return closed


@pytest.mark.parametrize("group", range(GROUPS))
def test_who_follows_a_run_has_its_trades(group: int) -> None:
    compared = sum(compare(seed) for seed in range(group * MARKETS, (group + 1) * MARKETS))
    assert compared > 50


def compare(seed: int) -> int:
    rng = random.Random(seed)
    gran = rng.choice(("M1", "M1", "M5", "H1"))
    rules = made.random_rules(rng)
    if rules.exit_cooldown_sec == 0:  # such a run does not show where a trade ends: never joined
        rules = replace(rules, exit_cooldown_sec=60)
    stretches = made.random_stretches(rng, rng.randrange(1, 4))
    bars = made.market(stretches, gran, rng.choice(made.STARTS_MS), rng)[:500]
    outcome = simulate(PAIR, bars, rules)
    found = follow(bars, [d["position"] for d in outcome.decisions], rules, gran)
    assert len(found) == len(outcome.trades)
    for ours, theirs in zip(found, outcome.trades, strict=True):
        for name in ("direction", "entry_bar_ms", "entry_price", "exit_bar_ms", "exit_price"):
            assert ours[name] == theirs[name], (name, ours, theirs)
        reason = theirs["exit_reason"]
        assert ours["reason"] == (reason if reason in ("stop", "target") else "run")
        gain = ours["direction"] * (ours["exit_price"] - ours["entry_price"]) * float(UNITS)
        assert ours["gain"] == pytest.approx(gain)
    return len(found)
