"""What an executor does about limits of accounts, on the test broker; its log in memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from streams.records.trading_events import BrokerReport
from tests.support.executor_stand import Stand
from tests.support.v20 import Handle, V20Server
from tests.support.v20.amounts import parse_time


def stand_at(broker: Handle) -> Stand:
    return Stand(broker, parse_time(broker.state()["time"]) // 1_000_000 - 3_600_000)


@pytest.fixture
def mt4() -> Iterator[Handle]:
    """A broker whose account is associated with MT4."""
    with V20Server(hours="always", mt4_account_id=7) as made:
        yield made


@pytest.mark.parametrize("restarted", [False, True])
async def test_without_client_ids_a_lost_answer_is_found_by_what_was_ordered(
    mt4: Handle, restarted: bool
) -> None:
    stand = stand_at(mt4)
    async with stand.trading():
        await stand.until(lambda: not stand.executor.unreconciled)
        mt4.fault("lost_answer", method="POST", path="/orders$", count=1, how="hang")
        stand.bar(EUR_USD=0)
        stand.bar(EUR_USD=1)
        await stand.until(stand.positions)
        down = mt4.fault("status", code=503, path="/sinceid$")
        await stand.until(lambda: stand.ledger.doubtful)
        if not restarted:
            mt4.control("DELETE", f"/faults/{down}")
            await stand.until(lambda: stand.ledger.holdings and not stand.ledger.unresolved)
    mt4.clear_faults()
    async with stand.trading():
        await stand.until(lambda: stand.ledger.holdings and not stand.ledger.unresolved)
        await stand.until(lambda: not stand.executor.unreconciled)
        assert not stand.executor.comparison.foreign
        stand.bar(EUR_USD=0)
        await stand.until(lambda: not stand.positions() and not stand.ledger.holdings)
        stand.require_exact()
    ends = [r for r in stand.memory.records if isinstance(r, BrokerReport)]
    assert [(r.status, r.cause) for r in ends if r.side == "buy"] == [("filled", "order")]


async def test_a_stop_of_a_trade_without_a_client_id_is_booked_as_ours(mt4: Handle) -> None:
    stand = stand_at(mt4)
    mt4.price("EUR_USD", "1.10000", "1.10010")
    async with stand.trading():
        await stand.opened(EUR_USD=1)
        levels = [(t.stop_loss, t.take_profit) for t in await stand.executor.parts.broker.trades()]
        assert all(stop and target for stop, target in levels)
        mt4.price("EUR_USD", "1.05000", "1.05010")
        await stand.until(lambda: not stand.positions() and not stand.ledger.holdings)
        stand.require_exact()
    causes = [r.cause for r in stand.memory.records if isinstance(r, BrokerReport)]
    assert causes == ["order", "stop_loss"]
