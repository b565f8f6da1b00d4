"""What ops.control says at an offset."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.config.settings import Config, UnknownSettings
from streams.errors import Fatal
from streams.records.control import ControlLog, UniverseChange, control_key
from streams.records.events import Control
from streams.replay.overlay import overlaid

A, B, C = "EUR_USD", "USD_JPY", "GBP_USD"


def universe(mode: str, names: tuple[str, ...], start: int, end: int | None = None) -> Control:
    value = UniverseChange(mode, names, start, end).to_json()  # type: ignore[arg-type]
    return Control("universe", None, value, "test", "test", start)


def config(**env: str) -> Control:
    return Control("config", None, Config.from_env(env).to_json(), "test", "test", 0)


def log(*records: Control) -> ControlLog:
    made = ControlLog()
    for offset, record in enumerate(records):
        made.append(offset, record)
    return made


def test_nothing_is_known_before_the_first_record() -> None:
    state = log(config()).state(0)
    assert (state.config, state.config_id, state.universe.members(1)) == (None, "", ())


def test_the_last_config_before_the_offset_is_active() -> None:
    made = log(config(), config(ALLOC_TOP_K="5"))
    assert made.state(1).config == Config.from_env({})
    active = made.state(2).config
    assert active is not None
    assert active.alloc_top_k == 5


def test_a_record_of_an_older_version_keeps_its_id_in_state_key_and_overlay() -> None:
    text = Config.from_env({"ALLOC_TOP_K": "5"}).to_json().replace('"ATR_BARS":14,', "")
    old_id = hashlib.sha256(text.encode()).hexdigest()[:16]
    old = Control("config", None, text, "test", "test", 0)
    made = log(old, universe("replace", (A,), 0))
    state = made.state(2)
    assert state.config is not None and state.config.atr_bars == 14
    assert (state.config_id, state.config.config_id) == (old_id, old_id)
    assert control_key(old) == f"config:{old_id}".encode()
    assert overlaid(made, {}, (A,)).state(2).config_id == old_id
    other = overlaid(made, {"ALLOC_TOP_K": "5"}).state(2)
    assert other.config_id == Config.from_env({"ALLOC_TOP_K": "5"}).config_id


@pytest.mark.parametrize(
    ("epoch", "members"),
    [
        (10, ()),
        (11, (A, B)),
        (20, (A, B)),
        (21, (A, B, C)),
        (30, (A, B, C)),
        (31, (A, B)),
        (41, (C,)),
    ],
)
def test_a_live_feed_replaces_and_a_load_adds_for_its_span(
    epoch: int, members: tuple[str, ...]
) -> None:
    made = log(
        universe("replace", (B, A), 10),
        universe("add", (C,), 20, 30),
        universe("replace", (C,), 40),
    )
    expected = tuple(sorted(members))
    assert made.state(made.end).universe.members(epoch) == expected


def test_a_record_that_is_no_such_record_changes_nothing_and_is_listed() -> None:
    made = log(config(), Control("universe", None, "[]", "x", "x", 0), universe("replace", (A,), 0))
    made.refuse(3, "bad_magic")
    assert made.state(4).universe.members(1) == (A,)
    assert [offset for offset, _ in made.refused] == [1, 3]


def test_settings_of_a_newer_version_stop_the_reader() -> None:
    with pytest.raises(UnknownSettings):
        log(Control("config", None, '{"NEW_SETTING": 1}', "x", "x", 0))


def test_an_offset_beyond_the_end_says_what_happened() -> None:
    with pytest.raises(Fatal, match="ends at offset 1"):
        log(config()).state(2)


def test_keys() -> None:
    assert control_key(universe("replace", (A,), 0)) == b"universe"
    assert control_key(Control("params", A, "{}", "x", "x", 0)) == b"params:EUR_USD"
    assert control_key(config()) == f"config:{Config.from_env({}).config_id}".encode()


names = st.lists(st.sampled_from([A, B, C]), max_size=3).map(tuple)
changes = st.builds(
    lambda mode, who, start, length: UniverseChange(
        mode, tuple(sorted(set(who))), start, start + length if mode == "add" else None
    ),
    st.sampled_from(["replace", "add"]),
    names,
    st.integers(0, 30),
    st.integers(0, 30),
)


@given(st.lists(changes, max_size=6), st.lists(st.integers(-5, 70), min_size=1, max_size=20))
def test_members_do_not_depend_on_the_order_of_questions(
    said: list[UniverseChange], epochs: list[int]
) -> None:
    made = ControlLog()
    for offset, change in enumerate(said):
        made.append(offset, Control("universe", None, change.to_json(), "t", "t", 0))
    asked = made.state(made.end).universe
    for epoch in epochs:
        expected: set[str] = set()
        for change in said:
            if change.mode == "replace" and epoch > change.from_ms:
                expected = set(change.instruments)
            if (
                change.mode == "add"
                and change.until_ms
                and change.from_ms < epoch <= change.until_ms
            ):
                expected |= set(change.instruments)
        assert asked.members(epoch) == tuple(sorted(expected))
