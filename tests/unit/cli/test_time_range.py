"""The options --from, --to and --instruments of replay, report and calibrate."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from streams.cli import cli
from streams.cli.time_range import chosen_range
from streams.errors import Fatal
from streams.replay.report.collect import TimeRange

DAY_MS = 86_400_000
FIRST_MS = 1_704_067_200_000  # 2024-01-01


def test_a_range_is_in_epoch_ms_and_instruments_are_normalised() -> None:
    found = chosen_range("2024-01-01", "2024-01-02", "eurusd,nzd/usd")
    assert found == TimeRange(FIRST_MS, FIRST_MS + DAY_MS, ("EUR_USD", "NZD_USD"))
    assert chosen_range(None, None, None) == TimeRange()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("2024-01-02", "2024-01-01", None), "--from 2024-01-02 is after --to 2024-01-01"),
        (("noon", None, None), "--from"),
        ((None, None, ","), "--instruments is empty"),
    ],
)
def test_another_range_is_one_sentence(
    arguments: tuple[str | None, str | None, str | None], message: str
) -> None:
    with pytest.raises(Fatal, match=message):
        chosen_range(*arguments)


@pytest.mark.parametrize("command", ["replay", "report", "calibrate"])
def test_every_command_refuses_a_range_that_ends_before_it_starts(command: str) -> None:
    done = CliRunner().invoke(cli, [command, "--from", "2024-01-02", "--to", "2024-01-01"])
    assert isinstance(done.exception, Fatal) and "is after --to" in str(done.exception)
