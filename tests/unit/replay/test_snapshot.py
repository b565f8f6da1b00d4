"""``manifold snapshot``: what it takes, what it writes, and what it reads back."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from streams.cli.snapshot import snapshot
from streams.cli.snapshot_sources import Source, source_of
from streams.config.settings import Config
from streams.errors import Fatal
from streams.records.control import ControlLog
from streams.records.events import Control
from streams.replay.manifold_files import manifold_problem, packed, read_manifold
from streams.replay.snapshot_candles import Selection, config_at, days_between
from tests.support.candle_files import START_MS, market, write_csv

PAIR = "EUR_USD"
BARS = 2_000
DAY = datetime.fromtimestamp(START_MS / 1000, UTC).date()


@pytest.fixture(scope="module")
def candle_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two calendar days of a synthetic market."""
    return write_csv(tmp_path_factory.mktemp("candles") / "two-days.csv", market((PAIR,), BARS))


def run(*arguments: str, given: str | None = None) -> Result:
    return CliRunner().invoke(snapshot, arguments, input=given, catch_exceptions=False)


def made(*arguments: str, given: str | None = None) -> list[dict[str, Any]]:
    """Return the manifolds that the command prints."""
    done = run(*arguments, given=given)
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def refused(*arguments: str) -> str:
    with pytest.raises(Fatal) as error:
        run(*arguments)
    return str(error.value)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("EUR_USD", Source("log", PAIR)),
        ("eur/usd", Source("log", PAIR)),
        ("SPX500_USD", Source("log", "SPX500_USD")),
        ("log:EURUSD", Source("log", PAIR)),
        ("valkey:EUR_USD", Source("valkey", PAIR)),
        (
            "valkey:EUR_USD:2014-05-01:2014-05-02",
            Source("valkey", PAIR, (date(2014, 5, 1), date(2014, 5, 2))),
        ),
        ("log:EUR_USD:2014-05-01", Source("log", PAIR, (date(2014, 5, 1), date(2014, 5, 1)))),
        ("-", Source("file", "-")),
        ("candles/EUR_USD.csv", Source("file", "candles/EUR_USD.csv")),
        ("EUR_USD-M1-2014-05.csv.gz", Source("file", "EUR_USD-M1-2014-05.csv.gz")),
    ],
)
def test_a_source_is_an_instrument_a_range_in_valkey_or_a_file(text: str, wanted: Source) -> None:
    assert source_of(text) == wanted


def test_a_file_that_is_called_like_an_instrument_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / PAIR).write_text("time\n")
    assert source_of(PAIR) == Source("file", PAIR)
    assert source_of(f"log:{PAIR}") == Source("log", PAIR)


@pytest.mark.parametrize("text", ["valkey:EUR_USD:May", "log:EUR_USD:2014-05-02:2014-05-01"])
def test_a_range_of_days_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(Fatal, match=r"not a day like|after the last one"):
        source_of(text)


def test_a_day_has_the_candles_that_start_in_it_and_at_hides_what_came_later(
    candle_file: str,
) -> None:
    (whole,) = made(candle_file)
    first, second = made(candle_file, "--days", "2")
    assert first["count"] + second["count"] == whole["count"]
    assert (first["t0_ms"], second["t1_ms"]) == (whole["t0_ms"], whole["t1_ms"])
    day_end_ms = days_end_ms(DAY)
    assert first["t1_ms"] < day_end_ms <= second["t0_ms"]
    assert made(candle_file, "--day", DAY.isoformat()) == [first]
    # everything of the first day has ended by its end, and nothing of the second one
    assert made(candle_file, "--at", f"@{day_end_ms}") == [first]
    (last,) = made(candle_file, "--candles", "500")
    assert last["count"] == 500 and last["t1_ms"] == whole["t1_ms"]


def days_end_ms(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000) + 86_400_000


def test_selected_days_are_those_of_the_calendar() -> None:
    chosen = Selection(None, newest_days=3).counted_from(days_end_ms(date(2014, 3, 1)))
    assert chosen.days == days_between(date(2014, 2, 28), date(2014, 3, 2))
    earlier = Selection(days_end_ms(date(2014, 1, 1)) - 1, newest_days=1)
    assert earlier.counted_from(days_end_ms(date(2014, 3, 1))).days == (date(2014, 1, 1),)


def test_what_is_written_is_read_back_and_is_what_was_printed(
    candle_file: str, tmp_path: Path
) -> None:
    printed = made(candle_file, "--days", "2")
    folder = f"{tmp_path}/manifolds/"
    done = run(candle_file, "--days", "2", "--output", folder)
    assert done.exit_code == 0 and not done.stdout
    files = sorted((tmp_path / "manifolds" / PAIR).iterdir())
    assert [file.name for file in files] == [
        f"{day}.json" for day in days_between(DAY, date.fromordinal(DAY.toordinal() + 1))
    ]
    assert [read_manifold(str(file)) for file in files] == printed
    assert made("--read", *map(str, files)) == printed
    one = tmp_path / "one.json.gz"
    assert run(candle_file, "--output", str(one)).exit_code == 0
    assert json.loads(gzip.decompress(one.read_bytes())) == made(candle_file)[0]
    assert made("--read", str(one)) == made(candle_file)
    assert not list(tmp_path.rglob("*.part"))


def test_bars_of_another_length_stand_in_the_name_of_the_file(tmp_path: Path) -> None:
    hour_bars = "time,open,high,low,close,volume\n" + "".join(
        f"2014-05-{1 + n // 24:02d}T{n % 24:02d}:00:00Z,1.3,1.4,1.2,1.3,{n % 5 + 1}\n"
        for n in range(150)
    )
    place = tmp_path / "EUR_USD-H1.csv"
    place.write_text(hour_bars)
    assert run(str(place), "--output", f"{tmp_path}/out/").exit_code == 0
    assert [f.name for f in (tmp_path / "out" / PAIR).iterdir()] == ["2014-05-07-H1.json"]
    said = refused(str(place), "--output", "valkey")
    assert "CANDLE_GRAN=M1" in said


def test_two_manifolds_do_not_go_into_one_file(candle_file: str, tmp_path: Path) -> None:
    said = refused(candle_file, "--days", "2", "--output", str(tmp_path / "one.json"))
    assert "is one file and there are 2 manifolds" in said
    assert not list(tmp_path.iterdir())


def test_options_that_exclude_each_other_are_refused(candle_file: str) -> None:
    assert "exclude each other" in refused(candle_file, "--days", "2", "--candles", "9")
    assert "the options about candles do not apply" in refused("--read", "x.json", "--at", "@5")
    assert "no candle in 2001-01-01 (UTC)" in refused(candle_file, "--day", "2001-01-01")


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no object": (lambda _: None, "not a JSON object"),
    "a field is missing": (lambda m: m.pop("coeffs"), "coeffs is missing"),
    "a number is text": (lambda m: m.update(t1_ms="5"), "t1_ms is '5'"),
    "a flag is no number": (lambda m: m.update(count=True), "count is True"),
    "no bar length": (lambda m: m.update(granularity="M7"), "no bar length"),
    "a path for a name": (lambda m: m.update(instrument="../../etc"), "not a name such as"),
    "times turned round": (lambda m: m.update(t0_ms=m["t1_ms"] + 1), "t0_ms"),
    "a metric is missing": (lambda m: m["metrics"].pop("entropy"), "entropy is missing"),
    "metrics of another window": (
        lambda m: m["metrics"].update(entropy=0.123),
        "not those of the last signal",
    ),
    "a signal without its end": (
        lambda m: m["signals"][3].pop("window_end_ns"),
        r"signals\[3\]: window_end_ns is missing",
    ),
    "a window that ends later": (
        lambda m: m["signals"][-1].update(window_end_ns=(m["t1_ms"] + 60_000) * 1_000_000),
        "after the last candle",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_manifold_is_refused_in_words(name: str, candle_file: str) -> None:
    change, wanted = BROKEN[name]
    (manifold,) = made(candle_file)
    assert manifold_problem(manifold) is None
    given: Any = [manifold] if name == "no object" else manifold
    change(manifold)
    assert re.search(wanted, manifold_problem(given) or ""), manifold_problem(given)


@pytest.mark.parametrize("data", [b"", b"{", b"\x1f\x8b broken", b'{"count": NaN}', b"[1]"])
def test_a_file_that_holds_none_is_one_sentence(data: bytes, tmp_path: Path) -> None:
    place = tmp_path / "x.json"
    place.write_bytes(data)
    assert str(place) in refused("--read", str(place))


def test_a_packed_manifold_is_the_same_bytes_each_time(candle_file: str) -> None:
    (manifold,) = made(candle_file)
    assert packed(manifold) == packed(json.loads(json.dumps(manifold)))


def test_the_configuration_is_the_one_of_that_time_and_of_older_candles_the_first() -> None:
    log = ControlLog()
    first, second = Config(), Config.from_env({"ECHO_LOOKBACK_MINUTES": "30"})
    assert config_at(log, None) is None and config_at(log, 5) is None
    log.append(0, Control("kill_switch", None, '{"engaged":true}', "ann", "x", 500))
    log.append(1, Control("config", None, first.to_json(), "env", "first", 1_000))
    log.append(2, Control("config", None, second.to_json(), "ann", "shorter", 2_000))
    assert [config_at(log, at) for at in (0, 1_000, 1_999)] == [first] * 3
    assert config_at(log, 2_000) == config_at(log, None) == second
