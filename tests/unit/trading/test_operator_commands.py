"""Commands about single instruments: which count, and what the plans make of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from streams.records.control import ControlLog
from streams.records.events import Control
from streams.trading.account_states import AccountStates
from streams.trading.closing_plan import VenueState
from streams.trading.closing_plan import closings as planned_closings
from streams.trading.ledger import Ledger
from streams.trading.operator_commands import (
    NO_COMMANDS,
    Given,
    InstrumentCommand,
    command_problem,
    commands_of,
    instrument_command,
    limits_reset,
)
from streams.trading.plan import openings, resizings
from streams.trading.planning_state import Flatten
from streams.trading.reconcile import compare_positions
from streams.trading.releasing import releasable
from streams.trading.reports import Told, release_report
from tests.support.execution_bench import CONFIG, MINUTE, PAIR, T0, desk, venue
from tests.unit.trading.test_account_states import Log as AccountLog
from tests.unit.trading.test_account_states import Venue as AccountVenue
from tests.unit.trading.test_account_states import folded
from tests.unit.trading.test_closing_plan import bench, opened
from tests.unit.trading.test_execution_plan import ENTERED, SELECTED, closings, filled, joined

OFFSET = 5
"""The end of ops.control that every order of these tests was made under."""


def said(
    kind: InstrumentCommand, instrument: str = PAIR, account: str = "paper", actor: str = "ann"
) -> Control:
    """Return a command."""
    return instrument_command(kind, instrument, account, actor, "why not", T0)


def test_of_each_kind_the_last_command_of_the_account_counts() -> None:
    records = [
        (1, said("pause")), (2, said("pause", actor="bob")), (3, said("pause", "GBP_USD")),
        (4, said("resume", "GBP_USD")), (5, said("close")), (6, said("close", actor="bob")),
        (7, said("release", account="other")), (8, limits_reset("drawdown", "paper", "a", "b", T0)),
        (9, said("close", account="other")), (10, said("pause")._replace(value="{}")),
    ]  # fmt: skip
    found = commands_of(records, "paper")
    assert found.paused == {PAIR: Given(1, "ann", "why not", T0)}, "since when it was paused first"
    assert found.closed == {PAIR: Given(6, "bob", "why not", T0)}
    assert (found.released, found.resets, found.last_close) == ({}, (Given(8, "a", "b", T0),), 6)
    assert commands_of([*records, (11, said("resume"))], "paper").paused == {}


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (said("pause")._replace(instrument=None), "names no instrument"),
        (said("close")._replace(value="no"), "not JSON"),
        (said("close")._replace(value='{"account_id":""}'), "needs account_id"),
        (said("close")._replace(value='{"account_id":"a","limit":"drawdown"}'), "nothing else"),
        (
            limits_reset("drawdown", "a", "b", "c", 0)._replace(
                value='{"account_id":"a","limit":"all"}'
            ),
            "no limit is called 'all'",
        ),
    ],
)
def test_a_command_that_is_not_as_it_should_be_is_left_out(record: Control, words: str) -> None:
    assert words in (command_problem(record) or "")
    assert commands_of([(0, record)], "a") == NO_COMMANDS


def test_a_pause_holds_back_openings_and_increases_and_no_reduction() -> None:
    paused = NO_COMMANDS._replace(paused={PAIR: Given(7, "ann", "storm", T0)})
    (held_back,) = openings(desk(*ENTERED, epochs=SELECTED, commands=paused), venue(1))
    failing = [v for v in held_back.guards if not v.passed]
    assert [(v.guard, v.detail) for v in failing] == [("paused", "paused by ann: storm")]
    at, _ = joined()
    (increase,) = resizings(at._replace(commands=paused), venue(2))
    assert (increase.kind, increase.submitted) == ("increase", False)
    lower = venue(2, rates={"EUR": 11.0005, "USD": 1.0})
    (reduction,) = resizings(at._replace(commands=paused), lower)
    assert (reduction.kind, reduction.submitted) == ("reduce", True)


@pytest.mark.parametrize(("offset", "due"), [(OFFSET, 1), (OFFSET - 1, 0)])
def test_close_closes_what_was_opened_before_it(offset: int, due: int) -> None:
    at, _ = joined()
    given = NO_COMMANDS._replace(closed={PAIR: Given(offset, "ann", "enough", T0)})
    found = closings(at._replace(commands=given))
    assert [i.reason for i in found] == ["close by ann: enough"] * due
    other = NO_COMMANDS._replace(closed={"GBP_USD": Given(offset, "ann", "enough", T0)})
    assert closings(at._replace(commands=other)) == []


def test_what_was_released_is_neither_closed_nor_resized_nor_ours() -> None:
    at, intent = joined()
    given = Given(OFFSET, "ann", "mine", T0)
    at = at._replace(commands=NO_COMMANDS._replace(released={PAIR: given}))
    assert closings(at._replace(flatten=Flatten(OFFSET + 1, "ops", "storm"))) == []
    assert resizings(at, venue(2)) == []
    ((held, by),) = releasable(at)
    assert by == given
    (trade,) = held.trade_ids
    told = Told(T0 + 3 * MINUTE, 0, 100_000.0)
    report = release_report(intent, held, told, "release by ann: mine")
    assert (report.side, report.units, report.cause) == ("sell", 2272.0, "released")
    at.ledger.take_report(report)
    assert at.ledger.holdings == {} and at.ledger.ended == {} and not at.ledger.closed_ahead
    assert not at.ledger.is_ours(trade, intent.order_id)
    there = opened(trade, 2272, intent.order_id)
    found = compare_positions(at.ledger, [there], [])
    assert found.corrections == () and "was released" in found.foreign[PAIR]
    # nor is it closed for a lost answer
    blind = VenueState(by_trade=True, trades=(there,), books_stale=True)
    assert planned_closings(at._replace(flatten=Flatten(9, "ops", "storm")), blind) == []


def test_a_position_with_an_order_in_doubt_is_released_after_it() -> None:
    at, intent = joined()
    given = NO_COMMANDS._replace(released={PAIR: Given(OFFSET, "ann", "mine", T0)})
    at = at._replace(commands=given)
    increase = intent._replace(order_id="m9", kind="increase", sequence=1)
    at.ledger.take_intent(increase)
    assert releasable(at) == []
    at.ledger.take_report(filled(increase, transaction_id="9", trade_ids=("t2",)))
    ((held, _),) = releasable(at)
    assert held.trade_ids == ["t1", "t2"]


def test_what_is_opened_after_a_release_is_ours() -> None:
    at, _ = bench(("41", 300))
    assert releasable(at._replace(commands=NO_COMMANDS._replace(
        released={PAIR: Given(OFFSET - 1, "ann", "mine", T0)}))) == []  # fmt: skip


async def test_a_reset_of_the_drawdown_counts_from_the_nav_then_and_after_a_restart_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", logger="manifold.executor")
    control, venue_, log = ControlLog(), AccountVenue(), AccountLog(Ledger("paper", "paper"))
    control.append(0, Control("config", None, CONFIG.to_json(), "test", "test", 0))

    def states() -> AccountStates:
        broker: Any = venue_
        dispatch: Any = SimpleNamespace(cursor="7", record_state=log.record_state)
        return AccountStates(broker, log.ledger, dispatch, control)

    async def look(at: AccountStates, nav: float) -> float | None:
        venue_.at_ms, venue_.nav = venue_.at_ms + MINUTE, nav
        await at.observe(venue_.account())
        return log.ledger.worth.drawdown()

    first = states()
    assert await look(first, 100_000.0) == 0.0
    assert await look(first, 85_000.0) == pytest.approx(0.15)
    control.append(1, limits_reset("drawdown", "other", "ann", "why", T0))
    assert await look(first, 85_000.0) == pytest.approx(0.15)
    control.append(2, limits_reset("drawdown", "paper", "ann", "why", T0))
    assert await look(first, 84_000.0) == 0.0
    (line,) = [one for one in caplog.messages if "reset" in one]
    assert line.startswith("drawdown reset by ann: why: measured from NAV 84000.00 ")
    assert await look(first, 63_000.0) == pytest.approx(0.25)
    assert [r.cause for r in log.records] == ["start", "reset"]
    # a restart begins with what was recorded, and obeys no command a second time
    records, log = log.records, AccountLog(folded(log.records))
    assert log.ledger.worth.peak == 84_000.0
    assert await look(states(), 63_000.0) == pytest.approx(0.25)
    # one that was given while nobody ran is obeyed by the next
    control.append(3, limits_reset("drawdown", "paper", "ann", "again", T0))
    log = AccountLog(folded(records))
    assert await look(states(), 60_000.0) == 0.0
