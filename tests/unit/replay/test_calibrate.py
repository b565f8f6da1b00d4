"""Calibration: pass rates, quantiles, and the tightest thresholds for a wanted pass rate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from streams.candles.calendar import FX
from streams.candles.load_report import LoadReport
from streams.candles.series import read_series
from streams.candles.sessions import session_state
from streams.cli import cli, main
from streams.config.environment import read_env_file
from streams.config.settings import Config
from streams.pipeline.limits import GUARD_LIMITS, RARE
from streams.records.topics import GATES
from streams.replay.calibrate.outcome import Calibration
from streams.replay.calibrate.sources import SourceWindows, TimeRange, windows_of_series
from streams.replay.calibrate.suggest import Suggestion, suggest
from streams.replay.calibrate.windows import (
    FINE,
    METRICS,
    QUANTILES,
    STEPS,
    Windows,
    guards_of,
    steps_down,
    steps_up,
)
from streams.replay.files import derive
from tests.support.candle_files import HEADER, START_MS, csv_line, market, write_csv

MINUTE_MS = 60_000
PAIRS = ("EUR_USD", "USD_JPY")


def random_metrics(count: int, seed: int = 3) -> dict[str, Any]:
    """Metrics of windows: coherence nearly continuous, rupture in whole 127ths, few repeated."""
    random = np.random.default_rng(seed)
    rupture = random.binomial(127, 0.1, count) / 127
    return {
        "coherence": random.beta(5, 5, count),
        "stability": 1 - rupture,
        "entropy": random.beta(20, 4, count),
        "rupture": rupture,
        "lambda_hazard": rupture,
        "count_1h": random.geometric(0.6, count).astype(np.int32),
    }


def windows(
    metrics: dict[str, Any], config: Config, name: str = "EUR_USD", from_ms: int = START_MS
) -> Windows:
    made = Windows(name, config, guards_of(config))
    count = len(metrics["coherence"])
    as_of_ms = from_ms + MINUTE_MS * np.arange(1, count + 1)
    for start in range(0, count, 1_000):  # in chunks, as the core's rows come
        part = slice(start, start + 1_000)
        made.add(as_of_ms[part], {name: values[part] for name, values in metrics.items()})
    return made


def passing(metrics: dict[str, Any], settings: dict[str, str], mode: str = "adaptive") -> int:
    """Count what passes settings as a gate reads them, on the metrics as they are."""
    config = Config.from_env(settings | {"GATE_MODE": mode})
    together = np.ones(len(metrics["coherence"]), bool)
    for rule in GUARD_LIMITS[mode].values():
        limit = getattr(config, rule.setting)
        if limit is not None:
            values = metrics[rule.metric]
            together &= values >= limit if rule.relation == ">=" else values <= limit
    return int(together.sum())


def suggested(metrics: dict[str, Any], rate: float, **env: str) -> Suggestion:
    config = Config.from_env(env)
    found = suggest([windows(metrics, config)], guards_of(config), rate)
    assert found is not None
    return found


@pytest.mark.parametrize("parts", [STEPS, FINE])
def test_steps_compare_with_a_threshold_as_the_numbers_do(parts: int) -> None:
    grid = np.arange(parts + 1) / parts
    near = np.concatenate([grid, np.nextafter(grid, 0), np.nextafter(grid, 1)])
    values = np.clip(np.concatenate([near, np.random.default_rng(1).random(50_000)]), 0, 1)
    up, down = steps_up(values, parts), steps_down(values, parts)
    assert (grid[up] >= values).all()
    assert (grid[np.maximum(up - 1, 0)] < values)[up > 0].all()
    assert (grid[down] <= values).all()
    assert (grid[np.minimum(down + 1, parts)] > values)[down < parts].all()
    # a threshold is read from text: the same number
    assert [float(f"{step / STEPS:.4f}") for step in range(STEPS + 1)] == [
        step / STEPS for step in range(STEPS + 1)
    ]


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.1, 0.25, 0.6, 1.0])
@pytest.mark.parametrize("hazard", ["", "0.5"])
def test_the_wanted_share_passes_and_a_step_tighter_does_not(rate: float, hazard: str) -> None:
    metrics = random_metrics(7_001)
    found = suggested(metrics, rate, AUTO_MAX_HAZARD=hazard)
    wanted = rate * 7_001
    assert found.passed == passing(metrics, found.settings)
    assert found.passed >= wanted
    rules = {r.setting.upper(): r for r in GUARD_LIMITS["adaptive"].values()}
    assert set(found.settings) == set(rules) - (set() if hazard else {"AUTO_MAX_HAZARD"})
    tighter = {
        name: f"{float(text) + (1e-4 if rules[name].relation == '>=' else -1e-4):.4f}"
        for name, text in found.settings.items()
        if rules[name].metric != "count_1h"
    }
    inside = {n: t for n, t in tighter.items() if 0 <= float(t) <= 1}
    assert passing(metrics, found.settings | inside) < wanted


def test_every_guard_stands_at_the_same_quantile() -> None:
    metrics = random_metrics(9_000)
    found = suggested(metrics, 0.10, SESSION_PATTERN_MIN_OCCURRENCES="1")
    coherence = float(found.settings["AUTO_MIN_COHERENCE"])
    entropy = float(found.settings["AUTO_MAX_ENTROPY"])
    assert (metrics["coherence"] < coherence).mean() == pytest.approx(found.quantile, abs=2e-3)
    assert (metrics["entropy"] > entropy).mean() == pytest.approx(found.quantile, abs=2e-3)
    # 127ths lie further apart than the quantile is exact: the permissive neighbour
    assert (metrics["rupture"] > float(found.settings["AUTO_MAX_RUPTURE"])).mean() <= found.quantile


@pytest.mark.parametrize(
    ("rate", "repetitions"), [(0.05, "3"), (0.15, "3"), (0.3, "2"), (0.5, "1"), (1.0, "1")]
)
def test_repetitions_are_the_most_that_still_reach_the_rate(rate: float, repetitions: str) -> None:
    # 100 %, 40 % and 16 % of the windows repeat at least 1, 2 and 3 times
    metrics = random_metrics(20_000)
    found = suggested(metrics, rate, SESSION_PATTERN_MIN_OCCURRENCES="3")
    assert found.settings["SESSION_PATTERN_MIN_OCCURRENCES"] == repetitions


def test_the_echo_rule_is_calibrated_by_its_own_settings() -> None:
    metrics = random_metrics(5_000)
    found = suggested(metrics, 0.10, GATE_MODE="echo")
    assert set(found.settings) == {"ECHO_HAZARD_MAX", "ECHO_MIN_REPETITIONS"}
    assert passing(metrics, found.settings, "echo") == found.passed >= 500


def test_windows_that_are_all_alike_all_pass() -> None:
    metrics = {name: np.full(300, 0.25) for name in METRICS} | {"count_1h": np.full(300, 4)}
    found = suggested(metrics, 0.10)
    assert found.passed == found.windows == 300
    assert found.settings["AUTO_MIN_COHERENCE"] == found.settings["AUTO_MAX_ENTROPY"] == "0.2500"
    config = Config()
    made = Calibration(SourceWindows("test", config, [windows(metrics, config)], []), 0.10)
    assert any("identical metrics" in sentence for sentence in made.sentences())


def test_several_instruments_count_together() -> None:
    config, parts = Config(), [random_metrics(4_000, seed) for seed in (1, 2)]
    both = [windows(part, config, name) for part, name in zip(parts, PAIRS, strict=True)]
    found = suggest(both, guards_of(config), 0.10)
    assert found is not None
    assert found.passed == sum(passing(part, found.settings) for part in parts) >= 800
    made = Calibration(SourceWindows("test", config, both, []), 0.10)
    for part, name in zip(parts, PAIRS, strict=True):
        assert made.achieved[name] == passing(part, found.settings) / 4_000


def test_quantiles_are_the_least_value_of_the_grid_that_the_share_does_not_exceed() -> None:
    metrics, config = random_metrics(4_003), Config()
    made = windows(metrics, config)
    for name, values in metrics.items():
        exact = np.quantile(values, QUANTILES, method="inverted_cdf")
        found = made.quantiles(name)
        assert found is not None
        difference = np.array(found) - exact
        assert (difference >= 0).all()
        assert (difference < 1 / FINE).all()


def test_sessions_are_those_of_the_gate() -> None:
    config = Config.from_env({"SESSION_EXIT_MINUTES": "20"})
    friday_ms = 1_709_884_800_000 + 18 * 3_600_000  # a weekend, and a change of the clocks
    count = 3_900
    made = windows(random_metrics(count), config, "EUR_USD", friday_ms)
    states = [
        session_state(FX, "EUR_USD", friday_ms + MINUTE_MS * bar, 20) for bar in range(1, count + 1)
    ]
    assert made.in_session == sum(state.open and not state.near_close for state in states) > 0
    off = Config.from_env({"SESSION_TRADING_ENABLED": "0"})
    assert windows(random_metrics(count), off, "EUR_USD", friday_ms).in_session == count


def test_a_rate_that_sessions_alone_keep_from_being_reached_is_said() -> None:
    config = Config()
    made = windows(random_metrics(1_440), config)
    share = made.in_session / made.total
    said = Calibration(SourceWindows("test", config, [made], []), share + 0.05).sentences()
    assert any("even without any guard" in sentence for sentence in said)
    said = Calibration(SourceWindows("test", config, [made], []), share - 0.05).sentences()
    assert not any("even without any guard" in sentence for sentence in said)


@pytest.fixture
def candle_file(tmp_path: Path) -> str:
    return write_csv(tmp_path / "market.csv", market(PAIRS, 700))


async def test_pass_rates_are_those_of_the_gate_over_the_same_candles(candle_file: str) -> None:
    config = Config.from_env({"ECHO_SIGNATURE_PRECISION": "1", "AUTO_MAX_ENTROPY": "0.85"})
    series = read_series([candle_file], None, None, LoadReport(), START_MS * 2)
    found = windows_of_series(series, config, TimeRange(), "test")
    bars: dict[int, list[Any]] = {}
    for candle in market(PAIRS, 700):
        bars.setdefault(candle.as_of_ms, []).append(candle)
    decided: dict[str, list[tuple[str, ...]]] = {pair: [] for pair in PAIRS}
    until_ms = max(bars)
    async for chunk in derive(config, sorted(bars.items()), PAIRS, START_MS, until_ms, 2):
        for record, output in chunk:
            event: Any = output.event
            if record.topic == GATES and getattr(event, "metrics", None) and not event.no_candle:
                decided[event.instrument].append(event.reasons)
    for one in found.windows:
        reasons = decided[one.instrument]
        assert one.total == len(reasons) > 400
        for guard in one.guards:
            assert one.passed[guard.reason] == sum(guard.reason not in each for each in reasons)
        failing = {guard.reason for guard in one.guards}
        assert one.passed_all == sum(failing.isdisjoint(each) for each in reasons)
        sessions = {"session_closed", "session_near_close", "market_closed"}
        assert one.passed_in_session == sum(
            (failing | sessions).isdisjoint(each) for each in reasons
        )


def test_a_stretch_leaves_out_windows_and_not_candles(candle_file: str) -> None:
    def found(time_range: TimeRange) -> SourceWindows:
        series = read_series([candle_file], None, None, LoadReport(), START_MS * 2)
        return windows_of_series(series, Config(), time_range, "test")

    from_ms, to_ms = START_MS + 300 * MINUTE_MS, START_MS + 400 * MINUTE_MS
    whole, part = found(TimeRange()), found(TimeRange(from_ms, to_ms, ("USD_JPY",)))
    (one,) = part.windows
    assert (one.instrument, one.first_ms, one.last_ms) == ("USD_JPY", from_ms, to_ms)
    assert 90 < one.total <= 101
    assert [each.instrument for each in whole.windows] == list(PAIRS)


def ran(*arguments: str, **settings: str) -> Any:
    return CliRunner().invoke(cli, ["calibrate", *arguments], env=settings)


def test_the_written_file_is_read_as_settings_and_says_where_it_is_from(
    candle_file: str, tmp_path: Path
) -> None:
    path = tmp_path / "calibrated.env"
    done = ran(candle_file, "--json", "--output", str(path))
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    settings = read_env_file(str(path))
    assert settings == found["suggested"]["settings"]
    again = json.loads(ran(candle_file, "--json", **settings).output)
    assert again["together"]["all_guards"] == found["suggested"]["pass_rate"] >= 0.10
    assert again["together"]["with_sessions"] == found["suggested"]["with_sessions"]
    text = path.read_text()
    assert "market.csv; EUR_USD, USD_JPY" in text
    assert str(tmp_path) not in text
    assert f"{found['windows']} windows" in text
    assert ran(candle_file, "--output", str(tmp_path / "again.env")).exit_code == 0
    assert (tmp_path / "again.env").read_text() == text
    assert text in ran(candle_file, "--output", "-").output


def test_settings_that_hardly_pass_are_warned_of(candle_file: str) -> None:
    strict = ran(candle_file, AUTO_MIN_COHERENCE="0.9")
    assert strict.exit_code == 0, strict.output
    assert f"less than {RARE:.0%}" in strict.output
    loose = {
        "AUTO_MIN_COHERENCE": "0",
        "AUTO_MAX_ENTROPY": "1",
        "SESSION_PATTERN_MIN_OCCURRENCES": "1",
    }
    assert f"less than {RARE:.0%}" not in ran(candle_file, **loose).output


def test_without_volume_it_is_as_the_setting_says(tmp_path: Path) -> None:
    path = tmp_path / "quiet.csv"
    lines = [csv_line(candle._replace(volume=None)) for candle in market(PAIRS[:1], 300)]
    path.write_text("\n".join([HEADER, *(line.replace("None", "") for line in lines)]) + "\n")
    done = ran(str(path), "--json")
    assert done.exit_code != 0
    assert "ALLOW_MISSING_VOLUME=1" in str(done.exception)
    found = json.loads(ran(str(path), "--json", ALLOW_MISSING_VOLUME="1").output)
    assert any("have no volume" in note for note in found["notes"])


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--from", "yesterday"), "--from"),
        (("--from", "2024-03-05", "--to", "2024-03-04"), "is after"),
        (("--instruments", " , "), "--instruments"),
        (("--instruments", "EUR_CHF"), "EUR_USD, USD_JPY"),
        (("--from", "2030-01-01"), "no windows"),
        (("--output", "none/there.env"), "none/there.env"),
        (("--output", "-", "--json"), "standard output"),
    ],
)
def test_bad_input_is_one_sentence(
    candle_file: str, arguments: tuple[str, ...], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["calibrate", candle_file, *arguments])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert named in said.splitlines()[-1]
