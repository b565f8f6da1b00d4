"""What the loss limits compare with: observations, transfers, and the records of them."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.kafka.follower import DecodedRecord
from streams.records.control import ControlLog
from streams.records.events import Control
from streams.records.topics import FILLS
from streams.records.trading_events import AccountState
from streams.records.validation import problem_of
from streams.trading.account_states import AccountStates, change, transfers
from streams.trading.brokers.broker import Account
from streams.trading.brokers.transaction import Transaction
from streams.trading.ledger import Ledger
from streams.trading.market_day import Marks, Worth
from streams.trading.start import apply_order_log
from tests.support.execution_bench import ACCOUNT, CONFIG, T0

HOUR = 3_600_000
RETURNS = st.floats(0.8, 1.25)
STEPS = st.lists(
    st.tuples(st.integers(1, 30), RETURNS, st.none() | st.floats(0.2, 5.0)), min_size=1, max_size=30
)
"""Hours until the next observation, what trading made of the account, and what a transfer did."""


def moved(number: int, amount: float, balance: float) -> Transaction:
    return Transaction(str(number), "other", T0, amount=amount, balance=balance)


class Venue:
    """An account whose money moves as a test says."""

    mode, account_id = "paper", "paper"

    def __init__(self) -> None:
        self.at_ms, self.nav, self.booked = T0, 100_000.0, list[Transaction]()

    def now_ms(self) -> int:
        return self.at_ms

    async def transactions(self, since_id: str) -> list[Transaction]:
        return [t for t in self.booked if int(t.transaction_id) > int(since_id)]

    def transfer(self, factor: float) -> None:
        amount = self.nav * (factor - 1.0)
        self.nav += amount
        self.booked.append(moved(8 + len(self.booked), amount, self.nav))

    def account(self) -> Account:
        return ACCOUNT._replace(
            balance=self.nav, nav=self.nav, last_transaction_id=str(7 + len(self.booked))
        )


class Log:
    """The records, and the books that they are taken into."""

    def __init__(self, ledger: Ledger) -> None:
        self.cursor, self.ledger, self.records = "7", ledger, list[AccountState]()

    async def record_state(self, made: AccountState) -> None:
        self.records.append(made)
        self.ledger.take_state(made)


def keeper(venue: Venue, log: Log) -> AccountStates:
    control = ControlLog()
    control.append(0, Control("config", None, CONFIG.to_json(), "test", "test", 0))
    broker: Any = venue
    dispatch: Any = SimpleNamespace(cursor=log.cursor, record_state=log.record_state)
    return AccountStates(broker, log.ledger, dispatch, control)


def folded(records: list[AccountState]) -> Ledger:
    ledger = Ledger("paper", "paper")
    apply_order_log(ledger, [DecodedRecord(FILLS, 0, n, one, "") for n, one in enumerate(records)])
    return ledger


async def lived(steps: list[tuple[int, float, float | None]]) -> tuple[Log, Worth]:
    """Return the log of a life with transfers, and the worth of the same life without any."""
    venue, log, plain = Venue(), Log(Ledger("paper", "paper")), Worth()
    states, alone = keeper(venue, log), 100_000.0
    await states.observe(venue.account())
    plain.observe(T0, alone)
    for hours, made, factor in steps:
        venue.at_ms += hours * HOUR
        if factor is not None:
            venue.transfer(factor)
        venue.nav *= made
        alone *= made
        # the transfer is found when the market has moved on: a flat account, nothing unrealised
        if factor is not None:
            venue.booked[-1] = venue.booked[-1]._replace(balance=venue.nav / made)
        await states.observe(venue.account())
        plain.observe(venue.at_ms, alone)
    return log, plain


@given(STEPS)
async def test_transfers_change_no_loss_and_no_drawdown(
    steps: list[tuple[int, float, float | None]],
) -> None:
    log, plain = await lived(steps)
    worth, at_ms = log.ledger.worth, T0 + sum(hours for hours, *_ in steps) * HOUR
    assert worth.drawdown() == pytest.approx(plain.drawdown(), abs=1e-9)
    assert worth.daily_loss(at_ms) == pytest.approx(plain.daily_loss(at_ms), abs=1e-9)


@given(STEPS)
async def test_a_restart_has_the_very_same_marks(
    steps: list[tuple[int, float, float | None]],
) -> None:
    log, _ = await lived(steps)
    assert folded(log.records).worth.marks == log.ledger.worth.marks
    assert log.records[0].cause == "start"
    assert [r.cause for r in log.records].count("transfer") == sum(f is not None for *_, f in steps)


async def test_nothing_is_recorded_before_a_paper_account_has_a_time() -> None:
    venue, log = Venue(), Log(Ledger("paper", "paper"))
    states = keeper(venue, log)
    venue.at_ms = 271  # milliseconds since the start of the executor, and no candle yet
    await states.observe(venue.account())
    assert log.records == [] and log.ledger.worth.marks is None
    venue.at_ms = T0
    await states.observe(venue.account())
    assert [(r.cause, r.as_of_ms) for r in log.records] == [("start", T0)]


@given(STEPS, st.integers(0, 30))
async def test_a_kill_between_a_transfer_and_the_next_look_changes_nothing(
    steps: list[tuple[int, float, float | None]], at: int
) -> None:
    killed, going_on = Log(Ledger("paper", "paper")), Log(Ledger("paper", "paper"))
    venue = Venue()
    first, other = keeper(venue, killed), keeper(venue, going_on)
    for one in (first, other):
        await one.observe(venue.account())
    for number, (hours, made, factor) in enumerate(steps):
        venue.at_ms += hours * HOUR
        venue.nav *= made
        if factor is not None:
            venue.transfer(factor)
        if number == at:
            records = killed.records
            killed = Log(folded(records))
            killed.records, first = list(records), keeper(venue, killed)
        await first.observe(venue.account())
        await other.observe(venue.account())
    found = killed.ledger.worth.marks
    wanted = going_on.ledger.worth.marks
    assert found is not None and wanted is not None
    assert found.peak == pytest.approx(wanted.peak, rel=1e-12)


def test_the_worth_before_and_after_a_transfer_counts_open_positions() -> None:
    booked = [moved(8, -15_000.0, 85_000.0), Transaction("9", "fill", T0), moved(10, 5.0, 1.0)]
    ((one, before, after),) = transfers(booked, "9", -1_000.0)
    assert (one.transaction_id, before, after) == ("8", 99_000.0, 84_000.0)


def test_an_account_that_was_emptied_begins_anew() -> None:
    worth = Worth()
    worth.observe(T0, 1_000.0)
    worth.transferred(1_000.0, 0.0)
    assert worth.drawdown() is None, "nothing can be said of it, so nothing is opened"
    worth.transferred(0.0, 500.0)
    worth.observe(T0 + 1, 450.0)
    assert worth.marks == Marks(500.0, worth.marks.day_ms if worth.marks else 0, 500.0)
    assert worth.drawdown() == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("at_ms", "nav", "cause"),
    [
        (T0 + 1, 100_000.0, None),
        (T0 + 1, 99_000.0, None),
        (T0 + 1, 100_001.0, "peak"),
        (T0 + 24 * HOUR, 99_000.0, "day"),
        (T0 - 1, 200_000.0, None),
        (T0 + 1, math.nan, None),
    ],
)
def test_what_is_written_anew(at_ms: int, nav: float, cause: str | None) -> None:
    worth = Worth()
    assert change(None, worth) is None
    worth.observe(T0, 100_000.0)
    assert change(None, worth) == "start"
    before = worth.marks
    worth.observe(at_ms, nav)
    assert change(before, worth) == cause


def test_records_of_another_account_or_mode_are_not_taken() -> None:
    made = AccountState("paper", "paper", T0, "c", "start", 5.0, 5.0, 0, 5.0)
    for other in (made._replace(account_id="x"), made._replace(mode="live")):
        assert folded([other]).worth.marks is None
    assert folded([made]).worth.peak == 5.0


async def test_a_transfer_is_logged_with_its_amount_and_the_new_nav(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", logger="manifold.executor")
    venue, log = Venue(), Log(Ledger("paper", "paper"))
    states = keeper(venue, log)
    await states.observe(venue.account())
    venue.transfer(0.75)
    await states.observe(venue.account())
    (line,) = [one for one in caplog.messages if "transfer" in one]
    assert "transfer of -25000.00 " in line and "NAV 100000.00 before, 75000.00 after" in line


async def test_nothing_is_recorded_before_the_first_candle_of_a_paper_account() -> None:
    venue, log = Venue(), Log(Ledger("paper", "paper"))
    states = keeper(venue, log)
    venue.at_ms = 158
    await states.observe(venue.account())
    assert log.records == [] and log.ledger.worth.marks is None
    venue.at_ms = T0
    await states.observe(venue.account())
    assert [record.cause for record in log.records] == ["start"]
    assert problem_of(log.records[0]) is None
    assert problem_of(log.records[0]._replace(as_of_ms=158)) is None, "as versions before wrote"
