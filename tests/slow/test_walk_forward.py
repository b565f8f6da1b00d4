"""Twelve years of hourly candles: calibrated on two years, replayed over the next, year by year."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

PROFILE = ROOT / "deploy" / "profiles" / "h1.env"
FILES = ("oanda-EUR_USD-H1-2007-2018.csv.gz", "oanda-NZD_USD-H1-2007-2018.csv.gz")
YEARS = range(2009, 2019)

pytestmark = pytest.mark.slow


def run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "streams", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode in (0, 3), done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def files(shared_data: Path | None) -> list[str]:
    if shared_data is None:
        pytest.skip("the recorded hourly candles are not here")
    return [str(shared_data / name) for name in FILES]


def replayed(files: list[str], first: str, last: str, *settings: str) -> dict[str, Any]:
    within = ("--from", first, "--to", last, "--env-file", str(PROFILE))
    found: dict[str, Any] = json.loads(run("replay", *files, *within, *settings, "--json"))
    return found


def test_each_year_is_traded_with_guards_of_the_two_before_it(
    files: list[str], tmp_path: Path
) -> None:
    outcomes = {}
    for year in YEARS:
        guards = tmp_path / f"{year}.env"
        before = ("--from", f"{year - 2}-01-01", "--to", f"{year}-01-01")
        run(
            *("calibrate", *files, *before, "--pass-rate", "0.10"),
            *("--output", str(guards), "--env-file", str(PROFILE)),
        )
        lines = guards.read_text().splitlines()
        chosen = [line for line in lines if line and not line.startswith("#")]
        settings = [part for line in chosen for part in ("--set", line)]
        found = replayed(files, f"{year}-01-01", f"{year + 1}-01-01", *settings)
        outcomes[year] = found["headline"]
        assert found["candles"] > 5_000
    trades = {year: one["figures"]["trades"] for year, one in outcomes.items()}
    passing = {year: one["guards_together_share"] for year, one in outcomes.items()}
    print(json.dumps({"trades": trades, "guards pass": passing}))
    assert sum(trades.values()) > 1_000
    assert min(trades.values()) > 20
    # guards of two years let through about as much of the next: far from nothing and from all
    assert all(0.01 < share < 0.4 for share in passing.values()), passing


def test_twelve_years_are_the_same_in_columns_and_in_records(files: list[str]) -> None:
    whole = replayed(files, "2007-01-01", "2019-01-01")
    lines = run(
        *("replay", *files, "--topic", "bt.trades", "--env-file", str(PROFILE))
    ).splitlines()
    trades = [json.loads(json.loads(line)["value"]) for line in lines]
    assert len(trades) > 1_500
    assert whole["headline"]["figures"]["trades"] == len(trades)
    for name, row in whole["instruments"].items():
        pnl = sum(trade["pnl_bps"] for trade in trades if trade["instrument"] == name)
        assert row["figures"]["pnl_bps"] == pytest.approx(pnl, abs=0.01)
