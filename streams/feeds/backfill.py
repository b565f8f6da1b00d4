"""Fill the log from OANDA before a deployment trades; not needed while a feed runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from streams.candles.calendar import calendar_of
from streams.config.feeds import FeedSettings
from streams.config.oanda import Oanda
from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.feeds.oanda import OandaFeed
from streams.oanda.client import OandaClient
from streams.records.codec import Codec

LOOK_SEC: Final = 0.5
DAY_MS: Final = 86_400_000
CURRENT_BARS: Final = 3

Progress = Callable[[str, int, int | None], None]


def is_current(candles: Sequence[int | None], now_ms: int, config: Config) -> bool:
    """Return whether the log is complete except for a few bars.

    Parameters
    ----------
    candles
        ``as_of_ms`` of the last candle of each instrument.
    """
    end_ms = calendar_of(config).last_bar_end_ms(now_ms, config.granularity_ms)
    behind = end_ms - CURRENT_BARS * config.granularity_ms
    return all(at is not None and at >= behind for at in candles)


async def fill_from_oanda(
    runtime: Runtime,
    codec: Codec,
    config: Config,
    settings: FeedSettings,
    access: Oanda,
    days: int,
    progress: Progress,
) -> int:
    """Write every candle of ``HOTBAND_PAIRS`` up to now; return how many were written.

    Continues after the last candle of each instrument in the log. An instrument without candles
    begins ``days`` before the end of the last bar in market hours by OANDA's clock, so that one day
    at a weekend means the last trading day.

    Raises
    ------
    Fatal
        OANDA refuses the token or the account, or another feed has taken over.
    Recoverable
        OANDA or the brokers do not answer; a repeated call continues there.
    """
    async with OandaClient(access) as client:
        feed = OandaFeed(runtime, codec, config, settings, client, runtime.hotband_pairs)
        # the first response sets the client's OANDA time
        await client.account_summary()
        length = config.granularity_ms
        until_ms = calendar_of(config).last_bar_end_ms(client.now_ms(), length)
        state = await feed.prepare(until_ms - days * DAY_MS)
        begun = {name: pair.settled_ms for name, pair in state.pairs.items()}
        total = sum(max(0, until_ms - at) for at in begun.values()) // length

        async def show() -> None:
            while True:
                done = sum(p.settled_ms - begun[name] for name, p in state.pairs.items())
                progress("bars from OANDA", min(total, done // length), total)
                await asyncio.sleep(LOOK_SEC)

        showing = asyncio.create_task(show())
        try:
            await feed.run(until_ms, with_prices=False)
        finally:
            showing.cancel()
            await asyncio.gather(showing, return_exceptions=True)
        progress("bars from OANDA", total, total)
        return sum(pair.candles for pair in state.pairs.values())
