"""``manifold trade``."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import signal
from typing import TYPE_CHECKING, NamedTuple

import click

from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.config.trading import Trading
from streams.process.sigterm import exit_on_sigterm
from streams.records.codec import Codec

if TYPE_CHECKING:
    from streams.trading.brokers.oanda import OandaBroker

log = logging.getLogger("manifold.executor")


@click.command()
@click.option(
    "--venue",
    type=click.Choice(["paper", "oanda"]),
    help="Select the venue that receives the orders.  [env: TRADING_VENUE; default: paper]",
)
@click.option(
    "--status-port",
    type=int,
    help="Set the port of /status, /metrics and /healthz; 0 = no HTTP server.  [env: "
    "TRADE_STATUS_PORT; default: 8120]",
)
def trade(venue: str | None, status_port: int | None) -> None:
    """Run the executor, which sends orders to the broker: one per account.

    The executor joins a trade of an instrument's backtest run at the entry of the run, when the
    gate is eligible and the weights of that bar select the instrument, and closes when the run
    does. Every order is written to exec.orders with the result of every guard before the broker is
    called. The paper account is the default; practice and live need --venue oanda, and live also
    needs OANDA_ENVIRONMENT=live and LIVE_TRADING_ENABLED=1.

    Starting a second executor of an account fences the first one, which ends with exit code 70. Run
    it under a supervisor that restarts it. Positions are opened only while the kill switch is off.

    \b
    Examples:
      manifold trade
      READ_ONLY=1 manifold trade --venue oanda
      manifold trade --status-port 8121
    """
    exit_on_sigterm()
    if venue:
        os.environ["TRADING_VENUE"] = venue
    if status_port is not None:
        os.environ["TRADE_STATUS_PORT"] = str(status_port)
    run_executor(Runtime.from_env(), Config.from_env(), Trading.from_env())


class AccountAtEnd(NamedTuple):
    """The state of the account when an executor ended.

    Attributes
    ----------
    confirmed
        Whether the venue has confirmed that no position of the executor is open.
    unread
        Parts of the account that could not be read at the end, each with the error.
    cannot_close
        Instruments whose closing order was still refused at the end, each with the reason.
    """

    confirmed: bool
    unread: dict[str, str]
    cannot_close: dict[str, str]


def run_executor(
    runtime: Runtime, config: Config, trading: Trading, *, flatten_within_s: float | None = None
) -> AccountAtEnd:
    """Run an executor until it is stopped; return the state of the account.

    Parameters
    ----------
    flatten_within_s
        If given, it opens no position, and ends when none is open or after that many seconds.
    """
    from streams.cli.beginning import begin_process
    from streams.kafka.topics_admin import require_topics
    from streams.monitoring.clock_check import require_clock, warn_of_clock
    from streams.process.child import require_port

    logging.basicConfig(
        level=runtime.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    if flatten_within_s is None:
        begin_process(runtime, "trade")
    require_topics(runtime)
    if flatten_within_s is None:
        require_clock(runtime)
    else:
        # an open position can always be closed
        warn_of_clock(runtime)
    if trading.trade_status_port and flatten_within_s is None:
        require_port(trading.trade_status_port, "TRADE_STATUS_PORT")
    return asyncio.run(_trade(runtime, config, trading, flatten_within_s))


async def _trade(
    runtime: Runtime, config: Config, trading: Trading, flatten_within_s: float | None
) -> AccountAtEnd:
    from streams.errors import MustRestart
    from streams.kafka.registry import open_codec

    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    codec = await open_codec(runtime)
    while True:
        try:
            return await _execute(runtime, codec, config, trading, flatten_within_s, stopping)
        except MustRestart as change:
            log.warning("%s; the executor restarts", change)


async def _execute(
    runtime: Runtime,
    codec: Codec,
    config: Config,
    trading: Trading,
    flatten_within_s: float | None,
    stopping: asyncio.Event,
) -> AccountAtEnd:
    """Run one executor.

    Raises
    ------
    MustRestart
        A setting in ops.control that the executor was created with has changed.
    """
    from streams.config.kill_switch import KillSwitchSettings
    from streams.kafka.control_topic import active_config, read_control, refuse_continuous_market
    from streams.trading.executor import Executor
    from streams.trading.http import open_page
    from streams.trading.kill_switch.reader import KillSwitchReader
    from streams.trading.start import open_parts

    control = await asyncio.to_thread(read_control, runtime, codec)
    only_flatten = flatten_within_s is not None
    if only_flatten:
        # closing is possible with any settings in the log
        config = active_config(control) or config
    elif trading.trading_venue == "oanda":
        refuse_continuous_market("trading at the venue oanda", config, control)
    kill = KillSwitchReader(runtime, codec, KillSwitchSettings.from_env())
    venue = await open_venue(trading)
    parts = await open_parts(
        runtime, codec, trading, config, kill, venue, only_flatten=only_flatten
    )
    if venue is not None:
        parts.metrics.registry.register(venue.collector())
    within_s = math.inf if flatten_within_s is None else flatten_within_s
    executor = Executor(parts, only_flatten=only_flatten, within_s=within_s)
    page = None if only_flatten else await open_page(executor, trading)
    try:
        await executor.run(stopping)
    finally:
        await parts.following.aclose()
        await parts.broker.aclose()
        kill.close()
        if page is not None:
            await page.cleanup()
    unread = dict(executor.reconciler.reading.unread)
    return AccountAtEnd(executor.confirmed_flat, unread, executor.closer.cannot_close)


async def open_venue(trading: Trading) -> OandaBroker | None:
    """Return the broker of TRADING_VENUE; None for the paper account, which is derived from the
    log.

    Raises
    ------
    Fatal
        The venue's settings are incomplete.
    """
    if trading.trading_venue == "paper":
        return None
    from streams.trading.brokers.oanda import open_oanda

    return await open_oanda(trading)
