"""``manifold feed``."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
import time
from itertools import takewhile
from typing import Any

import click

from streams.candles.calendar import calendar_of
from streams.cli.beginning import begin_process
from streams.cli.output import echo
from streams.config.feeds import FeedSettings
from streams.config.oanda import Oanda
from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.errors import Fatal
from streams.feeds.live import accelerated, run_feed, unpaced, wall_clock
from streams.feeds.oanda import OandaFeed
from streams.feeds.oanda_status import serve_status
from streams.feeds.synthetic import MarketRates, synthetic_market
from streams.instants import clock, instant_ms
from streams.instruments import instrument_names
from streams.kafka.control_topic import config_in_force
from streams.kafka.registry import open_codec
from streams.monitoring.clock_check import ClockGuard, require_clock
from streams.oanda.client import OandaClient
from streams.process.child import require_port
from streams.process.sigterm import SigtermFlag, exit_on_sigterm


@click.group()
def feed() -> None:
    """Run a candle source."""


def _set_gap_permille(ctx: click.Context, _: click.Parameter, value: int | None) -> None:
    # --gap-permille is eager: its value is set before this one replaces it
    if value is not None:
        ctx.params["gap_permille"] = value


@feed.command()
@click.option("--seed", type=int, default=1, show_default=True, help="Set the random seed.")
@click.option("--pairs", help="Set the instruments, comma separated.  [default: HOTBAND_PAIRS]")
@click.option(
    "--start",
    help="Set the start time (UTC) of the first bar.  [default: such that the last bar ends now]",
)
@click.option(
    "--until", help="Set the end time (UTC) of the last bar, instead of --start.  [default: now]"
)
@click.option(
    "--bars",
    type=click.IntRange(1),
    default=1500,
    show_default=True,
    help="Set the number of bars.",
)
@click.option("--live", is_flag=True, help="Continue in real time after the historical bars.")
@click.option(
    "--speed",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    help="Set the speed in seconds of event time per second of real time; 0 = as fast as possible.",
)
@click.option(
    "--gap-permille",
    type=click.IntRange(0, 1000),
    default=20,
    show_default=True,
    is_eager=True,
    help="Set the share of bars without a candle, in permille.",
)
@click.option(
    "--quiet",
    type=click.IntRange(0, 1000),
    hidden=True,
    expose_value=False,
    callback=_set_gap_permille,
    help="Former name of --gap-permille, for one release.",
)
@click.option(
    "--late",
    type=click.IntRange(0, 1000),
    default=2,
    show_default=True,
    help="Set the share of candles that arrive late, in permille.",
)
@click.option(
    "--duplicate",
    type=click.IntRange(0, 1000),
    default=2,
    show_default=True,
    help="Set the share of candles sent twice, in permille.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def synthetic(
    seed: int,
    pairs: str | None,
    start: str | None,
    until: str | None,
    bars: int,
    live: bool,
    speed: float,
    gap_permille: int,
    late: int,
    duplicate: int,
    as_json: bool,
) -> None:
    """Write a seeded synthetic market: the same candles for the same seed on every machine.

    Timestamps are never in the future. Started again with the same arguments and an explicit
    --start, it writes only what the log does not hold yet. Trading hours are those of
    MARKET_CALENDAR: at a weekend --live waits for the opening, unless the calendar is continuous.

    \b
    Examples:
      manifold feed synthetic --seed 1 --bars 3000
      manifold feed synthetic --start 2024-03-04 --bars 10000 --speed 600
      manifold feed synthetic --live
    """
    runtime, here = Runtime.from_env(), Config.from_env()
    names = instrument_names(pairs.split(",")) if pairs else runtime.hotband_pairs
    now_ms = int(time.time() * 1000)
    if live and speed:
        raise Fatal("--live runs in real time and takes no --speed")
    end_ms = instant_ms("--until", until) if until else now_ms
    first_ms = instant_ms("--start", start) if start else None
    if live:
        begin_process(runtime, "feed synthetic")
        require_clock(runtime, by_log=True)
    codec = asyncio.run(open_codec(runtime))
    config = config_in_force(runtime, codec, here)
    calendar, length = calendar_of(config), config.granularity_ms
    start_ms = (
        calendar.start_of_last_bars_ms(end_ms, bars, length)
        if first_ms is None
        else first_ms - first_ms % length
    )
    market = synthetic_market(
        seed,
        names,
        start_ms,
        None if live else bars,
        config.candle_gran,
        MarketRates(gap_permille, late, duplicate),
        calendar=calendar,
    )
    # the current batch is written before the process ends
    sigterm = SigtermFlag()
    market = takewhile(lambda _: not sigterm.received, market)
    pace = (
        wall_clock(ClockGuard(runtime).require)
        if live
        else accelerated(speed)
        if speed
        else unpaced
    )
    written = run_feed(
        runtime,
        codec,
        here,
        names,
        config.candle_gran,
        market,
        "manifold feed synthetic",
        now_ms,
        pace,
    )
    if as_json:
        echo(json.dumps({"written": written, "start_ms": start_ms, "seed": seed}))
    else:
        echo(f"{written:,} records written, from {clock(start_ms)} on")


@feed.command()
@click.option("--pairs", help="Set the instruments, comma separated.  [default: HOTBAND_PAIRS]")
@click.option(
    "--from",
    "start",
    help="Set the start time (UTC) of the first bar of a pair without candles in the log.  "
    "[default: CANDLE_COUNT bars ago]",
)
@click.option("--once", is_flag=True, help="Write the candles available now, then exit.")
@click.option(
    "--until",
    help="Exit when the last bar that ends at or before this time (UTC) is written.  "
    "[default: never]",
)
@click.option("--json", "as_json", is_flag=True, help="Print a summary as JSON at the end.")
def oanda(
    pairs: str | None, start: str | None, once: bool, until: str | None, as_json: bool
) -> None:
    """Write OANDA's candles: each complete candle of the pairs, once, soon after the end of its
    bar.

    Continues after the last candle of each pair in the log, however old, and follows the price
    stream for spread and freshness (/metrics and /healthz on FEED_METRICS_PORT). The token comes
    from OANDA_API_KEY, or from the file that OANDA_API_KEY_FILE names. A deployment has one feed: a
    new one fences the feed that runs. SIGTERM ends it cleanly.

    Exit code 75: OANDA or the Kafka brokers do not answer, or (with --once, --until) the candles of
    some pair could not be read; 2: OANDA refuses the token or the account, or another feed has
    taken over.

    \b
    Examples:
      OANDA_API_KEY_FILE=~/.oanda OANDA_ACCOUNT_ID=101-001-1234567-001 manifold feed oanda
      manifold feed oanda --once --json
      manifold feed oanda --pairs EUR_USD,USD_JPY --from 2024-03-04
    """
    if not once and not until:
        exit_on_sigterm()
    runtime, config = Runtime.from_env(), Config.from_env()
    settings, access = FeedSettings.from_env(), Oanda.from_env()
    access.require_access()
    names = instrument_names(pairs.split(",")) if pairs else runtime.hotband_pairs
    if not names:
        raise Fatal("no instruments: set HOTBAND_PAIRS or --pairs")
    if once and until:
        raise Fatal("--once and --until exclude each other; give one of them")
    from_ms = instant_ms("--from", start) if start else None
    until_ms = instant_ms("--until", until) if until else None
    logging.basicConfig(
        level=runtime.log_level, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
    )
    port = 0 if once else settings.feed_metrics_port
    if not once:
        begin_process(runtime, "feed oanda")
    if port:
        # checked before this feed fences another one
        require_port(port, "FEED_METRICS_PORT")
    require_clock(runtime)
    codec = asyncio.run(open_codec(runtime))

    async def follow() -> dict[str, Any]:
        async with OandaClient(access) as client:
            this = OandaFeed(runtime, codec, config, settings, client, names)
            state = await this.prepare(from_ms)
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, this.stop)
            calendar = calendar_of(this.config)
            runner = (
                await serve_status(
                    state, this.config.candle_gran, calendar, runtime.metrics_host, port
                )
                if port
                else None
            )
            try:
                end_ms = client.now_ms() if once else until_ms
                if end_ms is not None:
                    end_ms = calendar.last_bar_end_ms(end_ms, this.config.granularity_ms)
                await this.run(end_ms, with_prices=not once)
            finally:
                if runner is not None:
                    await runner.cleanup()
            return state.report()

    done = asyncio.run(follow())
    if as_json:
        echo(json.dumps(done))
    else:
        echo(f"{done['candles']:,} candles and {done['watermarks']:,} watermarks written")
