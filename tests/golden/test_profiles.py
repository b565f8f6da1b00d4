"""The profiles that ship: every name is a setting, and each does what it is for."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from streams.candles.calendar import calendar_of
from streams.candles.load_report import LoadReport
from streams.candles.series import read_series
from streams.cli.demo import lively_end_ms
from streams.config.environment import environment_names, read_env_file, setting_fields
from streams.config.groups import GROUPS
from streams.config.runtime import DEFAULT_PAIRS
from streams.config.settings import Config
from streams.feeds.synthetic import synthetic_market
from streams.records.events import GateDecision, Weights
from streams.records.topics import TRADES
from streams.replay.calibrate.sources import TimeRange, windows_of_series
from streams.replay.files import derive

PROFILES = Path(__file__).resolve().parents[2] / "deploy" / "profiles"
WINTER_MS, SUMMER_MS = 1_767_866_400_000, 1_783_504_800_000
"""2026-01-08 10:00 UTC and 2026-07-08 10:00 UTC."""


@pytest.mark.parametrize("path", sorted(PROFILES.glob("*.env")), ids=lambda path: path.stem)
def test_every_line_is_a_setting_that_is_accepted(path: Path) -> None:
    env = read_env_file(str(path))
    known = {name for kind in GROUPS for f in setting_fields(kind) for name in environment_names(f)}
    assert set(env) <= known
    for group in GROUPS:
        group.from_env(env)


@pytest.mark.parametrize("now_ms", [WINTER_MS, SUMMER_MS], ids=["winter", "summer"])
async def test_the_demo_shows_trades_reasons_and_weights(now_ms: int) -> None:
    config = Config.from_env(read_env_file(str(PROFILES / "demo.env")))
    end_ms = lively_end_ms(now_ms, DEFAULT_PAIRS, config)
    calendar = calendar_of(config)
    start_ms = calendar.start_of_last_bars_ms(end_ms, 1_500, config.granularity_ms)
    market = synthetic_market(1, DEFAULT_PAIRS, start_ms, 1_500, calendar=calendar)
    bars = [(bar.as_of_ms, bar.candles) for bar in market]
    trades, last, epochs = 0, {}, []
    async for chunk in derive(config, bars, DEFAULT_PAIRS, start_ms, bars[-1][0], 4):
        for record, output in chunk:
            event: Any = output.event
            trades += record.topic == TRADES
            if isinstance(event, GateDecision):
                last[event.instrument] = event
            elif isinstance(event, Weights):
                epochs.append(event)
    eligible = [name for name, decision in last.items() if decision.eligible]
    refused = Counter(reason for decision in last.values() for reason in decision.reasons)
    assert trades > 50
    assert len(eligible) >= 2
    assert len(last) - len(eligible) >= 2, refused
    assert len(refused) >= 3, refused
    assert epochs[-1].action == "published"
    assert len(epochs[-1].entries) >= 2


def test_the_hourly_profile_passes_a_tenth_of_the_recorded_hours(shared_data: Path | None) -> None:
    if shared_data is None:
        pytest.skip("the profile is calibrated by recorded candles, and those are not here")
    config = Config.from_env(read_env_file(str(PROFILES / "h1.env")))
    paths = [str(path) for path in sorted(shared_data.glob("oanda-*-H1-*.csv.gz"))]
    series = read_series(paths, None, None, LoadReport(), 1 << 50)
    found = windows_of_series(series, config, TimeRange(), "recorded").windows
    windows, passed = sum(o.total for o in found), sum(o.passed_all for o in found)
    assert windows == 148_634
    assert 0.10 <= passed / windows < 0.105
