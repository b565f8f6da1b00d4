"""Failure signals for any instant and any age: monotone, quiet when closed, never ok unseen."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from streams.candles.calendar import FX
from streams.candles.market_clock import market_at, open_ms_between
from streams.config.settings import Config
from streams.mirror.probe import MirroredManifold
from streams.monitoring.alerts import failure_signals
from streams.monitoring.facts import LiveFacts
from streams.monitoring.verdict import SEVERITY
from tests.support.sample_facts import PAIRS, healthy, ms

INSTANTS = st.integers(ms("2023-01-01"), ms("2027-01-01"))
"""Both changes of the clocks, in New York and elsewhere, several times."""
AGES = st.integers(0, 20 * 86_400_000)
BY_TIME = {"candle_stale", "manifold_stale", "gates_blob_stale", "allocator_stale", "stream_silent"}
CONFIG = Config()


def aged(now_ms: int, age_ms: int) -> LiveFacts:
    then, facts = now_ms - age_ms, healthy(now_ms)
    assert facts.log and facts.valkey and facts.feed
    return facts._replace(
        log=facts.log._replace(candles=dict.fromkeys(PAIRS, then)),
        valkey=facts.valkey._replace(
            manifolds={pair: MirroredManifold(then) for pair in PAIRS}, blob_ms=then, status_ms=then
        ),
        feed=facts.feed._replace(last_message_ms=then),
    )


@given(INSTANTS, AGES, AGES)
@settings(max_examples=150, deadline=None)
def test_older_is_never_better(now_ms: int, one: int, other: int) -> None:
    young, old = sorted((one, other))
    before = {
        s.name: SEVERITY[s.state] for s in failure_signals(aged(now_ms, young), now_ms, CONFIG)
    }
    after = {s.name: SEVERITY[s.state] for s in failure_signals(aged(now_ms, old), now_ms, CONFIG)}
    assert all(before[name] <= after[name] for name in BY_TIME)


@given(INSTANTS, AGES)
@settings(max_examples=150, deadline=None)
def test_closed_is_quiet_and_open_is_judged(now_ms: int, age_ms: int) -> None:
    found = {s.name: s.state for s in failure_signals(aged(now_ms, age_ms), now_ms, CONFIG)}
    is_open = market_at(FX, now_ms).open
    assert all((found[name] == "quiet") == (not is_open) for name in BY_TIME)


@given(INSTANTS, AGES)
@settings(max_examples=150, deadline=None)
def test_a_state_is_since_an_instant_that_has_been(now_ms: int, age_ms: int) -> None:
    for found in failure_signals(aged(now_ms, age_ms), now_ms, CONFIG):
        assert found.since_ms is None or found.since_ms <= now_ms
        assert found.detail
        assert (found.state not in ("warn", "fail")) or found.action


@given(INSTANTS, AGES, st.integers(0, 5 * 86_400_000))
@settings(max_examples=300, deadline=None)
def test_open_time_adds_up_and_is_what_the_market_says(start: int, length: int, more: int) -> None:
    middle, end = start + length, start + length + more
    parts = open_ms_between(FX, start, middle), open_ms_between(FX, middle, end)
    assert open_ms_between(FX, start, end) == sum(parts)
    state = market_at(FX, start)
    until = min(state.next_change_ms, end)
    assert state.next_change_ms > start
    assert open_ms_between(FX, start, until) == (until - start if state.open else 0)
