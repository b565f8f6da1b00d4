"""Records of calls: what they hold, and that nothing is derived from them."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, get_args

import pytest

from streams.errors import Fatal
from streams.mirror.shapes import Retention, writes_of
from streams.records.audit import KIND, MAX_VALUE, audit_record
from streams.records.control import ControlLog, control_key, control_problem
from streams.records.events import Control, ControlKind, Event
from streams.records.kill_switch import KillSwitchCommand, fold_kill_switch
from streams.records.topics import GATES, MANIFOLDS, WEIGHTS
from streams.trading.flatten import flatten_record
from streams.trading.operator_commands import INSTRUMENT_COMMANDS, instrument_command, limits_reset
from streams.trading.operator_orders import order_record
from streams.trading.reconcile_command import reconcile_record
from tests.support.stage_bench import (
    MINUTE,
    T0,
    A,
    Bench,
    candle,
    config_record,
    control_log,
    mark,
    universe_record,
)

CALL = audit_record("POST /api/x", {"count": 3, "instrument": A}, "ann", "because", T0, A)
WORDS = (
    CALL,
    reconcile_record("paper", "ann", "look", T0),
    flatten_record("paper", "ann", "storm", T0),
    Control("kill_switch", None, KillSwitchCommand(True).to_json(), "ann", "storm", T0),
    *(instrument_command(kind, A, "paper", "ann", "storm", T0) for kind in INSTRUMENT_COMMANDS),
    order_record(A, "paper", "r1", "sell", Decimal(5), "ann", "enough", T0),
    limits_reset("drawdown", "paper", "ann", "looked", T0),
    audit_record("POST /api/y", {}, "ben", "why not", T0),
)
"""One record at least of every kind that no derived record depends on."""
DERIVED_FROM = {"config", "universe", "params"}


def test_a_record_says_what_was_called_with_what_by_whom_and_why() -> None:
    assert json.loads(CALL.value) == {
        "operation": "POST /api/x",
        "parameters": {"count": 3, "instrument": A},
    }
    assert (CALL.kind, CALL.actor, CALL.reason, CALL.as_of_ms) == (KIND, "ann", "because", T0)
    assert control_key(CALL) == f"audit:{A}".encode()
    assert control_key(WORDS[-1]) == b"audit"
    assert control_problem(CALL) is None


def test_a_record_stays_small() -> None:
    audit_record("POST /api/x", {"text": "x" * (MAX_VALUE - 100)}, "ann", "because", T0)
    with pytest.raises(Fatal, match="POST /api/x"):
        audit_record("POST /api/x", {"text": "x" * MAX_VALUE}, "ann", "because", T0)


def test_every_kind_is_one_that_is_derived_from_or_one_of_the_words_here() -> None:
    assert {word.kind for word in WORDS} | DERIVED_FROM == set(get_args(ControlKind))


def test_the_state_after_them_is_the_one_before() -> None:
    log = ControlLog()
    for offset, record in enumerate((config_record(), universe_record((A,)), *WORDS)):
        log.append(offset, record)
    before, after = log.state(2), log.state(log.end)
    assert log.end == 2 + len(WORDS) and not log.refused
    assert (after.config, after.config_id, after.params) == (
        before.config,
        before.config_id,
        before.params,
    )
    assert after.universe.members(T0 + MINUTE) == before.universe.members(T0 + MINUTE) == (A,)


def test_the_kill_switch_and_the_mirror_pass_over_a_call() -> None:
    off = Control("kill_switch", None, KillSwitchCommand(False).to_json(), "ann", "checked", T0)
    assert fold_kill_switch([(0, off), (1, CALL), (2, WORDS[1])]) == fold_kill_switch([(0, off)])
    assert [writes_of(word, 60, Retention(0, 0)) for word in WORDS] == [[]] * len(WORDS)


def derived(words: tuple[Control, ...]) -> list[Any]:
    control = control_log(config_record(), universe_record((A,)), *words)
    source: list[Event] = [mark(T0, 2, A)]
    for minute in range(190):
        bar_ms = T0 + minute * MINUTE
        # they take effect, if they have any, one after the other in the middle
        offset = min(control.end, 2 + max(0, minute - 150))
        source += [candle(bar_ms), mark(bar_ms + MINUTE, offset, A)]
    found: list[Any] = []
    for stage, topic in (("signals", MANIFOLDS), ("gates", GATES), ("weights", WEIGHTS)):
        outputs = Bench(stage, control).feed(*source)
        found += [output.event for output in outputs]
        source = [output.event for output in outputs if output.topic == topic]
    return found


def test_they_change_no_derived_record_but_for_the_offset_it_is_stamped_with() -> None:
    plain, with_words = derived(()), derived(WORDS)
    assert {type(event).__name__ for event in plain} >= {"Signal", "GateDecision", "Weights"}
    assert plain != with_words
    unstamped = [[e._replace(control_offset=0) for e in events] for events in (plain, with_words)]
    assert unstamped[0] == unstamped[1]
