"""The OANDA feed: writes every complete candle to the log, once, soon after its bar's end.

Each instrument is polled separately (``oanda_instrument`` decides when, and evaluates the
response); one writer writes the settled bars to the log, one transaction after the other. An
instrument whose request fails gets no watermark; the others continue.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from streams.candles.calendar import calendar_of
from streams.config.feeds import FeedSettings
from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.errors import Fatal, Recoverable
from streams.feeds.live import take_over
from streams.feeds.oanda_instrument import (
    InstrumentFeed,
    Settled,
    horizon_ms,
    not_waited_for,
    take_ended_bars,
)
from streams.feeds.oanda_resume import resumes
from streams.feeds.oanda_state import FeedState, feed_progress
from streams.feeds.plan import Fact, FeedPlan
from streams.feeds.writer import CONTROL_EVERY_S, FactWriter
from streams.instants import clock
from streams.kafka.control_topic import read_control, refuse_continuous_market
from streams.oanda.client import LONGEST_PAGE, OandaClient
from streams.oanda.errors import RequestRefused
from streams.oanda.limits import pause_s
from streams.oanda.shapes import Price
from streams.oanda.stream import price_stream
from streams.process.first_job import until_first
from streams.process.pausing import pause
from streams.records.codec import Codec
from streams.records.config_following import FollowedConfig

ACTOR = "manifold feed oanda"
WAIT_S = 5.0
"""Time to wait for an instrument that is behind, seconds; at most EPOCH_MAX_WAIT_SEC."""
MAX_BUFFERED_BARS = 2 * LONGEST_PAGE
TRANSACTION_FACTS = 2_000
FAILURES_TO_GIVE_UP = 3
MAX_PAUSE_S = 10.0
"""Maximum pause between requests after a long outage, seconds."""
SKEW_SHOWN_MS = 2_000
STEP_S = 1.0

_NOTICES = {
    "revised": "was revised by OANDA; it goes into the log as it is now",
    "late": "was given late by OANDA; it goes into the log as it is now",
    "refused": "is no candle to the stages ({}); the log gets it, and dead.letters",
}

logger = logging.getLogger(__name__)


class OandaFeed:
    """One run of the feed.

    Parameters
    ----------
    runtime, codec, config, settings
        The deployment; the settings of this environment and of the feed.
    client
        An open client.
    instruments
        The instruments.

    Attributes
    ----------
    config
        The configuration at ``prepare``: the active one.
    followed
        The configuration active now, and where the settings of this environment differ.
    """

    def __init__(
        self,
        runtime: Runtime,
        codec: Codec,
        config: Config,
        settings: FeedSettings,
        client: OandaClient,
        instruments: Sequence[str],
    ) -> None:
        self._runtime, self._codec, self._here = runtime, codec, config
        self.config, self.followed = config, FollowedConfig(config)
        self._settings, self._client = settings, client
        self._names = sorted(set(instruments))
        self._writer: FactWriter | None = None
        self._plans: dict[str, FeedPlan] = {}
        self._more = asyncio.Event()
        self._stop = asyncio.Event()
        self._until_ms: int | None = None
        self._looked_at = 0.0
        self._began_ms = -1
        self._skew_shown = False
        self.state: FeedState

    def stop(self) -> None:
        """Stop: write the settled bars, then return from ``run``."""
        self._stop.set()
        self._more.set()

    async def prepare(self, from_ms: int | None) -> FeedState:
        """Take over the log: fence another feed, find the resume points, declare the instruments.

        Parameters
        ----------
        from_ms
            First bar of instruments without candles in the log; None for the last CANDLE_COUNT
            bars.

        Raises
        ------
        Fatal
            OANDA does not have an instrument or refuses the login, or the log cannot be used or
            belongs to a synthetic market.
        Recoverable
            OANDA or the broker does not answer.
        """
        try:
            known = await self._client.instruments()
        except RequestRefused as error:
            account = self._client.settings.oanda_account_id
            raise Fatal(f"{error}; check OANDA_ACCOUNT_ID={account} and OANDA_BASE_URL") from None
        missing = [name for name in self._names if name not in known]
        if missing:
            raise Fatal(
                f"HOTBAND_PAIRS (--pairs) names {', '.join(missing)}, which the account "
                f"{self._client.settings.oanda_account_id} cannot trade; remove them"
            )
        control = await asyncio.to_thread(read_control, self._runtime, self._codec)
        refuse_continuous_market("the OANDA feed", self._here, control)
        self._show_skew()
        feeds = await asyncio.to_thread(self._take_over, from_ms)
        self.state = FeedState(
            self._client,
            feeds,
            feed_progress(feeds, self.config.granularity_ms),
            price_stream(self._client, self._names),
            self.followed,
        )
        return self.state

    async def run(self, until_ms: int | None, *, with_prices: bool = True) -> None:
        """Follow OANDA until ``stop``, or until every bar that ends up to ``until_ms`` is written.

        Raises
        ------
        Fatal
            OANDA refuses the login, or another feed has taken over.
        Recoverable
            The log cannot be written, or (with ``until_ms``) an instrument is not complete.
        """
        self._until_ms, self._began_ms = until_ms, self._client.now_ms()
        tasks = [self._start(feed) for feed in self.state.feeds.values()]
        jobs: list[Coroutine[Any, Any, None]] = [self._write_on(tasks)]
        if with_prices:
            jobs.append(self._prices())
        await until_first(jobs, tasks)
        await self._finish()
        missing = {
            name: feed.trouble
            for name, feed in self.state.feeds.items()
            if until_ms is not None and not self._stop.is_set() and not self._done(feed)
        }
        if missing:
            why = "; ".join(f"{name}: {trouble}" for name, trouble in missing.items())
            raise Recoverable(
                f"not all candles could be read ({why}); the same command again continues there"
            )

    def _take_over(self, from_ms: int | None) -> dict[str, InstrumentFeed]:
        wall_ms = time.time_ns() // 1_000_000
        writer = FactWriter(self._runtime, self._codec, self._here, wall_ms, live=True, fenced=True)
        self.followed, self.config = writer.followed, writer.config
        now_ms, gran = self._client.now_ms(), self.config.candle_gran
        length, calendar = self.config.granularity_ms, calendar_of(self.config)
        start_ms = (
            calendar.start_of_last_bars_ms(now_ms, self.config.candle_count, length)
            if from_ms is None
            else from_ms // length * length
        )
        found = resumes(
            *(self._runtime, self._codec, self._names, gran, writer.partitions),
            *(start_ms, now_ms, writer.control),
        )
        settings = self._settings
        feeds = {
            name: InstrumentFeed(
                name,
                gran,
                found[name],
                calendar,
                settle_ms=settings.feed_settle_ms,
                absent_after_ms=round(settings.feed_absent_after_sec * 1000),
                reread_bars=settings.feed_reread_bars,
            )
            for name in self._names
        }
        self._plans = {name: FeedPlan([name], gran, writer.partitions) for name in self._names}
        first_ms = min(feed.frontier_ms for feed in feeds.values())
        farewell = take_over(writer, self._names, gran, first_ms, ACTOR)
        offset = writer.refresh_control()
        with writer.transaction():
            writer.write(farewell)
            for name, plan in self._plans.items():
                writer.write(plan.opening(feeds[name].frontier_ms, offset))
        self._writer, self._looked_at = writer, time.monotonic()
        for name, feed in feeds.items():
            logger.info("%s continues at %s UTC", name, clock(feed.frontier_ms))
        return feeds

    def _start(self, feed: InstrumentFeed) -> asyncio.Task[None]:
        return asyncio.create_task(self._follow(feed), name=f"feed {feed.instrument}")

    async def _follow(self, feed: InstrumentFeed) -> None:
        state = self.state.pairs[feed.instrument]
        while not self._stop.is_set() and not self._done(feed):
            await self._until_due(feed)
            if self._stop.is_set():
                return
            asked_ms, ours_ms = self._client.now_ms(), time.time_ns() // 1_000_000
            try:
                answer = await self._client.candles(
                    feed.instrument, self.config.candle_gran, feed.from_ms
                )
            except (Recoverable, RequestRefused) as error:
                state.failures += 1
                if feed.trouble is None:
                    logger.warning("%s waits: %s", feed.instrument, error)
                feed.failed(str(error))
                self._more.set()
                if self._until_ms is not None and state.failures >= FAILURES_TO_GIVE_UP:
                    return
                await pause(self._stop, min(pause_s(1.5, state.failures), MAX_PAUSE_S))
                continue
            if feed.trouble is not None:
                logger.info("%s continues", feed.instrument)
            state.failures = 0
            # a Date header in the future must not settle a future bar without a candle
            sure_ms = min(asked_ms, ours_ms)
            for notice in feed.take(answer, asked_ms, LONGEST_PAGE, sure_ms):
                state.revised += notice.kind == "revised"
                state.late += notice.kind == "late"
                logger.warning(
                    "%s: the candle of %s UTC %s",
                    notice.instrument,
                    clock(notice.bar_ms),
                    _NOTICES[notice.kind].format(notice.detail),
                )
            self._more.set()

    async def _until_due(self, feed: InstrumentFeed) -> None:
        # in steps, because a suspended machine resumes at another time
        while not self._stop.is_set():
            left_s = (feed.ask_ms - self._client.now_ms()) / 1000
            if len(feed.ready) >= MAX_BUFFERED_BARS:
                left_s = max(left_s, 0.05)
            elif left_s <= 0.0:
                return
            await pause(self._stop, min(left_s, STEP_S))

    def _done(self, feed: InstrumentFeed) -> bool:
        until_ms = self._until_ms
        return until_ms is not None and feed.asked_ms >= 0 and feed.frontier_ms >= until_ms

    async def _write_on(self, feeds: Sequence[asyncio.Task[None]]) -> None:
        while not self._stop.is_set():
            ended = all(task.done() for task in feeds)
            self._more.clear()
            until_ms = min(self._horizon_ms(), self._last_ms)
            await self._write(take_ended_bars(list(self.state.feeds.values()), until_ms))
            if ended:
                return
            await self._stop_waiting()
            try:
                async with asyncio.timeout(STEP_S):
                    await self._more.wait()
            except TimeoutError:
                self._show_skew()

    @property
    def _last_ms(self) -> int:
        """End of the last bar to write, epoch ms."""
        return (1 << 62) if self._until_ms is None else self._until_ms

    def _horizon_ms(self) -> int:
        feeds, now_ms = list(self.state.feeds.values()), self._client.now_ms()
        wait_ms = 1000 * min(WAIT_S, self._settings.epoch_max_wait_sec)
        holding = [
            feed.trouble is None
            and not self._done(feed)
            and now_ms - max(feed.due_ms, feed.moved_ms, self._began_ms) < wait_ms
            for feed in feeds
        ]
        return horizon_ms(feeds, holding)

    async def _stop_waiting(self) -> None:
        """Stop waiting for instruments that delay the epochs of the others for too long."""
        pairs = self.state.pairs
        given_up = not_waited_for(
            list(self.state.feeds.values()),
            self._client.now_ms(),
            written_ms=max(pair.settled_ms for pair in pairs.values()),
            began_ms=self._began_ms,
            wait_ms=round(1000 * self._settings.epoch_max_wait_sec),
        )
        new = {name: at for name, at in given_up.items() if at > pairs[name].not_waited_ms}
        if not new:
            return
        await asyncio.to_thread(self._write_not_waiting, new)
        for name, as_of_ms in new.items():
            if pairs[name].not_waited_ms <= pairs[name].settled_ms:
                logger.warning(
                    "%s is not waited for at %s UTC: its bar was not settled after "
                    "EPOCH_MAX_WAIT_SEC=%g s; portfolio epochs continue without it until it is",
                    name,
                    clock(as_of_ms),
                    self._settings.epoch_max_wait_sec,
                )
            pairs[name].not_waited_ms = as_of_ms
            pairs[name].not_waited += 1

    def _write_not_waiting(self, new: Mapping[str, int]) -> None:
        writer = self._writer
        assert writer is not None  # prepare() comes before run()
        facts = [
            fact
            for name, as_of_ms in sorted(new.items())
            for fact in self._plans[name].not_waiting(as_of_ms, writer.control.end)
        ]
        with writer.transaction():
            writer.write(facts)
        self.state.count((), facts)

    async def _write(self, bars: Sequence[Settled]) -> None:
        at = 0
        while at < len(bars):
            end = min(len(bars), at + TRANSACTION_FACTS)
            await asyncio.to_thread(self._write_some, bars[at:end])
            at = end

    def _write_some(self, bars: Sequence[Settled]) -> None:
        writer = self._writer
        assert writer is not None  # prepare() comes before run()
        if time.monotonic() - self._looked_at > CONTROL_EVERY_S:
            writer.refresh_control()
            self._looked_at = time.monotonic()
        offset, facts = writer.control.end, list[Fact]()
        for bar in bars:
            plan = self._plans[bar.instrument]
            if bar.settles_bar:
                facts += plan.bar(bar.as_of_ms, bar.candles, offset)
            else:
                facts += [plan.candle(candle) for candle in bar.candles]
        with writer.transaction():
            writer.write(facts)
        self.state.count(bars, facts)

    async def _finish(self) -> None:
        """Write the settled bars, and the watermarks that are still missing."""
        feeds = list(self.state.feeds.values())
        await self._write(take_ended_bars(feeds, self._last_ms))
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        writer = self._writer
        assert writer is not None
        facts: list[Fact] = []
        for name, plan in self._plans.items():
            facts += plan.closing(self.state.pairs[name].settled_ms, writer.control.end)
        if facts:
            with writer.transaction():
                writer.write(facts)
            self.state.count((), facts)

    async def _prices(self) -> None:
        async for event in self.state.stream.events():
            if isinstance(event, Price):
                self.state.prices[event.instrument] = event

    def _show_skew(self) -> None:
        skew_ms = self._client.clock.skew_ms
        if skew_ms is not None and abs(skew_ms) > SKEW_SHOWN_MS and not self._skew_shown:
            self._skew_shown = True
            logger.warning(
                "this machine's clock is %.1f s %s OANDA's; bars are asked for by OANDA's",
                abs(skew_ms) / 1000,
                "behind" if skew_ms > 0 else "ahead of",
            )
