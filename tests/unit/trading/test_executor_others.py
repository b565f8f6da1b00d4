"""What somebody else does in the account beside the executor (``tests.support.histories``)."""

from __future__ import annotations

import json

import pytest

from tests.support.histories import Bar, HandOpen, History, Wait
from tests.support.history_checks import Seen
from tests.support.history_run import run

BEFORE_THE_BAR = Wait(59.9)
"""The executor has read the account since, and reads it again after the bar."""


def opened(seen: Seen) -> dict[str, str]:
    """Return what others hold at the end: trade -> units."""
    trades = [t["tradeOpened"] for t in seen.account["transactions"] if t.get("tradeOpened")]
    theirs = [t for t in trades if "clientExtensions" not in t]
    return {t["tradeID"]: t["units"] for t in theirs if t["tradeID"] in seen.account["openTrades"]}


@pytest.mark.parametrize("units", [-9000, 9000])
def test_an_opening_does_not_close_a_trade_of_others_that_nobody_has_seen_yet(units: int) -> None:
    seen = run([BEFORE_THE_BAR, HandOpen("USD_JPY", units), Bar((None, None, 1), pct=0.02)])
    (order,) = [json.loads(r["body"])["order"] for r in seen.ours if r["path"].endswith("/orders")][
        :1
    ]
    assert order["positionFill"] == "OPEN_ONLY"
    assert list(opened(seen).values()) == [str(units)]


@pytest.mark.parametrize("way", [1, -1])
def test_what_an_order_of_others_opens_while_it_closes_ours_is_theirs(way: int) -> None:
    history: History = [
        Bar((None, None, way), pct=0.02),
        Wait(5.0),
        HandOpen("USD_JPY", -9000 * way),
        Bar((None, None, 0)),
        Bar((None, None, -way), pct=0.05),
        Wait(90.0),
    ]
    seen = run(history)
    assert list(opened(seen).values()) == [str(-8000 * way)], "what the netting left"
    assert [i.kind for i in seen.sent.values()] == ["open"], "nothing beside a trade of others"
