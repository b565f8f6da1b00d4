"""What an executor says of itself, on the test broker; its log in memory."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from streams.trading.http import status_of
from tests.support.executor_stand import Stand
from tests.support.v20 import Handle, V20Server
from tests.support.v20.amounts import parse_time


@pytest.fixture
def broker() -> Iterator[Handle]:
    with V20Server(hours="always") as made:
        yield made


@pytest.fixture
def stand(broker: Handle) -> Stand:
    return Stand(broker, parse_time(broker.state()["time"]) // 1_000_000 - 3_600_000)


async def test_a_refusal_says_when_it_was_and_not_what_has_been_switched_off_since(
    stand: Stand,
) -> None:
    def blocked() -> dict[str, list[str]]:
        found: dict[str, list[str]] = status_of(stand.executor)["blocked"]
        return found

    async with stand.trading():
        await stand.until(lambda: not stand.executor.unreconciled)
        stand.kill.why = ("engaged by ann: storm",)
        stand.command("pause", "GBP_USD", "bob", "B")
        stand.bar(EUR_USD=0, GBP_USD=0)
        stand.bar(EUR_USD=1, GBP_USD=1)
        await stand.until(lambda: blocked().keys() == {"EUR_USD", "GBP_USD"})
        (said,) = blocked()["EUR_USD"]
        when = r"refused at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC: "
        assert re.fullmatch(f"{when}kill_switch: engaged by ann: storm", said), said
        (said,) = blocked()["GBP_USD"]
        assert "kill_switch" in said and "paused by bob: B" in said
        stand.kill.why = ()
        await stand.until(lambda: "EUR_USD" not in blocked())
        (said,) = blocked()["GBP_USD"]
        assert re.fullmatch(f"{when}paused: paused by bob: B", said), said
        stand.command("resume", "GBP_USD", "bob", "over")
        await stand.until(lambda: blocked() == {})


async def test_a_release_beside_an_order_in_doubt_says_what_it_waits_for(
    stand: Stand, broker: Handle
) -> None:
    async with stand.trading():
        await stand.opened(EUR_USD=1)
        broker.fault("status", method="GET", path="/transactions/sinceid$", code=503)
        broker.fault("lost_answer", path="/close$", count=1)
        stand.command("close", "EUR_USD", "ann", "enough")
        await stand.until(lambda: stand.ledger.unresolved)
        (order,) = stand.ledger.unresolved
        stand.command("release", "EUR_USD", "bob", "B")
        await stand.until(lambda: "release" in str(status_of(stand.executor)["waiting"]))
        command, doubt = status_of(stand.executor)["waiting"]["EUR_USD"]
        assert command.startswith("release of ") and "by bob: B: not carried out yet" in command
        assert doubt == f"it waits for order {order} without an outcome"
        broker.clear_faults()
        await stand.until(lambda: not stand.ledger.holdings)
        assert status_of(stand.executor)["waiting"] == {}
