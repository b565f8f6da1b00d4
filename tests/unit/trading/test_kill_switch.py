"""The kill switch without any server: the fold of its records and the lease of its key."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.config.kill_switch import KillSwitchSettings
from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.errors import Fatal
from streams.mirror.keys import KEYS, KEYS_OF_OTHERS
from streams.records.events import Control, Event
from streams.records.kill_switch import (
    NO_RECORD,
    KillSwitch,
    KillSwitchCommand,
    Unreadable,
    fold_kill_switch,
)
from streams.records.topics import GATES, MANIFOLDS, WEIGHTS
from streams.trading.kill_switch.commands import engage
from streams.trading.kill_switch.lease import (
    ACTOR,
    KeySnapshot,
    Lease,
    LeaseRecord,
    lease_state,
    valkey_problem,
    word_due,
)
from tests.support.stage_bench import (
    CODEC,
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

ON, OFF = KillSwitchCommand(True).to_json(), KillSwitchCommand(False).to_json()
KEY, LOG, AGE_MS = "ops:kill_switch", "cluster/ops.control", 15_000


def said(value: str, at_ms: int = 0, actor: str = "ann", instrument: str | None = None) -> Control:
    return Control("kill_switch", instrument, value, actor, "because", at_ms)


def log_of(*records: Control | Unreadable) -> KillSwitch:
    return fold_kill_switch(enumerate(records))


# -- the fold -------------------------------------------------------------------------------------


def test_no_record_is_engaged() -> None:
    config = Control("config", None, Config().to_json(), "x", "x", 0)
    assert log_of() == log_of(config) == KillSwitch(True, (NO_RECORD,), None, "", "", None)


def test_the_last_word_holds_and_is_told_with_who_and_why() -> None:
    found = log_of(said(ON, 5), said(OFF, 7, "ben"))
    assert found == KillSwitch(False, (), 7, "ben", "because", 1)
    found = log_of(said(OFF, 5), said(ON, 7, "ben"))
    assert found == KillSwitch(
        True, ("ops.control: engaged by ben: because",), 7, "ben", "because", 1
    )


def test_since_is_when_the_answer_became_what_it_is() -> None:
    found = log_of(said(OFF, 1), said(ON, 5, "ann"), said(ON, 9, "ben"))
    assert (found.since_ms, found.actor, found.offset) == (5, "ben", 2)


@pytest.mark.parametrize(
    "value",
    [
        *("", "0", "1", "true", "[]", "null", "{}", "off", '"off"', "NaN", "[" * 100_000),
        *('{"engaged": 0}', '{"engaged": "false"}', '{"engaged": null}', '{"enabled": false}'),
        '{"engaged": true, "engaged": false}',
        '{"engaged": false, "unless": "friday"}',
        '{"engaged": false, "read_to": null}',
        '{"engaged": false, "read_to": -1}',
        '{"engaged": false, "read_to": true}',
        '{"engaged": true, "read_to": 1}',
        '{"engaged": false',
    ],
)
def test_a_malformed_word_engages_and_is_said(value: str) -> None:
    found = log_of(said(OFF), said(value))
    assert found.engaged
    assert "offset 1" in found.why[0]
    assert "malformed" in found.why[0]
    assert not log_of(said(OFF), said(value), said(OFF)).engaged


def test_a_word_for_one_instrument_alone_is_malformed() -> None:
    assert log_of(said(OFF), said(OFF, instrument="EUR_USD")).engaged


@pytest.mark.parametrize("key", [b"kill_switch", None, b"", b"\xff", b"killswitch"])
def test_bytes_that_may_have_been_a_word_engage(key: bytes | None) -> None:
    found = log_of(said(OFF), Unreadable(key, "bad_magic: 0x7b", 9))
    assert found.engaged
    assert "offset 1" in found.why[0]
    assert "bad_magic" in found.why[0]
    assert found.since_ms == 9


@pytest.mark.parametrize(
    "key",
    [
        b"universe",
        b"config:0123",
        b"params:EUR_USD",
        b"reconcile",
        b"resume:EUR_USD",
        b"limits_reset",
        b"audit:EUR_USD",
    ],
)
def test_bytes_of_another_kind_say_nothing_of_the_kill_switch(key: bytes) -> None:
    assert not log_of(said(OFF), Unreadable(key, "bad_magic", 9)).engaged


def test_an_off_that_had_not_read_an_on_does_not_clear_it() -> None:
    late = KillSwitchCommand(False, 0).to_json()
    found = log_of(said(ON), said(late, actor="ben"))
    assert found.engaged
    assert "offset 1 by ben" in found.why[1]
    assert not log_of(said(ON), said(late), said(KillSwitchCommand(False, 2).to_json())).engaged
    assert not log_of(said(ON), said(KillSwitchCommand(False, 1).to_json())).engaged


words = st.one_of(
    st.tuples(st.just("on"), st.none()),
    st.tuples(st.just("off"), st.none() | st.integers(0, 12)),
    st.tuples(st.sampled_from(["malformed", "unreadable", "other"]), st.none()),
)


def record(kind: str, read_to: int | None, at_ms: int) -> Control | Unreadable:
    if kind == "other":
        return Control("universe", None, "{}", "x", "x", at_ms)
    if kind == "unreadable":
        return Unreadable(b"kill_switch", "truncated", at_ms)
    value = {"on": ON, "off": KillSwitchCommand(False, read_to).to_json(), "malformed": "{}"}[kind]
    return said(value, at_ms)


@given(st.lists(words, max_size=12))
def test_off_is_only_what_a_word_of_off_after_every_other_word_says(
    kinds: list[tuple[str, int | None]],
) -> None:
    found = log_of(*(record(*kind, at_ms) for at_ms, kind in enumerate(kinds)))
    # said another way: some off counts, and nothing engages after it
    engaging = [at for at, (kind, _) in enumerate(kinds) if kind not in ("off", "other")]

    def counts(at: int) -> bool:
        kind, read_to = kinds[at]
        before = [e for e in engaging if e < at]
        if kind != "off" or read_to is None or not before or before[-1] < read_to:
            return kind == "off"
        return any(counts(earlier) for earlier in range(before[-1] + 1, at))

    last = engaging[-1] if engaging else -1
    assert found.engaged == (not any(counts(at) for at in range(last + 1, len(kinds))))
    assert bool(found.why) == found.engaged


@given(st.lists(words, max_size=12), st.integers(0, 12))
def test_the_fold_goes_on_from_any_point(kinds: list[Any], cut: int) -> None:
    records = [record(*kind, at_ms) for at_ms, kind in enumerate(kinds)]
    assert fold_kill_switch(enumerate(records[:cut])) == fold_kill_switch(
        list(enumerate(records))[:cut]
    )


@given(st.text() | st.recursive(st.none() | st.booleans() | st.text(), st.lists).map(json.dumps))
def test_only_an_object_with_exactly_that_boolean_is_off(text: str) -> None:
    if fold_kill_switch([(0, said(text))]).engaged:
        return
    assert json.loads(text)["engaged"] is False


def derived(switched: bool) -> list[Any]:
    """Return what the whole chain makes of an hour, with words in the middle of it or without."""
    words = (said(ON), said("{}"), said(OFF)) if switched else ()
    control = control_log(config_record(), universe_record((A,)), *words)
    source: list[Event] = [mark(T0, 2, A)]
    for minute in range(190):
        bar_ms = T0 + minute * MINUTE
        offset = control.end if minute > 160 else 2
        source += [candle(bar_ms), mark(bar_ms + MINUTE, offset, A)]
    found: list[Any] = []
    for stage, topic in (("signals", MANIFOLDS), ("gates", GATES), ("weights", WEIGHTS)):
        outputs = Bench(stage, control).feed(*source)
        found += [output.event for output in outputs]
        source = [output.event for output in outputs if output.topic == topic]
    return found


def test_words_in_the_log_change_no_derived_record_but_for_the_offset_it_is_stamped_with() -> None:
    plain, switched = derived(False), derived(True)
    assert {type(event).__name__ for event in plain} >= {"Signal", "GateDecision", "Weights"}
    assert plain != switched
    unstamped = [[e._replace(control_offset=0) for e in events] for events in (plain, switched)]
    assert unstamped[0] == unstamped[1]


def test_the_stages_pass_over_it_and_list_a_malformed_one() -> None:
    log = control_log(said(ON), said("{}"))
    assert [offset for offset, _ in log.refused] == [1]


# -- the lease of the key -----------------------------------------------------------------------

KEPT = LeaseRecord("0", 20_000, 5_000, 3, 7, LOG, "me")


def look(
    value: str | None = "0",
    expires_ms: int = 20_000,
    kept: LeaseRecord | str | None = KEPT,
    now_ms: int = 6_000,
    kind: str = "string",
) -> KeySnapshot:
    text = kept.to_json() if isinstance(kept, LeaseRecord) else kept or ""
    there = value is not None
    return KeySnapshot(
        now_ms,
        kind if there else "none",
        (value or "").encode("utf-8", "surrogateescape") if kind == "string" else b"",
        expires_ms if there else -2,
        "none" if kept is None else "string",
        text.encode(),
    )


@pytest.mark.parametrize(
    ("what", "seen", "state"),
    [
        ("as we wrote it", look(), "intact"),
        ("expired by itself", look(None, now_ms=20_000), "intact"),
        ("SET 1", look("1", -1), "word"),
        ("SET 1 EX", look("1", 20_001), "word"),
        ("SET 1 KEEPTTL", look("1"), "word"),
        ("SET 0", look("0", -1), "word"),
        ("PERSIST", look("0", -1), "word"),
        ("SET on", look("on", -1), "word"),
        ("no text", look("\udcff", -1), "word"),
        ("a list", look("", -1, kind="list"), "word"),
        ("SET 1 in a new Valkey", look("1", -1, None), "word"),
        ("0 in a new Valkey", look("0", -1, None), "word"),
        ("DEL", look(None), "lost"),
        ("FLUSHALL", look(None, kept=None), "lost"),
        ("a companion that is none", look(None, kept="{}"), "lost"),
        ("a companion that is none, and a key", look(kept="[1]"), "word"),
        ("lost writes", look(kept=KEPT._replace(beat=6)), "lost"),
        ("another log", look(kept=KEPT._replace(log="other/ops.control")), "lost"),
        ("a log made anew", look(kept=KEPT._replace(offset=5)), "lost"),
        ("the clock went back", look(None, now_ms=19_999), "lost"),
    ],
)
def test_custody(what: str, seen: KeySnapshot, state: str) -> None:
    found = lease_state(seen, KEY, LOG, end=4, beat=7)
    assert found.state == state, what
    assert bool(found.why) == (state != "intact")


@pytest.mark.parametrize(
    ("seen", "switch_engaged", "actor", "due"),
    [
        (look(), False, "ann", False),
        (look("1", -1), False, "ann", True),
        (look("1", -1), True, "ann", True),
        (look("1", -1), True, ACTOR, False),
        (look("0", -1), False, "ann", True),
        (look("0", -1), True, "ann", False),
        (look(None), False, "ann", True),
        (look(None), True, "ann", False),
    ],
)
def test_what_the_log_has_to_be_told(
    seen: KeySnapshot, switch_engaged: bool, actor: str, due: bool
) -> None:
    switch = KillSwitch(switch_engaged, (), 0, actor, "because", 0)
    assert word_due(lease_state(seen, KEY, LOG), seen, switch) is due


@pytest.mark.parametrize(
    ("seen", "said_of_it"),
    [
        (look(), None),
        (look(now_ms=20_000 - 1), None),
        (look(now_ms=20_001), "no fresh heartbeat"),
        (look(now_ms=4_999), "no fresh heartbeat"),
        (look(None), "is missing"),
        (look("1", -1), "says '1', set by another writer"),
        (look("1", kept=KEPT._replace(value="1")), "says '1'"),
        (look("0", -1), "no lease holder wrote that"),
        (look("0 ", -1), "says '0 '"),
        (look("", -1), "says ''"),
        (look("", -1, kind="hash"), "says a hash"),
        (look(kept=None), "no lease holder wrote that"),
        (look(kept=KEPT._replace(log="")), "another log"),
    ],
)
def test_what_stands_against_off_in_valkey(seen: KeySnapshot, said_of_it: str | None) -> None:
    found = valkey_problem(seen, KEY, LOG, AGE_MS)
    if said_of_it is None:
        assert found is None
    else:
        assert found is not None
        assert said_of_it in found


integers = st.integers(0, 30_000)
texts = st.sampled_from(["0", "1", "", "x", "0 "])
looks = st.builds(
    lambda now, value, expires, kept: look(value, expires, kept, now),
    integers,
    st.none() | texts,
    st.just(-1) | integers,
    st.none()
    | st.builds(
        LeaseRecord,
        texts,
        integers,
        integers,
        st.integers(0, 9),
        st.integers(0, 9),
        st.sampled_from([LOG, ""]),
        texts,
    ),
)


@given(looks, st.integers(0, 9), st.integers(0, 9))
def test_off_is_believed_only_of_our_own_fresh_zero(seen: KeySnapshot, end: int, beat: int) -> None:
    if valkey_problem(seen, KEY, LOG, AGE_MS) is None:
        assert seen.says_off
        assert seen.kept is not None
        assert (seen.kept.value, seen.kept.expires_ms) == ("0", seen.expires_ms)
        assert 0 <= seen.now_ms - seen.kept.stamp_ms <= AGE_MS
    if lease_state(seen, KEY, LOG, end, beat) == Lease("intact"):
        kept = seen.kept
        assert kept is not None
        assert kept.offset <= end
        assert kept.beat >= beat
        assert seen.missing or (seen.value.decode(), seen.expires_ms) == kept[:2]


# -- settings and names ---------------------------------------------------------------------------


def test_it_starts_engaged_and_never_by_an_unclear_setting() -> None:
    made = KillSwitchSettings.from_env({})
    assert (made.kill_switch, made.kill_switch_force_env) == (True, False)
    assert (made.kill_switch_key, made.max_age_ms) == (KEY, AGE_MS)
    for name, text in (("KILL_SWITCH", "maybe"), ("KILL_SWITCH_MAX_AGE_SEC", "0")):
        with pytest.raises(Fatal, match=name):
            KillSwitchSettings.from_env({name: text})


def test_the_keys_are_listed_and_are_none_of_the_mirror() -> None:
    made = KillSwitchSettings()
    assert {k.pattern for k in KEYS_OF_OTHERS} == {made.kill_switch_key, made.kept_key}
    globs = [kind.glob.rstrip("*") for kind in KEYS]
    assert not [g for g in globs for k in KEYS_OF_OTHERS if k.pattern.startswith(g)]


@pytest.mark.parametrize(("actor", "reason"), [("", "x"), ("x", " "), ("\t", "x")])
def test_a_word_without_who_and_why_is_refused(actor: str, reason: str) -> None:
    with pytest.raises(Fatal, match="is empty"):
        engage(Runtime(), CODEC, actor, reason, 0, KillSwitchSettings())
