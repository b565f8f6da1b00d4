"""Following the log: what is refused, what is said, and what other processes read of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from streams.config.difference import differences
from streams.config.settings import Config, UnknownSettings
from streams.errors import Fatal
from streams.monitoring.http_probe import differences_of, samples_of
from streams.records.config_following import ConfigCollector, FollowedConfig, require_followable
from streams.records.control import ControlLog
from streams.records.events import Control
from streams.trading.context import MadeWith


def record(config: Config) -> Control:
    return Control("config", None, config.to_json(), "test", "test", 0)


def test_an_environment_that_differs_follows_the_log_and_says_so_once() -> None:
    said: list[str] = []
    log, here = ControlLog(), Config(gate_mode="static")
    followed = FollowedConfig(here, said.append)
    assert followed.look(log) is here and said == []
    log.append(0, record(here))
    assert followed.look(log) == here and said == []
    log.append(1, record(Config(gate_mode="echo", auto_max_hazard=0.5)))
    assert followed.look(log).gate_mode == "echo"
    (line,) = said
    assert "GATE_MODE is static here, echo is active" in line
    assert "AUTO_MAX_HAZARD is unset here, 0.5 is active" in line
    assert "manifold config set" in line
    log.append(2, Control("universe", None, "[]", "test", "test", 0))
    followed.look(log)
    assert len(said) == 1, "nothing new is not said again"
    log.append(3, record(here))
    assert followed.look(log) == here
    assert said[1:] == ["the settings here are the active ones again"]
    assert followed.differs == ()


def test_an_old_record_that_names_fewer_settings_is_no_difference() -> None:
    text = Config().to_json().replace('"ATR_BARS":14,', "")
    log = ControlLog()
    log.append(0, Control("config", None, text, "test", "test", 0))
    followed = FollowedConfig(Config(), pytest.fail)
    assert followed.look(log).source_text == text


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (Config(tzdata_version="2020.1"), r"requires TZDATA_VERSION=2020\.1, but .* tzdata is 20"),
        (Config(market_holidays_version="2020.1"), r"requires MARKET_HOLIDAYS_VERSION=2020\.1"),
        (
            Config(tzdata_version="2020.1", market_calendar="continuous"),
            "config set TZDATA_VERSION=20",
        ),
    ],
)
def test_what_is_not_installed_cannot_be_followed(config: Config, said: str) -> None:
    with pytest.raises(Fatal, match=said):
        require_followable(config)
    log = ControlLog()
    log.append(0, record(config))
    with pytest.raises(Fatal, match=said):
        FollowedConfig(Config(), pytest.fail).look(log)
    # what runs already and derives nothing goes on with what it does
    told: list[str] = []
    going_on = FollowedConfig(Config(), told.append)
    assert going_on.look(log, refuse=False) == config
    assert len(told) == 1 and "2020.1 is active" in told[0]


@pytest.mark.parametrize(
    "config",
    [
        Config(market_holidays_version="2020.1", market_calendar="continuous"),
        Config(market_holidays_version="2020.1", market_holidays="none"),
        Config(gate_mode="echo", candle_gran="M5", market_calendar="continuous"),
    ],
)
def test_everything_else_is_followed(config: Config) -> None:
    require_followable(config)


def test_settings_of_another_version_are_not_followed() -> None:
    with pytest.raises(UnknownSettings):
        ControlLog().append(0, Control("config", None, '{"BRAND_NEW": 1}', "t", "t", 0))


def test_what_a_process_exports_is_what_another_reads() -> None:
    here, active = (
        Config(gate_mode="static"),
        Config(hysteresis_pair_json=(("EUR_USD", 0.12),), market_holidays='{"12-25": "closed"}'),
    )
    log = ControlLog()
    log.append(0, record(active))
    followed = FollowedConfig(here, lambda text: None)
    followed.look(log)
    registry = CollectorRegistry()
    registry.register(ConfigCollector(followed))
    assert differences_of(samples_of(generate_latest(registry).decode())) == differences(
        here, active
    )
    assert len(differences(here, active)) == 3
    log.append(1, record(here))
    followed.look(log)
    assert differences_of(samples_of(generate_latest(registry).decode())) == ()


def test_an_executor_is_made_anew_when_what_it_was_made_with_changes() -> None:
    config = Config()
    made = MadeWith.of(config)
    assert made.changed(replace(config, gate_mode="echo")) == ""
    assert made.changed(replace(config, candle_gran="M5")) == "CANDLE_GRAN is M5 and was M1"
    assert "BACKTEST_COST_BPS is 2.0 and was 1.5" in made.changed(
        replace(config, backtest_cost_bps=2.0)
    )
