"""Invalid records of the order log: nothing is opened, and everything else goes on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from streams.kafka.follower import DecodedRecord
from streams.records.control import ControlLog
from streams.records.events import Control
from streams.records.log_record import InvalidRecord
from streams.records.trading_events import BrokerReport, OrderIntent
from streams.records.validation import problem_of
from streams.trading.flatten import flatten_record
from streams.trading.http import executor_health, status_of
from streams.trading.intake import Intake
from streams.trading.ledger import Ledger
from streams.trading.operator_commands import (
    command_problem,
    commands_of,
    limits_reset,
    order_log_checked,
)
from streams.trading.order_log import (
    KEPT,
    SKIPPED,
    bounded,
    last_offsets,
    offsets_of,
    why_blocked,
)
from streams.trading.start import apply_order_log
from tests.support.executor_stand import Stand
from tests.support.sample_events import SAMPLES
from tests.support.v20 import Handle, V20Server
from tests.support.v20.amounts import parse_time

HERE = InvalidRecord("exec.orders", 2, 17, "it cannot be decoded")
INTENT: Any = SAMPLES["OrderIntent"]
REPORT: Any = SAMPLES["BrokerReport"]


@pytest.fixture
def broker() -> Iterator[Handle]:
    with V20Server(hours="always") as made:
        yield made


@pytest.fixture
def stand(broker: Handle) -> Stand:
    hour_ago_ms = parse_time(broker.state()["time"]) // 1_000_000 - 3_600_000
    return Stand(broker, hour_ago_ms // 60_000 * 60_000)  # the bars begin at whole minutes


@pytest.mark.parametrize(
    "changed",
    [
        {"units": math.nan},
        {"units": math.inf},
        {"units": -1.0},
        {"granularity": "M7"},
        {"nav": math.inf},
        {"as_of_ms": 1 << 60},
        {"bar_ms": -2},
    ],
)
@pytest.mark.parametrize("record", [INTENT, REPORT])
def test_a_senseless_record_is_listed_and_not_applied(
    record: OrderIntent | BrokerReport, changed: dict[str, Any]
) -> None:
    assert problem_of(record) is None
    ledger = Ledger(INTENT.account_id, INTENT.mode)
    bad = record._replace(**changed)
    apply_order_log(
        ledger, [DecodedRecord("exec.orders", 1, n, one, "") for n, one in enumerate((bad,))]
    )
    (found,) = ledger.invalid
    assert (found.place, found.offset) == ("exec.orders-1", 0)
    assert not ledger.intents and not ledger.reports


def test_a_record_that_cannot_be_applied_is_listed() -> None:
    class Refusing(Ledger):
        def take_intent(self, intent: OrderIntent) -> None:
            raise LookupError(intent.order_id)

    ledger = Refusing(INTENT.account_id, INTENT.mode)
    apply_order_log(ledger, [DecodedRecord("exec.orders", 1, 5, INTENT, "")])
    assert [one.offset for one in ledger.invalid] == [5]


def test_an_id_is_not_used_again_that_an_invalid_record_may_have() -> None:
    ledger = Ledger("a", "paper")
    assert ledger.next_sequence("EUR_USD", 0) == 0
    ledger.invalid.append(HERE)
    assert ledger.next_sequence("EUR_USD", 0) == SKIPPED


def test_what_an_operator_has_compared_blocks_no_more_and_what_comes_later_does() -> None:
    later = HERE._replace(offset=18)
    record = order_log_checked([HERE, HERE._replace(offset=3)], "acc", "ann", "compared", 5)
    assert command_problem(record) is None
    found = commands_of([(0, record)], "acc")
    assert found.checked == {"exec.orders-2": 17} and not found.resets
    assert why_blocked([HERE], found.checked) == ""
    assert why_blocked([HERE], found.checked, "not reconciled") == "not reconciled"
    said = why_blocked([HERE, later], found.checked)
    assert "1 invalid record(s)" in said and "offset 18" in said and "limits reset" in said
    assert commands_of([(0, record)], "other").checked == {}
    drawdown = commands_of([(0, limits_reset("drawdown", "acc", "ann", "x", 5))], "acc")
    assert len(drawdown.resets) == 1 and not drawdown.checked


@pytest.mark.parametrize("text", ["", "exec.orders-1", "@5", "exec.orders-1@-5", "a@b"])
def test_a_reset_with_other_offsets_is_no_command(text: str) -> None:
    with pytest.raises(ValueError, match="offset"):
        offsets_of(text)
    value = f'{{"account_id":"acc","limit":"order_log","records":"{text}"}}'
    record = Control("limits_reset", None, value, "ann", "x", 5)
    assert command_problem(record) is not None
    assert not commands_of([(0, record)], "acc").checked


def test_offsets_are_the_last_of_each_partition() -> None:
    several = [HERE, HERE._replace(offset=4), HERE._replace(topic="exec.fills")]
    assert last_offsets(several) == "exec.fills-2@17,exec.orders-2@17"
    assert offsets_of(last_offsets(several)) == {"exec.fills-2": 17, "exec.orders-2": 17}


def test_many_invalid_records_block_and_are_confirmed_like_few() -> None:
    few = [HERE, HERE._replace(offset=4)]
    assert bounded(few) == few
    many = [HERE._replace(offset=n) for n in range(3 * KEPT)]
    other = HERE._replace(topic="exec.fills")
    kept = bounded([*many, other])
    assert kept == [many[0], *many[1 - KEPT :], other]
    assert last_offsets(kept) == last_offsets([*many, other])
    assert why_blocked(kept, offsets_of(last_offsets(kept))) == ""
    assert f"{KEPT + 1} or more" in why_blocked(kept, {}) and "offset 0 " in why_blocked(kept, {})
    assert "1 invalid record(s)" in why_blocked(kept, offsets_of(last_offsets(many)))


async def test_a_running_executor_logs_an_invalid_partition_once_and_again_after_a_confirmation(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ledger, control = Ledger("acc", "paper"), ControlLog()
    gauge, checks = MagicMock(), MagicMock(release=list)
    parts: Any = SimpleNamespace(
        ledger=ledger, control=control, checks=checks, broker=SimpleNamespace(account_id="acc"),
        metrics=SimpleNamespace(invalid=gauge),
    )  # fmt: skip
    intake = Intake(parts, MagicMock())

    async def take(first: int, last: int) -> list[str]:
        caplog.clear()
        await intake.take([HERE._replace(offset=n) for n in range(first, last)])
        return [one.getMessage() for one in caplog.records]

    (said,) = await take(0, 5)
    assert said.startswith("5 invalid record(s)") and "offset 0 " in said
    assert await take(5, 500) == [] and len(ledger.invalid) == KEPT
    assert sum(call.args[0] for call in gauge.inc.call_args_list) == 500
    control.append(0, order_log_checked(ledger.invalid, "acc", "ann", "compared", 0))
    (said,) = await take(500, 502)
    assert said.startswith("2 invalid record(s)") and "offset 500 " in said


async def test_nothing_is_opened_closings_go_on_and_an_operator_allows_opening_again(
    stand: Stand,
) -> None:
    async with stand.trading():
        await stand.opened(EUR_USD=1, GBP_USD=-1)
    stand.memory.invalid.append(HERE)
    async with stand.trading() as executor:
        await stand.until(lambda: not executor.unreconciled)
        said = status_of(executor)
        assert not said["reconciled"] and "offset 17 of exec.orders-2" in said["unreconciled"]
        assert "manifold limits reset order_log" in said["unreconciled"]
        assert executor_health(executor, executor.last_cycle_at)["healthy"], (
            "a restart changes nothing"
        )
        stand.bar(EUR_USD=0, GBP_USD=-1, USD_JPY=0)
        await stand.until(lambda: list(stand.positions()) == ["GBP_USD"])
        stand.bar(EUR_USD=0, GBP_USD=-1, USD_JPY=1)
        await stand.until(lambda: stand.ledger.unsent("USD_JPY") is not None)
        refused = stand.ledger.unsent("USD_JPY")
        assert refused is not None
        failing = [verdict for verdict in refused.guards if not verdict.passed]
        assert [verdict.guard for verdict in failing] == ["reconciled"]
        assert "invalid record" in failing[0].detail
        account = stand.broker.account_id
        record = order_log_checked(stand.ledger.invalid, account, "ann", "compared", 0)
        stand.control.append(stand.control.end, record)
        await stand.until(lambda: status_of(executor)["reconciled"])
        stand.bar(EUR_USD=0, GBP_USD=-1, USD_JPY=0)
        stand.bar(EUR_USD=0, GBP_USD=-1, USD_JPY=-1)
        await stand.until(lambda: "USD_JPY" in stand.positions())


async def test_a_trade_whose_intent_is_invalid_is_restored_from_the_broker_and_closed(
    stand: Stand,
) -> None:
    async with stand.trading():
        await stand.opened(EUR_USD=1, GBP_USD=-1)
        stand.require_exact()
    others = {"type": "MARKET", "instrument": "USD_JPY", "units": "5", "timeInForce": "FOK"}
    assert stand.broker.api("POST", "/accounts/{account}/orders", {"order": others})[0] == 201
    lost = next(
        one
        for one in stand.memory.records
        if isinstance(one, OrderIntent) and one.submitted and one.instrument == "EUR_USD"
    )
    stand.memory.records.remove(lost)
    stand.memory.invalid.append(HERE)
    now_ms = parse_time(stand.broker.state()["time"]) // 1_000_000
    flatten = flatten_record(stand.broker.account_id, "ops", "storm", now_ms)
    stand.control.append(stand.control.end, flatten)
    async with stand.trading(only_flatten=True) as executor:
        await stand.until(lambda: list(stand.positions()) == ["USD_JPY"])
        await stand.until(lambda: executor.confirmed_flat)
    restored = next(
        one
        for one in stand.memory.records
        if isinstance(one, OrderIntent) and one.order_id == lost.order_id
    )
    assert (restored.entry_bar_ms, restored.sequence) == (lost.entry_bar_ms, lost.sequence)
    assert (restored.side, restored.units) == (lost.side, lost.units)
