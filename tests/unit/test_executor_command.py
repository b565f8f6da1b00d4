"""What the commands to an executor have in common."""

from __future__ import annotations

import pytest

from streams.cli.executor_command import known_instrument
from streams.control import ControlLog, UniverseChange
from streams.errors import Fatal
from streams.events import Control
from streams.execution.ledger import Ledger
from tests.unit.test_execution_plan import joined


def test_an_instrument_is_known_when_a_feed_declared_it_or_an_order_was_made_in_it() -> None:
    control, none = ControlLog(), Ledger("paper", "paper")
    universe = UniverseChange("replace", ("GBP_USD",), 0, None).to_json()
    control.append(0, Control("universe", None, universe, "feed", "start", 0))
    assert known_instrument(control, none, "gbp/usd") == "GBP_USD"
    with pytest.raises(Fatal, match=r"no feed has declared EUR_USD; .*known: GBP_USD"):
        known_instrument(control, none, "EUR_USD")
    at, intent = joined()
    assert known_instrument(control, at.ledger, "eurusd") == intent.instrument == "EUR_USD"
    with pytest.raises(Fatal, match="known: EUR_USD, GBP_USD"):
        known_instrument(control, at.ledger, "EUR_UDS")
