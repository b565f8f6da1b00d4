"""``manifold replay`` over files: the summary, the report, and what Ctrl-C leaves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from streams.cli.replay import replay
from streams.replay.jobs import FileJob
from tests.support.candle_files import market, write_csv
from tests.support.deployment import LIVELY


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in LIVELY.items():
        monkeypatch.setenv(name, value)
    return write_csv(tmp_path / "a.csv", market(("EUR_USD", "USD_JPY"), 500), "nonsense")


def test_the_summary_counts_and_names_what_was_refused(file: str) -> None:
    done = CliRunner().invoke(replay, [file, "--json"])
    assert done.exit_code == 3, done.output
    found = json.loads(done.stdout)
    assert found["candles"] > 900
    assert found["refused_rows"]["count"] == 1
    assert found["refused_rows"]["by_reason"] == {"bad_csv": 1}
    assert [one["instrument"] for one in found["series"]] == ["EUR_USD", "USD_JPY"]
    assert sum(row["figures"]["trades"] for row in found["instruments"].values()) > 10
    assert ": refused: " in done.stderr


def test_a_report_is_written_and_named(file: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = CliRunner().invoke(replay, [file, "--report", str(page)])
    assert done.exit_code == 3, done.output
    assert page.read_text().startswith("<!doctype html>")
    assert "rows of the files were refused and are left out (bad_csv 1)" in page.read_text()
    assert "EUR_USD" in done.stdout and "P&L" in done.stdout


def test_ctrl_c_keeps_what_is_done(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.pipeline.columns.CHUNK_BARS", 100)
    columns = FileJob.columns

    def interrupted(job: FileJob) -> Iterator[int]:
        for number, count in enumerate(columns(job)):
            if number == 3:
                raise KeyboardInterrupt
            yield count

    monkeypatch.setattr(FileJob, "columns", interrupted)
    data = tmp_path / "data.json"
    done = CliRunner().invoke(replay, [file, "--json", "--report-json", str(data)])
    assert done.exit_code == 3, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["interrupted"] is True
    assert 500 < found["candles"] < 900
    report = json.loads(data.read_text())
    assert any("interrupted" in note for note in report["header"]["notes"])
    assert report["headline"]["decisions"] > 500


def test_candles_that_are_not_taken_in_are_counted_and_said(tmp_path: Path) -> None:
    candles = [candle._replace(volume=None) for candle in market(("EUR_USD",), 200)]
    lines = write_csv(tmp_path / "b.csv", candles)
    path = Path(lines)
    path.write_text(path.read_text(encoding="utf-8").replace(",None", ","), encoding="utf-8")
    done = CliRunner().invoke(replay, [lines, "--json"])
    found = json.loads(done.stdout)
    assert (found["candles"], found["signals"]) == (len(candles), 0)
    assert [(what[:14], count) for what, count in found["refused"].items()] == [
        ("without volume", len(candles))
    ]
    done = CliRunner().invoke(replay, [lines], env={"COLUMNS": "200"})
    assert f"{len(candles):,} records were not accepted: without volume" in done.stdout
