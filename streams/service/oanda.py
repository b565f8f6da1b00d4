"""OANDA for the service: account data as OANDA answers, and candles missing in the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from streams.config.feeds import FeedSettings
from streams.config.oanda import Oanda
from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.errors import Fatal, Recoverable
from streams.feeds.backfill import fill_from_oanda
from streams.kafka.registry import open_codec
from streams.monitoring.http_probe import feed_runs
from streams.oanda.client import OandaClient
from streams.oanda.errors import RequestRefused
from streams.oanda.shapes import Price

FETCH_WITHIN_S = 120.0
T = TypeVar("T")


class OandaDoor:
    """One OANDA client of the service, if a token and an account are configured.

    Parameters
    ----------
    settings
        URL, token and account.
    feed_metrics_url
        URL of the metrics of an OANDA feed; empty without one.

    Attributes
    ----------
    connected
        Whether the last request was answered; None before the first.
    """

    def __init__(self, settings: Oanda, feed_metrics_url: str = "") -> None:
        self.settings, self._feed_url = settings, feed_metrics_url
        self.connected: bool | None = None
        self._client: OandaClient | None = None
        self._fetching = asyncio.Lock()

    @property
    def configured(self) -> bool:
        """Whether OANDA_API_KEY and OANDA_ACCOUNT_ID are set."""
        return bool(self.settings.oanda_api_key and self.settings.oanda_account_id)

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()

    async def raw(self, endpoint: str, query: Sequence[tuple[str, str]] = ()) -> Mapping[str, Any]:
        """Return OANDA's answer unchanged; raises as the client."""
        return await self._asked(lambda client: client.raw(endpoint, query))

    async def prices(self, instruments: Sequence[str]) -> tuple[Price, ...]:
        """Return the newest prices; raises as the client."""
        found = await self._asked(lambda client: client.prices(instruments))
        return found.prices

    async def _asked(self, ask: Callable[[OandaClient], Awaitable[T]]) -> T:
        client = await self._opened()
        try:
            found = await ask(client)
        except RequestRefused:
            self.connected = True  # it has answered
            raise
        except (Recoverable, Fatal):
            self.connected = False
            raise
        self.connected = True
        return found

    async def feed_seen(self) -> bool | None:
        """Return whether a feed answers at FEED_METRICS_URL; None if that is not set."""
        return await feed_runs(self._feed_url) if self._feed_url else None

    @asynccontextmanager
    async def fetching(self) -> AsyncIterator[None]:
        """Context in which only this caller fetches.

        Raises
        ------
        Recoverable
            Another fetch is running.
        """
        if self._fetching.locked():
            raise Recoverable("candles are being fetched already; retry when that is done")
        async with self._fetching:
            yield

    async def fetch(self, runtime: Runtime, config: Config, days: int) -> int:
        """Write the missing candles of all HOTBAND_PAIRS up to now; return their number.

        To be called in ``fetching``. Like every feed it fences a feed that runs elsewhere.

        Parameters
        ----------
        days
            Days of history for an instrument without candles in the log.

        Raises
        ------
        Fatal, Recoverable
            As the feed; also Recoverable when it takes too long.
        """
        codec = await open_codec(runtime)
        settings = FeedSettings.from_env()
        try:
            async with asyncio.timeout(FETCH_WITHIN_S):
                return await fill_from_oanda(
                    runtime, codec, config, settings, self.settings, days, _unseen
                )
        except TimeoutError:
            raise Recoverable(
                f"not all candles arrived within {FETCH_WITHIN_S:.0f} s; the others are in the "
                "log: retry, or run manifold warmup --steps backfill"
            ) from None

    async def _opened(self) -> OandaClient:
        if self._client is None:
            client = OandaClient(self.settings)
            await client.__aenter__()
            self._client = client
        return self._client


def _unseen(what: str, done: int, total: int | None) -> None:
    """A progress callback that does nothing."""
