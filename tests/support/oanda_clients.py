"""Clients of the test broker, and what they send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

from streams.config.oanda import Oanda
from streams.oanda.client import MarketOrder, OandaClient
from tests.support.v20 import Handle


def settings(broker: Handle, **more: str) -> Oanda:
    quick = {"OANDA_HTTP_BACKOFF": "1", "OANDA_HTTP_TIMEOUT_SEC": "2"}
    return Oanda.from_env(broker.environment() | quick | more)


class Naps:
    """Sleeps that take no time, and are remembered."""

    def __init__(self) -> None:
        self.taken: list[float] = []

    async def __call__(self, seconds: float) -> None:
        if seconds > 0:
            self.taken.append(seconds)
        await asyncio.sleep(0)


@asynccontextmanager
async def client(broker: Handle, **more: str) -> AsyncIterator[tuple[OandaClient, Naps]]:
    naps = Naps()
    async with OandaClient(settings(broker, **more), naps) as made:
        yield made, naps


def order(
    client_id: str = "o-1", units: int = 1000, instrument: str = "EUR_USD", **more: Any
) -> MarketOrder:
    given = {"reduce_only": False, "stop_loss": None, "take_profit": None} | more
    return MarketOrder(client_id, instrument, Decimal(units), **given)
