"""What an executor closes, and how, on the test broker; its log in memory."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator

import pytest

from tests.support.executor_stand import Stand
from tests.support.v20 import Handle, V20Server
from tests.support.v20.amounts import parse_time

READS = {
    "trades": r"/openTrades$",
    "positions": r"/openPositions$",
    "orders": r"/pendingOrders$",
    "summary": r"/summary$",
    "transactions": r"/transactions/sinceid$",
    "pricing": r"/pricing$",
    "instruments": r"/instruments$",
}
CASES = [(name,) for name in READS] + list(itertools.combinations(READS, 2)) + [tuple(READS)]

SOME = [("trades",), ("transactions",), ("trades", "transactions"), tuple(READS)]


@pytest.fixture
def broker() -> Iterator[Handle]:
    with V20Server(hours="always") as made:
        yield made


@pytest.fixture
def stand(broker: Handle) -> Stand:
    return Stand(broker, parse_time(broker.state()["time"]) // 1_000_000 - 3_600_000)


def others(broker: Handle, name: str = "EUR_USD", units: int = 777) -> None:
    order = {"type": "MARKET", "instrument": name, "units": str(units), "timeInForce": "FOK"}
    assert broker.api("POST", "/accounts/{account}/orders", {"order": order})[0] == 201


def down(broker: Handle, names: tuple[str, ...], kind: str = "status") -> None:
    for name in names:
        more = {"code": 503} if kind == "status" else {}
        broker.fault(kind, method="GET", path=READS[name], **more)


@pytest.mark.parametrize(
    ("names", "kind"),
    [(names, "status") for names in CASES] + [(names, "hang") for names in SOME],
    ids=lambda v: v if isinstance(v, str) else "+".join(v),
)
async def test_everything_of_ours_is_closed_whatever_cannot_be_read(
    stand: Stand, broker: Handle, names: tuple[str, ...], kind: str
) -> None:
    async with stand.trading():
        await stand.opened(EUR_USD=1, GBP_USD=-1)
    others(broker)
    down(broker, names, kind)
    async with stand.trading(only_flatten=True) as executor:
        stand.flatten()
        await stand.until(lambda: stand.positions() == {"EUR_USD": "777"})
        if names == tuple(READS):
            await stand.until(lambda: executor.reconciler.reading.unread)
            assert not executor.confirmed_flat, "nobody has shown it"
            broker.clear_faults()
        await stand.until(lambda: executor.confirmed_flat)
    assert not stand.ledger.holdings and not stand.ledger.unresolved


async def test_an_order_whose_answer_was_lost_is_closed_by_its_client_id(
    stand: Stand, broker: Handle
) -> None:
    async with stand.trading():
        await stand.until(lambda: not stand.executor.unreconciled)
        broker.fault("lost_answer", method="POST", path="/orders$", count=1)
        down(broker, ("transactions", "trades"))
        stand.bar(EUR_USD=0)
        stand.bar(EUR_USD=1)
        await stand.until(lambda: stand.ledger.unresolved and stand.positions())
    async with stand.trading(only_flatten=True):
        stand.flatten()
        await stand.until(lambda: stand.positions() == {})
        broker.clear_faults()
        await stand.until(lambda: stand.executor.confirmed_flat)
        stand.require_exact()


@pytest.mark.parametrize("down_too", [(), ("transactions",)], ids="+".join)
async def test_a_closing_whose_answer_was_lost_closes_nothing_twice(
    stand: Stand, broker: Handle, down_too: tuple[str, ...]
) -> None:
    async with stand.trading():
        await stand.opened(EUR_USD=1)
        others(broker)
        broker.fault("lost_answer", path="/close$", count=1)
        down(broker, down_too)
        stand.bar(EUR_USD=0)
        await stand.until(lambda: stand.positions() == {"EUR_USD": "777"})
        await asyncio.sleep(0)
        broker.clear_faults()
        await stand.until(lambda: not stand.ledger.holdings and not stand.ledger.unresolved)
        await stand.until(lambda: not stand.executor.unreconciled)
    assert stand.positions() == {"EUR_USD": "777"}
    assert not stand.ledger.closed_ahead


async def test_one_that_hangs_does_not_hold_back_the_other(stand: Stand, broker: Handle) -> None:
    async with stand.trading(OANDA_HTTP_TIMEOUT_SEC="60"):
        await stand.opened(EUR_USD=1, GBP_USD=1)
        broker.fault("hang", path="/close$", count=1)
        stand.bar(EUR_USD=0, GBP_USD=0)
        await stand.until(lambda: len(stand.positions()) == 1)
    broker.clear_faults()
    async with stand.trading():
        await stand.until(lambda: not stand.positions() and not stand.ledger.holdings)
        await stand.until(lambda: not stand.executor.unreconciled)
        await stand.until(lambda: not stand.ledger.unresolved and not stand.ledger.closed_ahead)
        stand.require_exact()


async def test_a_halt_is_said_waited_out_and_ends(stand: Stand, broker: Handle) -> None:
    async with stand.trading() as executor:
        await stand.opened(EUR_USD=1, GBP_USD=1)
        broker.halt("EUR_USD")
        stand.bar(EUR_USD=0, GBP_USD=0)
        await stand.until(lambda: executor.closer.cannot_close)
        assert executor.closer.cannot_close["EUR_USD"].startswith("MARKET_HALTED (tried")
        await stand.until(lambda: list(stand.positions()) == ["EUR_USD"])
        await stand.until(lambda: executor.closer.pauses.halted == ["EUR_USD"])
        broker.halt("EUR_USD", halted=False)
        await stand.until(lambda: not stand.positions() and not executor.closer.cannot_close)
        await stand.until(lambda: not executor.unreconciled)
        stand.require_exact()


async def test_a_delisted_instrument_is_named_and_closed_and_the_others_go_on(
    stand: Stand, broker: Handle
) -> None:
    async with stand.trading():
        await stand.opened(EUR_USD=1)
    broker.delist("EUR_USD", "BTC_USD")
    async with stand.trading() as executor:
        await stand.until(lambda: not executor.unreconciled)
        stand.bar(EUR_USD=1, GBP_USD=0, BTC_USD=0)
        stand.bar(EUR_USD=1, GBP_USD=1, BTC_USD=1)
        await stand.until(lambda: "GBP_USD" in stand.ledger.holdings)
        await stand.until(lambda: {"EUR_USD", "BTC_USD"} == set(executor.untraded))
        stand.bar(EUR_USD=0, GBP_USD=1, BTC_USD=1)
        await stand.until(lambda: list(stand.positions()) == ["GBP_USD"])
        stand.flatten()
        await stand.until(lambda: not stand.positions() and not stand.ledger.holdings)
        await stand.until(lambda: not executor.unreconciled)
        stand.require_exact()


async def test_fifo_closes_by_the_side_of_the_position(stand: Stand, broker: Handle) -> None:
    async with stand.trading():
        await stand.opened(EUR_USD=1)
        broker.fault("cancel_order", path="/trades/.*/close$", reason="FIFO_VIOLATION")
        stand.bar(EUR_USD=0)
        await stand.until(lambda: not stand.positions() and not stand.ledger.holdings)
    paths = [r["path"].rsplit("/v3/accounts/", 1)[1] for r in broker.requests("/close")]
    assert [p.split("/")[1] for p in paths] == ["trades", "positions"]


async def test_fifo_beside_others_closes_nothing_and_says_so(stand: Stand, broker: Handle) -> None:
    others(broker)
    async with stand.trading() as executor:
        await stand.until(lambda: not executor.unreconciled)
    async with stand.trading() as executor:
        await stand.opened(GBP_USD=1)
        others(broker, "GBP_USD")
        await stand.until(lambda: "GBP_USD" in executor.comparison.foreign)
        broker.fault("cancel_order", path="/trades/.*/close$", reason="FIFO_VIOLATION")
        stand.bar(GBP_USD=0)
        await stand.until(lambda: executor.closer.cannot_close)
        assert executor.closer.cannot_close["GBP_USD"].startswith("FIFO_VIOLATION")
        before = broker.account()["positions"]
        assert int(before["GBP_USD"]) > 777
        assert not [r for r in broker.requests("/close") if "/positions/" in r["path"]]
