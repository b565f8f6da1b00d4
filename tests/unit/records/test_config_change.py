"""Changing the configuration: what is named and no other, what differs, what is derived anew."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.cli.config import env_text
from streams.config.environment import read_env_file, setting_fields, setting_text
from streams.config.run_parameters import params_id
from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.core.layout import rules_of
from streams.errors import Fatal
from streams.kafka.config_writing import require_unchanged, undone
from streams.records.config_change import (
    EFFECTS,
    INSTALLED,
    ConfigChange,
    configuration_texts,
    effect_of,
    named,
    whole,
    with_named,
)
from streams.records.control import ControlLog, ControlState, UniverseChange
from streams.records.events import Control

NAMES = tuple(item.name for item in setting_fields(Config))
OTHER: dict[str, Any] = {
    "candle_gran": "M5",
    "gate_mode": "echo",
    "hysteresis_pair_json": (("EUR_USD", 0.12),),
    "auto_direction_mode": "slope",
    "auto_tp_mode": "atr",
    "auto_max_hazard": 0.5,
    "alloc_score_weight_hazard": 0.5,
    "alloc_score_hazard": "lambda_hazard",
    "eval_slices_days": (7, 30),
    "eval_span_days": 14,
    "tzdata_version": "2020.1",
    "market_calendar": "continuous",
    "market_holidays": "none",
    "market_holidays_version": "2020.1",
}
"""Another value of each setting that is no number and no flag."""
NOT_IN_RULES = {
    *("allow_missing_volume", "tzdata_version", "market_calendar", "market_holidays"),
    "market_holidays_version",
}
"""What gates follow outside the rules of the core: which candles count, and the market's hours."""


def other(name: str) -> Any:
    """Return another value than the default one."""
    value = getattr(Config(), name)
    if name in OTHER:
        return OTHER[name]
    if isinstance(value, bool):
        return not value
    low, high = next(i.metadata["bounds"] for i in setting_fields(Config) if i.name == name)
    return type(value)(value + 1 if value + 1 <= high else max(low, value / 2))


def state(*records: Control) -> ControlState:
    log = ControlLog()
    for offset, record in enumerate(records):
        log.append(offset, record)
    return log.state(log.end)


def config_record(config: Config, actor: str = "test", reason: str = "test") -> Control:
    return Control("config", None, config.source_text or config.to_json(), actor, reason, 0)


def universe(*names: str) -> Control:
    value = UniverseChange("replace", names, 0, None).to_json()
    return Control("universe", None, value, "test", "test", 0)


def params(instrument: str, **values: Any) -> Control:
    return Control("params", instrument, json.dumps(values), "test", "test", 0)


@st.composite
def configs(draw: st.DrawFn) -> Config:
    """Any configuration that fits itself, a third of its settings others than the defaults."""
    values: dict[str, Any] = {}
    for item in setting_fields(Config):
        if item.name.startswith("eval_s") or item.name in INSTALLED or not draw(st.booleans()):
            continue
        meta, default = item.metadata, getattr(Config(), item.name)
        if meta["choices"]:
            values[item.name] = draw(st.sampled_from(meta["choices"]))
        elif item.name == "hysteresis_pair_json":
            pairs = st.dictionaries(st.sampled_from(("EUR_USD", "USD_CHF")), st.floats(0, 0.3))
            values[item.name] = tuple(sorted(draw(pairs).items()))
        elif item.name == "market_holidays":
            values[item.name] = draw(st.sampled_from(("oanda", "none", '{"12-25": "closed"}')))
        elif isinstance(default, bool):
            values[item.name] = draw(st.booleans())
        else:
            low, high = meta["bounds"]
            whole_number = isinstance(default, int)
            values[item.name] = draw(
                st.integers(int(low), int(high)) if whole_number else st.floats(low, high)
            )
    values |= draw(
        st.sampled_from(
            ({}, {"eval_slices_days": (7, 14), "eval_span_days": 14}, {"eval_span_days": 60})
        )
    )
    made = Config(**values)
    made.check()
    return made


@given(configs())
@settings(max_examples=200, deadline=None)
def test_a_value_is_written_as_the_environment_reads_it(config: Config) -> None:
    texts = {name.upper(): setting_text(getattr(config, name)) for name in NAMES}
    assert Config.from_env(texts) == config


@given(configs())
@settings(max_examples=50, deadline=None)
def test_the_active_configuration_as_a_file_is_the_same_configuration(
    tmp_path_factory: pytest.TempPathFactory, config: Config
) -> None:
    file = tmp_path_factory.mktemp("env") / "fleet.env"
    file.write_text(env_text(config))
    texts, others = configuration_texts(read_env_file(str(file)))
    assert others == []
    found = whole(state(config_record(config)), texts)
    assert not found.needed and found.after == config


@given(configs(), configs(), st.sets(st.sampled_from(NAMES), min_size=1))
@settings(max_examples=200, deadline=None)
def test_what_is_not_named_stays_as_it_is(active: Config, wanted: Config, names: set[str]) -> None:
    if names & {"eval_slices_days", "eval_span_days"}:
        names |= {"eval_slices_days", "eval_span_days"}  # they must fit each other
    texts = {name.upper(): setting_text(getattr(wanted, name)) for name in names}
    found = named(state(config_record(active)), texts)
    assert {name: getattr(found.after, name) for name in NAMES} == {
        name: getattr(wanted if name in names else active, name) for name in NAMES
    }
    assert {one.name.lower() for one in found.changes} == set(active.differing(found.after))
    assert {one.name.lower() for one in found.changes} <= names
    assert found.needed == (active != found.after)


def test_the_environment_plays_no_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATE_MODE", "echo")
    monkeypatch.setenv("AUTO_MIN_COHERENCE", "0.1")
    active = Config(auto_max_rupture=0.5)
    found = named(state(config_record(active)), {"AUTO_MAX_ENTROPY": "0.85"})
    assert found.after == replace(active, auto_max_entropy=0.85)
    assert [one.words for one in found.changes] == ["AUTO_MAX_ENTROPY: 0.7 -> 0.85"]


def test_a_record_of_an_older_version_stays_without_what_it_did_not_name() -> None:
    old = json.loads(Config().to_json())
    del old["ATR_BARS"], old["TZDATA_VERSION"]
    text = json.dumps(old, sort_keys=True, separators=(",", ":"))
    active = Config.from_json(text)
    made = with_named(active, {"ALLOC_TOP_K": "4"})
    assert json.loads(made.source_text or "") == old | {"ALLOC_TOP_K": 4}
    assert with_named(active, {"ALLOC_TOP_K": "3"}) is active
    assert with_named(active, {"ATR_BARS": "14"}) is active
    assert json.loads(with_named(active, {"ATR_BARS": "15"}).source_text or "") == old | {
        "ATR_BARS": 15
    }
    record = named(state(config_record(active)), {"ALLOC_TOP_K": "4"}).record("ann", "why", 7)
    assert (record.value, record.actor, record.reason, record.as_of_ms) == (
        made.source_text, "ann", "why", 7,
    )  # fmt: skip


def test_another_name_of_a_setting_changes_it_and_an_empty_value_is_the_default() -> None:
    active = Config(auto_max_hazard=0.4, alloc_score_weight_coherence=0.7, alloc_top_k=5)
    found = named(
        state(config_record(active)), {"ALLOC_W_C": "0.5", "AUTO_MAX_HAZARD": "", "ALLOC_TOP_K": ""}
    )
    assert found.after == Config(alloc_score_weight_coherence=0.5)
    assert [one.words for one in found.changes] == [
        "AUTO_MAX_HAZARD: 0.4 -> unset",
        "ALLOC_TOP_K: 5 -> 3",
        "ALLOC_SCORE_WEIGHT_COHERENCE: 0.7 -> 0.5",
    ]


def test_settings_must_fit_what_is_active_and_not_the_defaults() -> None:
    active = Config(eval_slices_days=(7, 14), eval_span_days=14)
    found = named(state(config_record(active)), {"EVAL_SLICES_DAYS": "7,14,21"})
    assert found.after.eval_slices_days == (7, 14, 21)
    with pytest.raises(Fatal, match="EVAL_SPAN_DAYS=14 is none of EVAL_SLICES_DAYS=7,30"):
        named(state(config_record(active)), {"EVAL_SLICES_DAYS": "7,30"})


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ({"AUTO_MAX_ENTROPY": "7"}, "AUTO_MAX_ENTROPY=7.0 is outside 0..1"),
        ({"AUTO_MAX_ENTROPY": "much"}, "AUTO_MAX_ENTROPY='much' is not a number"),
        ({"AUTO_MAX_ENTROPI": "0.5"}, "it looks like AUTO_MAX_ENTROPY"),
        ({"auto_max_entropy": "0.5"}, "it looks like AUTO_MAX_ENTROPY"),
        ({"MAX_SPREAD_BPS": "3"}, "is a setting of each process"),
        ({"AUTO_UNITS": "8000"}, "AUTO_UNITS is not read: .*RISK_ALLOC_TARGET_PCT"),
        ({"NO_SUCH_THING": "1"}, "NO_SUCH_THING is not a setting that can change a result"),
        ({"ALLOC_W_C": "0.5", "ALLOC_TOP_K": "0"}, "ALLOC_TOP_K=0 is outside"),
        ({"AUTO_MIN_COHERENCE": "0.5", "GUARD_MIN_COHERENCE": "0.6"}, "differ"),
        ({"TZDATA_VERSION": "2020.1"}, "TZDATA_VERSION=2020.1 is not what is installed here"),
    ],
)
def test_what_cannot_be_set_is_said_and_why(texts: dict[str, str], said: str) -> None:
    for plan in (named, whole):
        with pytest.raises(Fatal, match=said):
            plan(state(config_record(Config())), texts)


def test_nothing_is_changed_where_nothing_is_active() -> None:
    with pytest.raises(Fatal, match="holds no configuration yet"):
        named(state(), {"ALLOC_TOP_K": "4"})
    first = whole(state(), {"ALLOC_TOP_K": "4"})
    assert (first.before, first.after, first.needed) == (None, Config(alloc_top_k=4), True)
    assert whole(state(), {}).needed


def test_a_file_is_the_whole_configuration_but_for_what_is_installed() -> None:
    active = Config(gate_mode="echo", alloc_top_k=5, tzdata_version="2020.1")
    found = whole(state(config_record(active)), {"ALLOC_TOP_K": "4"})
    assert found.after == Config(alloc_top_k=4, tzdata_version="2020.1")
    assert [one.name for one in found.changes] == ["GATE_MODE", "ALLOC_TOP_K"]
    here = Config().tzdata_version
    adopted = named(state(config_record(active)), {"TZDATA_VERSION": here})
    assert [one.words for one in adopted.changes] == [f"TZDATA_VERSION: 2020.1 -> {here}"]


def test_a_file_of_a_fleet_names_other_settings_too() -> None:
    texts, others = configuration_texts(
        {"ALLOC_TOP_K": "4", "KAFKA_BOOTSTRAP_SERVERS": "x:1", "AUTO_UNITS": "1", "EDITOR": "vi"}
    )
    assert texts == {"ALLOC_TOP_K": "4"}
    assert others == ["KAFKA_BOOTSTRAP_SERVERS", "AUTO_UNITS", "EDITOR"]
    with pytest.raises(Fatal, match="AUTO_MAX_ENTROPI looks like AUTO_MAX_ENTROPY"):
        configuration_texts({"AUTO_MAX_ENTROPI": "0.5"})


@pytest.mark.parametrize("name", NAMES)
def test_what_is_said_to_be_derived_anew_is_what_the_stages_do(name: str) -> None:
    before = Config()
    if name == "eval_slices_days":
        before = replace(before, eval_span_days=30)
    if name == "alloc_score_hazard":
        before = replace(before, alloc_score_weight_hazard=0.5)
    after = replace(before, **{name: other(name)})
    assert before.differing(after) == [name]
    effect = effect_of(name)
    assert (effect == "bars") == (before.candle_gran != after.candle_gran)
    assert (effect == "windows") == (before.window_shape != after.window_shape)
    # a change of a run's parameters starts it anew, and nothing else but the bars does
    assert (effect == "runs") == (params_id(before) != params_id(after))
    same_rules = bool((rules_of(before, "EUR_USD") == rules_of(after, "EUR_USD")).all())
    if effect == "gates":
        assert same_rules == (name in NOT_IN_RULES)
    if effect == "weights":
        assert same_rules and name not in NOT_IN_RULES


def said(found: ConfigChange) -> str:
    return "\n".join(found.refolds)


def test_the_instruments_are_named_and_one_with_parameters_of_its_own_goes_on() -> None:
    log = state(
        config_record(Config()),
        universe("EUR_USD", "GBP_USD", "USD_JPY"),
        params("EUR_USD", AUTO_MIN_COHERENCE=0.5, ATR_BARS=20),
    )
    found = said(named(log, {"AUTO_MIN_COHERENCE": "0.6"}))
    assert "runs: those of GBP_USD, USD_JPY start anew: the last 60 days" in found
    assert "runs: that of EUR_USD goes on" in found
    assert "(ATR_BARS, AUTO_MIN_COHERENCE)" in found
    both = said(named(log, {"AUTO_MIN_COHERENCE": "0.6", "AUTO_MAX_ENTROPY": "0.8"}))
    assert "runs: those of EUR_USD, GBP_USD, USD_JPY start anew" in both and "goes on" not in both


@pytest.mark.parametrize(
    ("texts", "begins"),
    [
        ({"CANDLE_GRAN": "M5"}, ["bars of M5 instead of M1", "it takes effect"]),
        ({"CANDLE_COUNT": "300"}, ["windows", "it takes effect"]),
        ({"ATR_BARS": "20"}, ["runs", "it takes effect"]),
        ({"GATE_MODE": "echo"}, ["gates", "it takes effect"]),
        ({"ALLOC_TOP_K": "4"}, ["weights", "it takes effect"]),
        (
            {"ALLOC_TOP_K": "4", "GATE_MODE": "echo", "ATR_BARS": "20", "CANDLE_COUNT": "300"},
            ["windows", "runs", "gates", "weights", "it takes effect"],
        ),
        ({"ALLOC_TOP_K": "3"}, []),
    ],
)
def test_each_thing_that_is_derived_anew_is_said_once(
    texts: dict[str, str], begins: list[str]
) -> None:
    found = named(state(config_record(Config()), universe("EUR_USD")), texts)
    assert len(found.refolds) == len(begins)
    for line, begin in zip(found.refolds, begins, strict=True):
        assert line.startswith(begin)
    assert {one.effect for one in found.changes} <= set(EFFECTS)


def test_a_change_that_was_planned_on_another_configuration_is_refused() -> None:
    log = ControlLog()
    log.append(0, config_record(Config()))
    change = named(log.state(1), {"ALLOC_TOP_K": "4"})
    require_unchanged(change, log)
    log.append(1, universe("EUR_USD"))
    require_unchanged(change, log)
    log.append(2, config_record(Config(gate_mode="echo"), "ben", "his own"))
    with pytest.raises(Fatal, match="the configuration was changed by another user"):
        require_unchanged(change, log)
    # at the very same moment it cannot be refused any more, and is told
    log.append(3, change.record("ann", "hers", 0))
    assert undone(log, 3, 3) == ""
    assert undone(log, 2, 3).startswith("ben changed the configuration at the same moment")


def test_no_setting_of_a_process_is_one_of_the_configuration() -> None:
    assert not {item.name for item in setting_fields(Runtime)} & set(NAMES)
