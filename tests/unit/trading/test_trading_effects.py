"""Variables of the executor and of the failure signals: what each changes."""

from __future__ import annotations

import pytest

from streams.config.settings import Config
from streams.config.trading import Trading
from streams.monitoring.alerts import failure_signals
from streams.monitoring.facts import KillFacts
from streams.monitoring.sources import limits_of
from streams.trading.brokers.broker import Quote
from streams.trading.plan import openings
from tests.support.execution_bench import MINUTE, PAIR, T0, decision, desk, venue, weights
from tests.support.sample_facts import HOUR_MS, OPEN, healthy

ENTERED = (decision(0, 0), decision(1, 1))
SELECTED = (weights(1, EUR_USD=0.1),)
NOW = T0 + 2 * MINUTE


def trading(**env: str) -> Trading:
    return Trading.from_env(env)


def refused(quote: Quote, **env: str) -> set[str]:
    """Return the guards that hold an opening back at a quote."""
    at = desk(*ENTERED, epochs=SELECTED, trading=trading(**env))
    (intent,) = openings(at, venue(1, quotes={PAIR: quote}))
    return {verdict.guard for verdict in intent.guards if not verdict.passed}


CASES = {
    # spread of 3 bps; the price of a minute ago, which is as old as a bar
    "MAX_SPREAD_BPS": (Quote(PAIR, 1.1, 1.10033, NOW), "2.9", "3.1", {"spread"}),
    "FRESH_MAX_WS_AGE_SEC": (
        Quote(PAIR, 1.1, 1.1001, NOW - MINUTE - 10_000), "9", "11", {"price_age"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_quote_is_judged_by_the_limits_that_are_set(name: str) -> None:
    quote, too_tight, enough, guard = CASES[name]
    assert refused(quote, **{name: too_tight}) == guard
    assert refused(quote, **{name: enough}) == set()


def test_the_runs_levels_are_given_to_the_broker_where_that_is_set() -> None:
    for flag, given in (("1", True), ("0", False)):
        at = desk(*ENTERED, epochs=SELECTED, trading=trading(AUTO_TP_ON_FILL_ENABLED=flag))
        (intent,) = openings(at, venue(1))
        assert intent.submitted
        assert (intent.stop_loss is not None, intent.take_profit is not None) == (given, given)


@pytest.mark.parametrize(("seconds", "state"), [("7200", "warn"), ("14400", "ok")])
def test_an_engaged_switch_warns_after_the_time_that_is_set(seconds: str, state: str) -> None:
    engaged = KillFacts(True, True, ("log",), OPEN - 3 * HOUR_MS, "ana", "lunch")
    limits = limits_of({"KILL_SWITCH_LONG_SEC": seconds})
    found = {
        one.name: one
        for one in failure_signals(healthy(kill_switch=engaged), OPEN, Config(), limits)
    }
    assert found["kill_switch_stuck"].state == state
