"""Joining at the run's own entry and nowhere else; weights of the entry's own epoch."""

from __future__ import annotations

import random

import pytest

from streams.records.events import GateDecision
from streams.trading.runs import JoinedTrade, Runs, SourceSpan, WeightsHistory, entry_of
from tests.support.execution_bench import MINUTE, PAIR, T0, decision, weights


def after(*decisions: GateDecision) -> Runs:
    runs = Runs()
    for number, one in enumerate(decisions):
        runs.take(one, f"sep.manifolds-3-{10 * number}")
    return runs


@pytest.mark.parametrize(
    ("decisions", "joinable"),
    [
        pytest.param([decision(0, 0), decision(1, 1)], 1, id="the position begins"),
        pytest.param([decision(0, 0), decision(1, -1)], -1, id="short"),
        pytest.param([decision(0, 0), decision(1, 1), decision(2, 1)], None, id="the middle"),
        pytest.param([decision(1, 1)], None, id="the beginning was not seen"),
        pytest.param([decision(0, 1), decision(1, -1)], -1, id="it turns round"),
        pytest.param([decision(0, 0), decision(1, 1, params="p2")], None, id="other parameters"),
        pytest.param([decision(0, 0), decision(1, 1, granularity="M5")], None, id="other bars"),
        pytest.param([decision(0, 0), decision(1, 1, no_candle=True)], None, id="without a candle"),
        pytest.param([decision(0, 0), decision(1, 1), decision(2, 0)], None, id="it is over"),
    ],
)
def test_an_entry_is_the_decision_at_which_the_position_begins(
    decisions: list[GateDecision], joinable: int | None
) -> None:
    entry = after(*decisions).entries().get(PAIR)
    assert (entry.direction if entry else None) == joinable


def test_a_late_candle_is_looked_for_only_after_a_bar_without_one() -> None:
    quiet = decision(1, 0, no_candle=True)
    assert after(decision(0, 0), decision(1, 1)).entries()[PAIR].late_span is None
    entry = after(decision(0, 0), quiet, decision(2, 1)).entries()[PAIR]
    assert entry.late_span == SourceSpan(3, 10, 20)


def test_the_same_decision_again_is_no_news() -> None:
    runs = after(decision(0, 0), decision(1, 1))
    assert not runs.take(decision(1, 0), "sep.manifolds-3-99")
    assert runs.entries()[PAIR].direction == 1


def reference_followed(positions: list[int], params: list[str], entry: int) -> list[bool]:
    """Whether the trade that began at bar ``entry`` goes on, bar by bar: the plain way."""
    going, found = True, []
    for bar in range(entry, len(positions)):
        same = positions[bar] == positions[entry] and params[bar] == params[entry]
        going = going and same
        found.append(going)
    return found


@pytest.mark.parametrize("seed", range(40))
def test_a_joined_trade_lasts_until_the_position_or_the_run_changes(seed: int) -> None:
    chance = random.Random(seed)
    positions = [0]
    for _ in range(80):
        positions.append(chance.choice((positions[-1], positions[-1], 0, 1, -1)))
    params = ["p1"] * 50 + ["p2"] * 31
    decisions = [decision(b, p, params=params[b]) for b, p in enumerate(positions)]
    looked = 0
    for entry in range(1, len(positions)):
        joined = after(*decisions[: entry + 1]).entries().get(PAIR)
        begins = positions[entry] not in (0, positions[entry - 1])
        assert (joined is not None) == (begins and params[entry] == params[entry - 1])
        if joined is None:
            continue
        trade = JoinedTrade(joined.direction, joined.decision.as_of_ms)
        # an executor that starts anywhere reads from the entry on, and only knows what it joined
        again = Runs({PAIR: trade})
        for bar, goes_on in enumerate(reference_followed(positions, params, entry), entry):
            again.take(decisions[bar], f"sep.manifolds-3-{bar}")
            state = again.of(PAIR)
            assert state is not None
            assert state.follows(trade) == goes_on, (bar, positions)
            looked += 1
    assert looked > 20


def test_weights_are_those_of_the_entrys_epoch() -> None:
    allocation = WeightsHistory()
    assert allocation.awaited(T0 + MINUTE, MINUTE)
    allocation.take(weights(0, EUR_USD=0.1))
    assert not allocation.awaited(T0 + MINUTE, MINUTE)
    assert allocation.awaited(T0 + 2 * MINUTE, MINUTE)
    allocation.take(weights(1, GBP_USD=0.1))
    assert entry_of(allocation.at(T0 + MINUTE), PAIR) is not None
    assert entry_of(allocation.at(T0 + 2 * MINUTE), PAIR) is None
    assert allocation.at(T0) is None


def test_with_rare_epochs_the_last_one_counts() -> None:
    allocation = WeightsHistory()
    allocation.take(weights(-1, EUR_USD=0.1))  # 10:00
    assert not allocation.awaited(T0 + 7 * MINUTE, 10 * MINUTE)
    assert entry_of(allocation.at(T0 + 7 * MINUTE), PAIR) is not None
    assert allocation.awaited(T0 + 10 * MINUTE, 10 * MINUTE)
