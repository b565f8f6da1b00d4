"""Settings: every profile name is read, every wrong value is one sentence that names it."""

from __future__ import annotations

import hashlib
import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from streams.config.environment import read_env_file
from streams.config.runtime import Runtime
from streams.config.settings import Config, UnknownSettings
from streams.errors import Fatal

PROFILE_NAMES = {
    "AUTO_MIN_COHERENCE": ("0.61", "auto_min_coherence", 0.61),
    "AUTO_MAX_ENTROPY": ("0.8", "auto_max_entropy", 0.8),
    "AUTO_MAX_RUPTURE": ("0.5", "auto_max_rupture", 0.5),
    "GUARD_MIN_STABILITY": ("0.3", "guard_min_stability", 0.3),
    "AUTO_MIN_STABILITY": ("0.3", "guard_min_stability", 0.3),
    "GUARD_MIN_COHERENCE": ("0.6", "auto_min_coherence", 0.6),
    "GUARD_MAX_RUPTURE": ("0.5", "auto_max_rupture", 0.5),
    "HYSTERESIS_DEFAULT": ("0.2", "hysteresis_default", 0.2),
    "SESSION_TRADING_ENABLED": ("0", "session_trading_enabled", False),
    "SESSION_EXIT_MINUTES": ("7", "session_exit_minutes", 7),
    "SESSION_PATTERN_MIN_OCCURRENCES": ("4", "session_pattern_min_occurrences", 4),
    "ECHO_MIN_REPETITIONS": ("5", "echo_min_repetitions", 5),
    "REPETITION_MIN_COUNT": ("5", "echo_min_repetitions", 5),
    "ECHO_LOOKBACK_MINUTES": ("90", "echo_lookback_minutes", 90),
    "ALLOC_INTERVAL_SEC": ("600", "alloc_interval_sec", 600),
    "ALLOC_TOP_K": ("5", "alloc_top_k", 5),
    "ALLOC_W_C": ("0.5", "alloc_score_weight_coherence", 0.5),
    "ALLOC_W_STAB": ("0.5", "alloc_score_weight_stability", 0.5),
    "ALLOC_W_RUP": ("0.5", "alloc_score_weight_rupture", 0.5),
    "ALLOC_W_ENT": ("0.5", "alloc_score_weight_entropy", 0.5),
    "ALLOC_SCORE_WEIGHT_HAZARD": ("0.1", "alloc_score_weight_hazard", 0.1),
    "RISK_ALLOC_TARGET_PCT": ("0.2", "risk_alloc_target_pct", 0.2),
    "PM_MAX_PER_POS_PCT": ("0.05", "pm_max_per_pos_pct", 0.05),
}


@pytest.mark.parametrize("name", PROFILE_NAMES)
def test_a_profile_name_sets_its_field(name: str) -> None:
    text, field, value = PROFILE_NAMES[name]
    assert getattr(Config.from_env({name: text}), field) == value


def test_the_later_weight_name_wins() -> None:
    both = {"ALLOC_SCORE_WEIGHT_COHERENCE": "0.9", "ALLOC_W_C": "0.4"}
    assert Config.from_env(both).alloc_score_weight_coherence == 0.9


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"AUTO_MIN_COHERENCE": "much"}, "AUTO_MIN_COHERENCE='much' is not a number"),
        ({"AUTO_MIN_COHERENCE": "nan"}, "not a finite number"),
        ({"AUTO_MAX_ENTROPY": "1.5"}, "outside 0..1"),
        ({"ALLOC_TOP_K": "0"}, "outside 1.."),
        ({"ALLOC_TOP_K": "2.5"}, "not a whole number"),
        ({"SESSION_TRADING_ENABLED": "maybe"}, "not a flag"),
        ({"CANDLE_GRAN": "M7"}, "not one of"),
        ({"HYSTERESIS_PAIR_JSON": "[1]"}, "HYSTERESIS_PAIR_JSON"),
        ({"HYSTERESIS_PAIR_JSON": '{"EUR_USD": NaN}'}, "not a finite number"),
        ({"AUTO_MIN_COHERENCE": "0.5", "GUARD_MIN_COHERENCE": "0.6"}, "differ"),
    ],
)
def test_a_wrong_value_is_named(env: dict[str, str], said: str) -> None:
    with pytest.raises(Fatal, match=said.replace("(", r"\(")):
        Config.from_env(env)


def test_the_id_depends_on_every_setting_and_on_nothing_else() -> None:
    default = Config.from_env({})
    assert default.config_id == Config.from_env({"KAFKA_BOOTSTRAP_SERVERS": "x:1"}).config_id
    ids = {
        Config.from_env({name: text}).config_id for name, (text, _, _) in PROFILE_NAMES.items()
    } | {default.config_id}
    assert len(ids) == len({(f, v) for _, f, v in PROFILE_NAMES.values()}) + 1


def test_json_round_trip_keeps_the_id() -> None:
    config = Config.from_env({"HYSTERESIS_PAIR_JSON": '{"usd_chf": 0.15}', "AUTO_MAX_HAZARD": "1"})
    again = Config.from_json(config.to_json())
    assert (again, again.config_id) == (config, config.config_id)
    assert (
        Config.from_json(config.to_json().replace('"AUTO_MAX_HAZARD":1.0', '"AUTO_MAX_HAZARD":1'))
        == config
    )


OLD_TEXT = Config.from_env({"ALLOC_TOP_K": "4"}).to_json().replace('"COOLDOWN_SEC":7200,', "")
OLD_ID = hashlib.sha256(OLD_TEXT.encode()).hexdigest()[:16]


def test_the_id_of_a_record_is_the_hash_of_its_text_however_many_settings_there_are_now() -> None:
    old, now = Config.from_json(OLD_TEXT), Config.from_env({"ALLOC_TOP_K": "4"})
    assert "COOLDOWN_SEC" not in json.loads(OLD_TEXT)
    assert old == now and hash(old) == hash(now) and old.differences(now) == []
    assert (old.config_id, now.config_id == OLD_ID) == (OLD_ID, False)
    spaced = json.dumps(json.loads(OLD_TEXT), indent=1)
    assert Config.from_json(spaced).config_id not in (OLD_ID, now.config_id)


def test_the_text_goes_with_a_copy_and_not_with_a_change() -> None:
    old = Config.from_json(OLD_TEXT)
    assert pickle.loads(pickle.dumps(old)).config_id == OLD_ID
    changed = replace(old, alloc_top_k=3)
    assert changed.config_id == Config.from_env({}).config_id
    assert replace(old).config_id == Config.from_env({"ALLOC_TOP_K": "4"}).config_id


def test_the_text_is_no_setting() -> None:
    assert all("SOURCE_TEXT" not in row["name"] for row in Config.from_env({}).table())
    assert Config.from_env({"SOURCE_TEXT": "x"}).config_id == Config.from_env({}).config_id
    with pytest.raises(UnknownSettings, match="SOURCE_TEXT"):
        Config.from_json('{"SOURCE_TEXT": "x"}')


def test_settings_of_another_version_are_refused_by_name() -> None:
    with pytest.raises(UnknownSettings, match="BRAND_NEW"):
        Config.from_json('{"BRAND_NEW": 1}')


def test_buffers_are_clamped() -> None:
    config = Config.from_env({"HYSTERESIS_PAIR_JSON": '{"USD_CHF": 0.9, "EUR_USD": -1}'})
    assert [config.buffer(p) for p in ("USD_CHF", "EUR_USD", "USD_JPY")] == [0.30, 0.0, 0.10]


def test_differences_name_the_setting() -> None:
    one, other = Config.from_env({}), Config.from_env({"ALLOC_TOP_K": "4"})
    assert one.differences(other) == ["ALLOC_TOP_K: 3 != 4"]


def test_a_secret_comes_from_a_file_and_is_masked(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("hunter2\n")
    runtime = Runtime.from_env({"KAFKA_SASL_PASSWORD_FILE": str(secret)})
    assert runtime.kafka_sasl_password == "hunter2"
    assert "hunter2" not in str(runtime.table())
    with pytest.raises(Fatal, match="KAFKA_SASL_PASSWORD_FILE"):
        Runtime.from_env({"KAFKA_SASL_PASSWORD_FILE": str(tmp_path / "none")})


def test_the_prefix_is_in_every_name() -> None:
    runtime = Runtime.from_env({"TOPIC_PREFIX": "dev."})
    assert runtime.topic("md.candles") == "dev.md.candles"
    assert runtime.changelog("gates") == "dev.manifold-gates-changelog"


def test_an_env_file_names_its_bad_line(tmp_path: Path) -> None:
    file = tmp_path / "x.env"
    file.write_text("# a comment\nexport A=1\nB='two words'\n")
    assert read_env_file(str(file)) == {"A": "1", "B": "two words"}
    file.write_text("A=1\nnonsense\n")
    with pytest.raises(Fatal, match=":2: not NAME=value"):
        read_env_file(str(file))
    with pytest.raises(Fatal, match="cannot read"):
        read_env_file(str(tmp_path / "none.env"))
