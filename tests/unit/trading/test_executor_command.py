"""What the commands to an executor have in common."""

from __future__ import annotations

import pytest

from streams.cli.executor_command import known_instrument, waits_for
from streams.errors import Fatal
from streams.monitoring.executor_status import ExecutorShape, ExecutorState
from streams.records.control import ControlLog, UniverseChange
from streams.records.events import Control
from streams.trading.ledger import Ledger
from tests.unit.trading.test_execution_plan import joined


def test_an_instrument_is_known_when_a_feed_declared_it_or_an_order_was_made_in_it() -> None:
    control, none = ControlLog(), Ledger("paper", "paper")
    universe = UniverseChange("replace", ("GBP_USD",), 0, None).to_json()
    control.append(0, Control("universe", None, universe, "feed", "start", 0))
    assert known_instrument(control, none, "gbp/usd") == "GBP_USD"
    with pytest.raises(Fatal, match=r"no feed has declared EUR_USD; .*known instruments: GBP_USD"):
        known_instrument(control, none, "EUR_USD")
    at, intent = joined()
    assert known_instrument(control, at.ledger, "eurusd") == intent.instrument == "EUR_USD"
    with pytest.raises(Fatal, match="known instruments: EUR_USD, GBP_USD"):
        known_instrument(control, at.ledger, "EUR_UDS")


def test_what_a_command_waits_for_is_what_the_executor_says() -> None:
    absent = ExecutorState("absent", None, "no executor answers")
    assert "of account a carries it out when it runs" in waits_for(absent, "a", "EUR_USD")
    shape = {
        "ts_ms": 0, "venue": "oanda", "account_id": "a", "mode": "practice", "read_only": False,
        "dry_run": False, "kill_switch": {"engaged": False}, "reconciled": False,
        "unreconciled": "transactions: 503", "waiting": {"EUR_USD": ["release by bob: B"]},
    }  # fmt: skip
    found = ExecutorState("running", ExecutorShape.model_validate(shape), "at work")
    said = waits_for(found, "a", "EUR_USD")
    assert said == "an executor runs; release by bob: B; transactions: 503"
    assert "is of account a; one of account b" in waits_for(found, "b", "EUR_USD")
