"""An executor while the brokers do not say what the stages have committed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from streams.trading.http import executor_health, status_of
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


async def test_a_decision_closes_without_an_answer_and_opens_with_one(stand: Stand) -> None:
    stand.stages.reached = 3
    async with stand.trading() as executor:
        await stand.opened(EUR_USD=1)
        stand.stages.away = True
        stand.bar(EUR_USD=1, GBP_USD=0)
        stand.bar(EUR_USD=0, GBP_USD=1)
        await stand.until(lambda: not stand.ledger.holdings and not stand.ledger.unresolved)
        await stand.until(lambda: not executor.unreconciled)
        said = status_of(executor)
        assert not said["reconciled"] and "no broker answers" in said["unreconciled"]
        assert not said["refused_decisions"] and stand.positions() == {}
        assert any("cannot be checked" in one for one in executor_health(executor, 0.0)["stuck"])
        stand.stages.away, stand.stages.reached = False, 1 << 40
        await stand.until(lambda: list(stand.ledger.holdings) == ["GBP_USD"])
        assert status_of(executor)["reconciled"]
        closing = next(i for i in stand.ledger.intents.values() if i.kind == "close")
        assert "could not be checked" in closing.reason
    stand.require_exact()
