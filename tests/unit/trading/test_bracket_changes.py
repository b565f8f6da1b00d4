"""Whose a stop or a target is, and what is done about it."""

from __future__ import annotations

from typing import Any

import pytest

from streams.trading.bracket_changes import Level, Side, TradeBrackets, sentence, verdict
from tests.support.sample_events import SAMPLES

RUN, ASKED, HAND = 1.08635, 1.08622, 1.09
NONE = Level(None)
OURS = Side({ASKED})


def by_others(*level: float | None) -> Side:
    """Return a side that somebody else has set, by the log."""
    return Side({ASKED}, Level(*level))


@pytest.mark.parametrize(
    ("found", "wanted", "known", "removed", "due"),
    [
        pytest.param(Level(RUN), RUN, OURS, None, "keep", id="as the run has it"),
        pytest.param(Level(ASKED), RUN, OURS, None, "set", id="as the order asked for it"),
        pytest.param(Level(HAND), RUN, OURS, None, "others", id="tightened"),
        pytest.param(Level(1.07), RUN, OURS, None, "others", id="loosened"),
        pytest.param(Level(None, 0.002), RUN, OURS, None, "others", id="trailing alone"),
        pytest.param(Level(RUN, 0.002), RUN, OURS, None, "others", id="trailing beside ours"),
        pytest.param(Level(HAND), None, Side(), None, "others", id="set where the run has none"),
        pytest.param(NONE, None, Side(), None, "keep", id="none, and the run has none"),
        pytest.param(Level(ASKED), None, OURS, None, "keep", id="ours, and none wanted now"),
        pytest.param(NONE, RUN, Side(), None, "set", id="there never was one"),
        pytest.param(NONE, RUN, OURS, None, "ask", id="missing"),
        pytest.param(NONE, RUN, OURS, "CLIENT_REQUEST", "others", id="removed by hand"),
        pytest.param(NONE, RUN, OURS, "TIME_IN_FORCE_EXPIRED", "set", id="ended by the venue"),
        pytest.param(NONE, RUN, OURS, "", "set", id="it never arrived"),
        pytest.param(Level(HAND), RUN, by_others(HAND), None, "keep", id="by hand, recorded"),
        pytest.param(Level(1.095), RUN, by_others(HAND), None, "others", id="by hand once more"),
        pytest.param(Level(RUN), RUN, by_others(HAND), None, "others", id="back by hand"),
        pytest.param(NONE, RUN, by_others(HAND), None, "others", id="then removed"),
        pytest.param(NONE, RUN, by_others(None), None, "keep", id="removed, recorded"),
        pytest.param(Level(ASKED), RUN, by_others(ASKED), None, "keep", id="to what we had asked"),
    ],
)
def test_what_others_set_is_kept_and_ours_follows_the_run(
    found: Level, wanted: float | None, known: Side, removed: str | None, due: str
) -> None:
    assert verdict(found, wanted, known, removed) == due


def test_the_records_of_a_trade_say_whose_each_side_is() -> None:
    def record(**fields: Any) -> Any:
        empty = {"trailing_stop": None, "stop_by": "", "target_by": "", "take_profit": None}
        return SAMPLES["OrderIntent"]._replace(kind="brackets", **empty | fields)

    known = TradeBrackets()
    known.take(record(stop_loss=RUN, stop_by="executor"))
    assert known == TradeBrackets(Side({RUN}), Side())
    known.take(record(stop_loss=None, trailing_stop=0.002, stop_by="operator"))
    known.take(record(stop_loss=None, take_profit=1.11, target_by="executor"))
    assert known == TradeBrackets(Side({RUN}, Level(None, 0.002)), Side({1.11}))


@pytest.mark.parametrize(
    ("found", "direction", "words"),
    [
        (Level(HAND), 1, "is 1.09, tighter by hand"),
        (Level(HAND), -1, "is 1.09, looser by hand"),
        (Level(None, 0.002), 1, "trails at a distance of 0.002 by hand"),
        (Level(None), 1, "was removed by hand"),
    ],
)
def test_what_others_did_is_said(found: Level, direction: int, words: str) -> None:
    said = sentence("stop", "7", found, RUN, direction)
    assert said == f"the stop of trade 7 {words} (the run's is 1.08635): it stays so"
