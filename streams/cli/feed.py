"""``manifold feed``."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time

import click

from streams.errors import Fatal
from streams.feed.live import accelerated, run_feed, unpaced, wall_clock
from streams.feed.synthetic import MarketRates, market_start_ms, synthetic_market
from streams.instants import clock, instant_ms
from streams.registry import open_codec
from streams.settings import Config, Runtime


@click.group()
def feed() -> None:
    """Run a candle source."""


@feed.command()
@click.option("--seed", type=int, default=1, show_default=True, help="Everything follows from it.")
@click.option("--pairs", help="Instruments, comma separated.  [env: HOTBAND_PAIRS]")
@click.option("--start", help="First bar (a time); default: so that the last bar ends now.")
@click.option("--until", help="End of the last bar (a time), instead of --start; default: now.")
@click.option("--bars", type=click.IntRange(1), default=1500, show_default=True, help="How many.")
@click.option("--live", is_flag=True, help="After the bars up to now go on, in time.")
@click.option(
    "--speed",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    help="Event seconds per second; 0 = as fast as possible.",
)
@click.option("--quiet", type=click.IntRange(0, 1000), default=20, help="Permille without candle.")
@click.option("--late", type=click.IntRange(0, 1000), default=2, help="Permille that come late.")
@click.option("--duplicate", type=click.IntRange(0, 1000), default=2, help="Permille sent twice.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def synthetic(
    seed: int,
    pairs: str | None,
    start: str | None,
    until: str | None,
    bars: int,
    live: bool,
    speed: float,
    quiet: int,
    late: int,
    duplicate: int,
    as_json: bool,
) -> None:
    """Write a seeded synthetic market: the same candles for the same seed on every machine.

    Time stamps stay in the past. Started again with the same arguments and an explicit --start it
    writes only what the log does not hold yet.

    \b
    Examples:
      manifold feed synthetic --seed 1 --bars 3000
      manifold feed synthetic --start 2024-03-04 --bars 10000 --speed 600
      manifold feed synthetic --live
    """
    runtime, config = Runtime.from_env(), Config.from_env()
    names = tuple(p.strip().upper() for p in pairs.split(",")) if pairs else runtime.hotband_pairs
    now_ms = int(time.time() * 1000)
    if live and speed:
        raise Fatal("--live keeps to the clock; leave --speed away")
    end_ms = instant_ms("--until", until) if until else now_ms
    start_ms = (
        _whole_bar(instant_ms("--start", start), config)
        if start
        else market_start_ms(end_ms, bars, config.granularity_ms)
    )
    market = synthetic_market(
        seed,
        names,
        start_ms,
        None if live else bars,
        config.candle_gran,
        MarketRates(quiet, late, duplicate),
    )
    # what is in hand is written before the process goes
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    pace = wall_clock() if live else accelerated(speed) if speed else unpaced
    codec = asyncio.run(open_codec(runtime))
    written = run_feed(
        runtime,
        codec,
        config,
        names,
        config.candle_gran,
        market,
        "manifold feed synthetic",
        now_ms,
        pace,
    )
    if as_json:
        click.echo(json.dumps({"written": written, "start_ms": start_ms, "seed": seed}))
    else:
        click.echo(f"{written:,} records written, from {clock(start_ms)} on")


def _whole_bar(at_ms: int, config: Config) -> int:
    return at_ms - at_ms % config.granularity_ms
