"""An example venue: the executor trades at a service that speaks JSON over HTTP.

    python examples/add_venue.py http://127.0.0.1:9000

The executor calls a venue through the methods of ``streams.trading.brokers.broker.Broker``;
everything else (the log of orders, guards, kill switch, reconciling) is unchanged. Two rules make
it safe: an order whose answer is lost raises ``OutcomeUnknown``, never a guess, and an order has a
client id by which it can be queried.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from decimal import Decimal

from aiohttp import ClientConnectorError, ClientError, ClientSession, ClientTimeout

from streams.config.kill_switch import KillSwitchSettings
from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.config.trading import Trading
from streams.errors import Recoverable
from streams.kafka.registry import open_codec
from streams.trading.brokers.broker import (
    Account,
    InstrumentTerms,
    OpenTrade,
    OrderResult,
    OutcomeUnknown,
    Position,
    Quote,
)
from streams.trading.brokers.transaction import Transaction
from streams.trading.executor import Executor
from streams.trading.kill_switch.reader import KillSwitchReader
from streams.trading.start import open_parts


class HttpVenue:
    """One account at the service."""

    account_id, mode = "example-1", "practice"
    price_interval_ms, settle_sec = 0, 2.0
    closes_by_trade, takes_client_ids = False, True

    def __init__(self, url: str) -> None:
        self._session = ClientSession(url, timeout=ClientTimeout(total=5))

    async def _get(self, path: str, **query: str):
        try:
            async with self._session.get(path, params=query, raise_for_status=True) as answer:
                return await answer.json()
        except (ClientError, TimeoutError) as error:
            raise Recoverable(f"the venue does not answer {path}: {error!r}") from error

    def expect_access(self) -> None: ...

    def now_ms(self) -> int:
        return int(time.time() * 1000)

    async def account(self) -> Account:
        return Account(self.account_id, **await self._get("/account"))

    async def instruments(self, names):
        return {n: InstrumentTerms(n, 5, 0, Decimal(1), Decimal(10**7), 0.02, 1e-4) for n in names}

    async def quotes(self, names):
        found = await self._get("/prices")
        return {n: Quote(n, *found[n], self.now_ms()) for n in names if n in found}

    async def home_rates(self, currencies):
        return await self._get("/rates", currencies=",".join(currencies))

    async def positions(self):
        trades = await self.trades()
        return [Position(t.instrument, t.units, t.price, 0.0, 0.0, (t.trade_id,)) for t in trades]

    async def trades(self):
        return [OpenTrade(**_typed(one)) for one in await self._get("/trades")]

    async def orders(self):
        return []  # every order is filled at once, or refused

    async def transactions(self, since_id: str):
        found = await self._get("/transactions", since=since_id)
        return [Transaction(**_typed(one)) for one in found]

    async def submit(self, request) -> OrderResult:
        order = {"client_id": request.client_id, "instrument": request.instrument}
        order |= {"units": str(request.units), "reduce_only": request.reduce_only}
        order |= {"stop_loss": request.stop_loss, "take_profit": request.take_profit}
        try:
            async with self._session.post("/orders", json=order, raise_for_status=True) as answer:
                return OrderResult(**_typed(await answer.json()))
        except ClientConnectorError as error:
            raise Recoverable(f"the order was not sent: {error}") from error
        except (ClientError, TimeoutError) as error:
            raise OutcomeUnknown(f"no answer to order {request.client_id}: {error!r}") from error

    async def lookup(self, client_id: str) -> OrderResult | None:
        found = await self._get("/orders", client_id=client_id)
        return OrderResult(**_typed(found)) if found else None

    async def set_levels(self, trade_id, stop_loss, take_profit) -> None:
        levels = {"trade_id": trade_id, "stop_loss": stop_loss, "take_profit": take_profit}
        try:
            await self._session.post("/levels", json=levels, raise_for_status=True)
        except (ClientError, TimeoutError) as error:
            raise Recoverable(f"the levels of {trade_id} were not set: {error!r}") from error

    async def bracket_ended(self, trade_id, kind) -> str:
        return ""

    async def aclose(self) -> None:
        await self._session.close()


def _typed(found: dict) -> dict:
    """Return an object of the service with tuples for lists, and exact units."""
    made = {name: tuple(v) if isinstance(v, list) else v for name, v in found.items()}
    return made | {"units": Decimal(found["units"])}


async def main(url: str) -> None:
    runtime, config, trading = Runtime.from_env(), Config.from_env(), Trading.from_env()
    codec, stopping = await open_codec(runtime), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    kill = KillSwitchReader(runtime, codec, KillSwitchSettings.from_env())
    parts = await open_parts(runtime, codec, trading, config, kill, HttpVenue(url))
    try:
        await Executor(parts).run(stopping)
    finally:
        await parts.following.aclose()
        await parts.broker.aclose()
        kill.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) == 2 else sys.exit(__doc__)))
