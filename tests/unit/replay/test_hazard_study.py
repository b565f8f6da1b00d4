"""The study of lambda: its measures by hand, its runs as the chain, its command on files."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from streams.candles.columns import CandleColumns
from streams.candles.load_report import LoadReport
from streams.candles.series import read_series
from streams.cli.study import study
from streams.config.settings import Config
from streams.core.layout import DECISION_DTYPE
from streams.errors import Fatal
from streams.feeds.synthetic import MarketRates, synthetic_market
from streams.replay.calibrate.hazard_effect import EpochPnl, effect, ledger_of
from streams.replay.calibrate.hazard_measures import (
    Bars,
    beyond,
    correlation,
    distribution,
    following,
    rank_correlation,
    ranks,
)
from streams.replay.calibrate.hazard_runs import (
    ChainRun,
    GranularityCandles,
    by_bar_length,
    guards_open,
    run_chain,
)
from tests.support.candle_files import START_MS, write_csv

PAIRS = ("EUR_USD", "USD_JPY")
MINUTE_MS, DAY_MS = 60_000, 86_400_000


# -- measures ------------------------------------------------------------------------------------


def test_equal_values_share_their_rank() -> None:
    assert ranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [2.5, 0.0, 2.5, 1.0]


def test_correlation_by_rank_sees_order_alone() -> None:
    x = np.array([1.0, 2.0, 3.0, 4.0])
    assert rank_correlation(x, np.exp(x)) == pytest.approx(1.0)
    assert rank_correlation(x, -(x**3)) == pytest.approx(-1.0)
    assert math.isnan(rank_correlation(x, np.ones(4)))


def test_what_is_taken_out_is_what_a_regression_takes_out() -> None:
    chance = np.random.default_rng(1)
    z = chance.normal(size=2_000)
    x, y = z + chance.normal(size=2_000), z + chance.normal(size=2_000)

    def rest(values: Any) -> Any:
        slope, level = np.polyfit(z, values, 1)
        return values - slope * z - level

    found = beyond(correlation(x, y), correlation(x, z), correlation(y, z))
    assert found == pytest.approx(correlation(rest(x), rest(y)))


def test_quantiles_are_those_of_the_values() -> None:
    found = distribution(np.arange(101.0))
    assert (found["p05"], found["p50"], found["p99"], found["mean"]) == (5.0, 50.0, 99.0, 50.0)
    assert distribution(np.zeros(0)) == {}


def test_volatility_follows_and_is_not_that_of_the_past() -> None:
    chance = np.random.default_rng(2)
    ahead, n = 5, 4_000
    returns = chance.normal(size=n) * np.exp(chance.normal(size=n))
    close = 1.3 * np.exp(np.concatenate([[0.0], np.cumsum(returns)]) * 1e-4)
    squares = np.log(close[1:] / close[:-1]) ** 2
    # known only to a prophet: the squares of the next returns
    known = np.array([squares[t : t + ahead].sum() for t in range(len(close))])
    bars = Bars(np.arange(len(close)), known, -known, np.zeros(len(close)), close)
    found = following(bars, ahead)
    assert found is not None
    assert (found.by_lambda, found.by_rupture) == (pytest.approx(1.0), pytest.approx(-1.0))
    assert abs(found.by_past) < 0.1
    assert (found.compared, found.apart) == (
        len(close) - 2 * ahead,
        (len(close) - 2 * ahead) // ahead,
    )
    assert following(bars.where(np.s_[: 2 * ahead + 1]), ahead) is None


# -- money ---------------------------------------------------------------------------------------


def a_run(
    exposure: list[float], position: list[int], close: list[float]
) -> tuple[ChainRun, GranularityCandles]:
    """One instrument, an epoch at the end of every bar, a spread of 2 in 100."""
    n = len(close)
    bar_ms = START_MS + MINUTE_MS * np.arange(n)
    mid = np.array(close)
    prices = np.concatenate(
        [np.tile(mid, (4, 1)), np.tile(mid - 1, (4, 1)), np.tile(mid + 1, (4, 1))]
    )
    rows = np.zeros(n, DECISION_DTYPE)
    rows["as_of_ms"], rows["position"] = bar_ms + MINUTE_MS, position
    shares = np.array(exposure)[:, np.newaxis]
    made = ChainRun((PAIRS[0],), bar_ms + MINUTE_MS, (shares > 0) * 1.0, shares, {PAIRS[0]: rows})
    columns = CandleColumns(bar_ms, prices, np.ones(n, bool), np.ones(n, np.int64))
    return made, GranularityCandles({PAIRS[0]: columns}, Config(), ())


def test_money_is_made_from_one_epoch_to_the_next_and_changes_cost_half_the_spread() -> None:
    made, candles = a_run([0.1, 0.1, 0.2, 0.0], [1, -1, -1, -1], [100.0, 110.0, 99.0, 108.9])
    found = ledger_of(made, candles)
    # in 0.1 long, turned to 0.1 short, 0.1 more, all out
    changes = np.array([0.1, 0.2, 0.1, 0.2]) * np.array([1 / 100, 1 / 110, 1 / 99, 1 / 108.9])
    assert found.cost == pytest.approx(changes)
    assert found.pnl + found.cost == pytest.approx([0.01, 0.01, -0.02, 0.0])


def test_an_effect_is_compared_epoch_by_epoch_and_day_by_day() -> None:
    made, _ = a_run([0.1] * 4, [1] * 4, [100.0] * 4)
    every = np.ones(4, bool)
    epoch_ms = START_MS // DAY_MS * DAY_MS + DAY_MS * np.array([0, 0, 1, 2])
    made = made._replace(epoch_ms=epoch_ms)
    base = EpochPnl(epoch_ms, np.zeros(4), np.zeros(4))
    better = EpochPnl(epoch_ms, np.array([3e-4, -1e-4, 1e-4, 3e-4]), np.full(4, 1e-5))
    found = effect(made, better, made, base, every)
    assert (found.epochs, found.days, found.weighted, found.selection_changed) == (4, 3, 1.0, 0.0)
    assert (found.pnl_bps, found.cost_bps) == (pytest.approx(6.0), pytest.approx(0.4))
    assert found.drawdown_bps == pytest.approx(1.0)
    assert found.gross_bps == pytest.approx(6.4)
    assert found.t == pytest.approx(2.0 / 1.0 * math.sqrt(3))  # 2, 1, 3 bps
    assert math.isnan(effect(made, base, made, base, every).t)
    none, two = np.zeros((4, 1)), np.array([[1.0, 0.0]] * 4)
    lost = effect(made._replace(weights=none), base, made, base, every)
    assert (lost.weighted, lost.lost, lost.selection_changed) == (0.0, 1.0, 0.0)
    first, other = made._replace(weights=two), two.copy()
    other[1:3] = [0.0, 1.0]
    changed = effect(first._replace(weights=other), base, first, base, every)
    assert (changed.lost, changed.selection_changed) == (0.0, 0.5)
    assert changed.turnover == pytest.approx(2.0 / 3)  # there and back in three days


# -- the chain -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Files of minutes and of hours."""
    directory, rates = tmp_path_factory.mktemp("study"), MarketRates(quiet=5, late=0, duplicate=0)
    made = []
    for granularity, bars in (("M1", 1_500), ("H1", 400)):
        market = synthetic_market(5, PAIRS, START_MS, bars, granularity, rates)
        candles = [one for bar in market for one in bar.candles]
        made.append(write_csv(directory / f"{granularity}.csv", candles))
    return made


def candles_of(files: list[str], **env: str) -> dict[str, GranularityCandles]:
    found = read_series(files, None, None, LoadReport(), START_MS + 100 * DAY_MS)
    return by_bar_length(found, Config.from_env(env))


def test_minutes_and_hours_are_told_apart_and_somebody_is_left_out(files: list[str]) -> None:
    found = candles_of(files)
    assert list(found) == ["M1", "H1"]
    assert {one.config.candle_gran for one in found.values()} == {"H1", "M1"}
    assert all(
        one.config.alloc_top_k == 1 and "ALLOC_TOP_K is 1" in one.notes[0] for one in found.values()
    )
    alone = read_series(files[:1], None, None, LoadReport(), START_MS + 100 * DAY_MS)
    only = {key: one for key, one in alone.items() if key.instrument == PAIRS[0]}
    with pytest.raises(Fatal, match="only EUR_USD has candles of M1"):
        by_bar_length(only, Config())


def test_lambda_hazard_selects_as_more_weight_of_rupture_does_and_lambda_does_not(
    files: list[str],
) -> None:
    candles = candles_of(files, SESSION_TRADING_ENABLED="0")["M1"]
    config = guards_open(candles.config)
    of_rupture = replace(config, alloc_score_weight_rupture=0.15 + 0.5)
    of_window = replace(config, alloc_score_weight_hazard=0.5, alloc_score_hazard="lambda_hazard")
    of_lambda = replace(config, alloc_score_weight_hazard=0.5)
    plain, by_rupture, by_window, by_lambda = (
        run_chain(candles, one).weights > 0 for one in (config, of_rupture, of_window, of_lambda)
    )
    assert plain.any(axis=1).mean() > 0.5
    assert (by_window == by_rupture).all()
    assert (by_window != plain).any()
    assert (by_lambda != by_window).any() and (by_lambda != plain).any()


def ask(*arguments: str) -> Result:
    return CliRunner().invoke(study, ["hazard", *arguments])


def test_the_command_says_what_it_found(files: list[str]) -> None:
    done = ask(*files, "--strengths", "1", "--ahead", "10", "--json")
    assert done.exit_code == 0, done.output
    minutes, hours = json.loads(done.stdout)["studies"]
    assert (minutes["granularity"], hours["granularity"]) == ("M1", "H1")
    # another scale: the formula's time steps are sixty times as long
    means = [one["lambda"]["in"][PAIRS[0]]["distribution"]["mean"] for one in (hours, minutes)]
    assert 20 < means[1] / means[0] < 180
    for one in (hours, minutes):
        assert one["from_ms"] < one["split_ms"] < one["to_ms"]
        for found in one["effect"].values():
            none, *terms = found
            assert none["term"] == "" and none["halves"]["in"]["selection_changed"] == 0.0
            assert [t["term"] for t in terms] == ["lambda", "lambda_hazard"]
            wanted = [one["score_sd"] / one["term_sd"][t["term"]] for t in terms]
            assert [t["weight"] for t in terms] == pytest.approx(wanted)


def test_the_command_prints_tables_and_refuses_what_is_no_number(files: list[str]) -> None:
    shown = ask(files[0], "--strengths", "1")
    assert shown.exit_code == 0 and "M1, guards open, out of sample" in shown.output
    wrong = ask(files[0], "--ahead", "0")
    assert isinstance(wrong.exception, Fatal) and "--ahead='0'" in str(wrong.exception)
