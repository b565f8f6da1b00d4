"""Epochs that do not wait for a quiet instrument: the same in every order, restart and cut."""

from __future__ import annotations

import asyncio
from functools import lru_cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.candles.calendar import calendar_of
from streams.config.settings import Config
from streams.pipeline.chain import make_chain
from streams.pipeline.memory import Derivation
from streams.pipeline.not_waited_for import NotWaitedFor
from streams.records.events import Watermark
from streams.records.log_record import Output, SourceRecord
from streams.records.topics import GATES, MANIFOLDS
from streams.replay.verify.lookahead import Lookahead, Subject
from streams.replay.verify.lookahead_cuts import Cut
from streams.replay.verify.lookahead_inputs import known_times
from tests.support.partition_logs import interleaved, numbered, onward
from tests.support.quiet_log import PAIRS, SETTINGS, quiet_control, quiet_facts, quiet_log
from tests.support.stage_bench import CODEC, MINUTE, Bench, essence, weights_of

SEED = 1


@lru_cache
def gates_by_partition() -> dict[int, tuple[SourceRecord, ...]]:
    """``opt.gates`` of the log, by the partition of ``md.candles`` behind it."""
    found: dict[int, tuple[SourceRecord, ...]] = {}
    facts = quiet_facts(SEED)
    for partition in sorted({fact.partition for fact in facts}):
        signals = Bench("signals", quiet_control(), partition)
        made = signals.feed(*(fact.event for fact in facts if fact.partition == partition))
        gates = Bench("gates", quiet_control(), partition).fold(onward(made, MANIFOLDS))
        found[partition] = onward(gates, GATES)
    return found


@lru_cache
def one_after_the_other() -> tuple[Output, ...]:
    """The weights when the partitions come one after the other."""
    every = [record for log in gates_by_partition().values() for record in log]
    return tuple(Bench("weights", quiet_control()).fold(numbered(every)))


def test_epochs_do_not_wait_and_later_candles_are_no_late_ones() -> None:
    facts = quiet_facts(SEED)
    marks = [f.event for f in facts if isinstance(f.event, Watermark) and f.event.not_waited_for]
    assert len(marks) > 20 and all(not mark.instruments for mark in marks)
    closed = weights_of(one_after_the_other())
    assert [w.epoch_ms for w in closed] == sorted({w.epoch_ms for w in closed})
    older = [
        (gate.instrument, weights.epoch_ms)
        for weights in closed
        for gate in weights.gates
        if gate.decided_ms < weights.epoch_ms
    ]
    # one that is not waited for counts with what it said before, whatever has come since
    assert len(older) > 30
    for name, epoch_ms in older:
        assert any(mark.not_waited_for == (name,) and mark.as_of_ms >= epoch_ms for mark in marks)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_every_interleaving_and_restart_gives_the_same_weights(data: st.DataObject) -> None:
    order = interleaved(data, gates_by_partition())
    made = Bench("weights", quiet_control())
    cut = data.draw(st.integers(0, len(order)))
    outputs = made.fold(order[:cut])
    made.restart()
    outputs += made.fold(order[cut:])
    assert [essence(one) for one in outputs] == [essence(one) for one in one_after_the_other()]


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_depends_on_what_comes_after_it(seed: int) -> None:
    config = Config.from_env(SETTINGS)
    records = quiet_log(seed)
    known_ms, ends, names = known_times(records, CODEC, "M1", quiet_control())

    def derivation() -> Derivation:
        made = Derivation(keeps_history=True)
        control = quiet_control()
        made.use(make_chain(CODEC, control, history=made.history(CODEC)).stages)
        return made

    assert names == tuple(sorted(PAIRS))
    subject = Subject(records, known_ms, derivation, True, ends, MINUTE, names, calendar_of(config))
    cuts = [Cut(ends[place], "a bar") for place in range(140, len(ends), 60)]
    report = asyncio.run(Lookahead(subject, apart=True).run(cuts))
    assert report.difference is None
    assert report.records["risk.weights"] > 300


@given(
    marks=st.lists(st.tuples(st.integers(1, 30), st.integers(0, 4)), max_size=8),
)
def test_an_epoch_counts_what_stood_before_the_first_mark_that_gave_up(
    marks: list[tuple[int, int]],
) -> None:
    """Against a plain reading of the rule: for each epoch the first mark at or after it."""
    found, decided, history = NotWaitedFor(), 0, list[tuple[int, int]]()
    for until, step in marks:
        decided += step
        found.add("X", until, decided)
        history.append((until, decided))
    for epoch in range(1, 40):
        first = next(((u, d) for u, d in history if u >= epoch), None)
        wanted = epoch if first is None or first[1] >= epoch else first[1]
        assert found.counted_ms("X", epoch) == wanted


def test_what_no_open_epoch_needs_is_dropped() -> None:
    found = NotWaitedFor()
    found.add("X", 10, 5)
    found.add("X", 20, 5)
    assert not found.forget_before(9)
    assert found.forget_before(10)
    assert found.spans == {"X": [(10, 20, 5)]}
    assert (found.counted_ms("X", 15), found.counted_ms("X", 21)) == (5, 21)
    assert found.until_ms("X") == 20
    assert found.forget_before(20) and found.spans == {}
