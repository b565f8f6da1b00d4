"""``manifold executor``: its lines for people."""

from __future__ import annotations

from typing import Any

from streams.cli.executor import executor_lines


def said(**more: Any) -> list[str]:
    """Return the lines of a status that has little else."""
    kill = {"engaged": False, "why": []}
    base = {"account_id": "a", "venue": "oanda", "mode": "practice", "kill_switch": kill,
            "reconciled": True}  # fmt: skip
    return executor_lines(base | more)


def test_a_position_that_the_last_reading_does_not_have_is_not_called_nothing() -> None:
    joined = {"EUR_USD": {"direction": -1, "entry_bar_ms": 0, "units": 4545.0}}
    (line,) = [one for one in said(joined=joined) if "EUR_USD" in one]
    assert "-4545 units according to the log" in line and "no open position" not in line
    held = [{"instrument": "EUR_USD", "units": -4545.0, "average_price": 1.1}]
    (line,) = [one for one in said(joined=joined, positions=held) if "EUR_USD" in one]
    assert line.startswith("  EUR_USD: -4545 units at 1.1, joined, entry bar 1970-01-01 00:00:00")


def test_a_refused_decision_is_shown_with_its_code() -> None:
    refused = {"topic": "opt.gates", "partition": 0, "offset": 7, "instrument": "EUR_USD",
               "reason": "after_clock", "detail": "a day ahead"}  # fmt: skip
    assert "refused opt.gates-0-7 EUR_USD: after_clock (a day ahead)" in said(
        refused_decisions=[refused]
    )
