"""Where the candles of a local stack come from; a log never holds two markets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from streams.cli.up import up
from streams.errors import Fatal
from streams.stack.up import Ports, Stack, StackPlan, stack_settings

SEED = 7


def stack(directory: Path, market: str, bars: int | None = None, broker: str = "kafka") -> Stack:
    made = Stack(StackPlan(broker, directory, Ports(), SEED, 60_000, bars, market), {})
    made.directory.mkdir(parents=True, exist_ok=True)
    return made


def test_the_processes_are_the_roles_of_a_host(tmp_path: Path) -> None:
    found = stack(tmp_path, "synthetic")._arguments()
    assert found == {
        "worker": ["worker"],
        "mirror": ["mirror"],
        "serve": ["serve"],
        "trade": ["trade"],
        "feed": ["feed", "synthetic", "--seed", "7", "--start", "@60000", "--live"],
    }


def test_a_bounded_run_has_no_service_and_no_executor(tmp_path: Path) -> None:
    found = stack(tmp_path, "synthetic", bars=300)._arguments()
    assert found.keys() == {"worker", "mirror", "feed"}
    assert found["feed"][-2:] == ["--bars", "300"]


def test_candles_come_from_oanda_or_from_nowhere(tmp_path: Path) -> None:
    assert stack(tmp_path / "a", "oanda")._arguments()["feed"] == ["feed", "oanda"]
    assert stack(tmp_path / "b", "none")._arguments().keys() == {
        "worker", "mirror", "serve", "trade",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("first", "second", "allowed"),
    [
        ("synthetic", "synthetic", True),
        ("none", "none", True),
        ("none", "oanda", True),
        ("oanda", "none", True),
        ("synthetic", "none", False),
        ("synthetic", "oanda", False),
        ("none", "synthetic", False),
        ("oanda", "synthetic", False),
    ],
)
def test_a_log_keeps_to_its_market(tmp_path: Path, first: str, second: str, allowed: bool) -> None:
    stack(tmp_path, first)._arguments()
    again = stack(tmp_path, second)
    if allowed:
        again._arguments()
        return
    with pytest.raises(Fatal, match=f"created with --market {first}, not {second}"):
        again._arguments()


def test_a_log_of_before_there_was_a_choice_holds_the_synthetic_market(tmp_path: Path) -> None:
    made = stack(tmp_path, "none")
    (made.directory / "market.json").write_text(json.dumps({"seed": SEED, "start_ms": 1}))
    with pytest.raises(Fatal, match="--market synthetic"):
        made._arguments()
    assert stack(tmp_path, "synthetic")._arguments()["feed"][5] == "@1"


def test_real_candles_have_the_hours_of_a_real_market() -> None:
    assert stack_settings({})["MARKET_CALENDAR"] == "continuous"
    assert "MARKET_CALENDAR" not in stack_settings({}, "oanda")
    assert stack_settings({"MARKET_CALENDAR": "fx"})["MARKET_CALENDAR"] == "fx"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--demo", "--market", "none"), "--demo uses the synthetic market"),
        (("--market", "oanda"), "OANDA_API_KEY"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    for name in ("OANDA_API_KEY", "OANDA_API_KEY_FILE", "OANDA_ACCOUNT_ID"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(Fatal, match=said):
        CliRunner().invoke(up, [*arguments, "--data-dir", str(tmp_path)], catch_exceptions=False)
