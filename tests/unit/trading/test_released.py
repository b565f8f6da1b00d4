"""What an operator has released: the commands that close name it while it is open."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from streams.cli.executor_command import ExecutorAccount, say_released
from streams.config.runtime import Runtime
from tests.support.executor_stand import OANDA, TRADING, Stand
from tests.support.v20 import Handle, V20Server
from tests.support.v20.amounts import parse_time


@pytest.fixture
def broker() -> Iterator[Handle]:
    with V20Server(hours="always") as made:
        yield made


async def test_what_was_released_is_named_while_it_is_open(
    broker: Handle,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", logger="manifold.executor")
    for name, value in (broker.environment() | OANDA).items():
        monkeypatch.setenv(name, value)
    codec: Any = None
    here = ExecutorAccount(Runtime.from_env({}), codec, broker.account_id, "practice", TRADING)
    stand = Stand(broker, parse_time(broker.state()["time"]) // 1_000_000 - 3_600_000)

    async def said(instrument: str = "") -> list[str]:
        ledger = stand.memory.ledger(broker.account_id)
        await asyncio.to_thread(say_released, here, ledger, instrument)
        return capsys.readouterr().out.splitlines()

    async with stand.trading():
        await stand.opened(EUR_USD=1, GBP_USD=-1)
        assert await said() == [], "nothing was released"
        ((trade, units),) = stand.ledger.holdings["EUR_USD"].trades.items()
        stand.command("release", "EUR_USD", "bob", "B")
        await stand.until(lambda: list(stand.ledger.holdings) == ["GBP_USD"])
        stand.flatten()
        await stand.until(lambda: list(stand.positions()) == ["EUR_USD"])
    closing = [one for one in caplog.messages if one.startswith("GBP_USD: closing ")]
    assert closing and all(one.endswith(" units: flatten by ops: storm") for one in closing)
    line = f"{units:f} units of EUR_USD are open and were released by bob: B; they are not closed"
    assert await said() == [line] and await said("EUR_USD") == [line]
    assert await said("GBP_USD") == []
    down = broker.fault("status", method="GET", path="/openTrades$", code=503)
    (unread,) = await said()
    assert unread.startswith(
        f"released, and possibly still open: trade {trade} of EUR_USD; the broker"
    )
    broker.control("DELETE", f"/faults/{down}")
    assert broker.api("PUT", f"/accounts/{{account}}/trades/{trade}/close", {})[0] == 200
    assert await said() == [], "its operator has closed it"
