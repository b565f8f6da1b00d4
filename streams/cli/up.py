"""``manifold up``."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import click
from rich.console import Console
from rich.live import Live

from streams.candles.calendar import calendar_of
from streams.cli.demo import lively_end_ms, show_outcome
from streams.cli.screen import PlainLines, plain_line, screen
from streams.config.oanda import Oanda
from streams.config.roles import FEED
from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.errors import Fatal
from streams.records.codec import locked_codec
from streams.stack.up import BROKERS, MARKETS, Ports, Stack, StackPlan, stack_settings
from streams.stack.watch import Watch

POLL_S = 0.25
PLAIN_WIDTH = 120


@click.command()
@click.option(
    "--broker",
    type=click.Choice(BROKERS),
    default="embedded",
    show_default=True,
    help="Select the broker: embedded keeps its log in memory, kafka is Apache Kafka with a "
    "log on disk (needs Java 17 and Maven).",
)
@click.option(
    "--market",
    type=click.Choice(MARKETS),
    default="synthetic",
    show_default=True,
    help="Select the source of candles: synthetic market, OANDA (OANDA_API_KEY_FILE), or none "
    "(manifold load).",
)
@click.option(
    "--demo", is_flag=True, help="Run a bounded demonstration, print its results, then exit."
)
@click.option(
    "--seed",
    type=int,
    default=1,
    show_default=True,
    help="Set the random seed of the synthetic market.",
)
@click.option(
    "--bars",
    type=click.IntRange(1),
    default=1500,
    show_default=True,
    help="Set the number of historical bars.",
)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=".manifold",
    show_default=True,
    help="Store data and logs in this directory.",
)
@click.option(
    "--broker-port",
    type=int,
    default=Ports.broker,
    show_default=True,
    help="Set the port of the broker.",
)
@click.option(
    "--registry-port",
    type=int,
    default=Ports.registry,
    show_default=True,
    help="Set the port of the schema registry.",
)
@click.option(
    "--valkey-port",
    type=int,
    default=Ports.valkey,
    show_default=True,
    help="Set the port of Valkey.",
)
@click.option(
    "--metrics-port",
    type=int,
    default=Ports.metrics,
    show_default=True,
    help="Set the port of the worker's /metrics and /healthz.",
)
@click.option(
    "--report",
    "report_file",
    type=click.Path(dir_okay=False, path_type=Path),
    default="manifold-report.html",
    show_default=True,
    help="Write the report of a bounded run to this file.",
)
@click.option(
    "--plain",
    is_flag=True,
    help="Print lines instead of a screen; the default where there is no terminal.",
)
def up(
    broker: str,
    market: str,
    demo: bool,
    seed: int,
    bars: int,
    data_dir: Path,
    broker_port: int,
    registry_port: int,
    valkey_port: int,
    metrics_port: int,
    report_file: Path,
    plain: bool,
) -> None:
    """Start the whole stack on this machine: broker, Valkey, topics, registry, worker, market.

    One screen shows the state; Ctrl-C ends the stack and all its processes. A worker that ends is
    restarted with back-off. Without --demo the market continues with one bar a minute while the
    stack runs, together with the service and its page (API_PORT) and an executor on a paper
    account. The kill switch is engaged at first, so that no position is opened (KILL_SWITCH=0
    starts with it off). The synthetic market trades at weekends too, unless MARKET_CALENDAR=fx.
    Orders go to the paper account with --market oanda too. For your own cluster, and for real
    orders, use manifold run.

    \b
    Examples:
      manifold up
      manifold up --broker kafka --data-dir ~/manifold
      manifold up --broker kafka --market none --data-dir ~/history
      manifold up --demo --bars 3000 --env-file deploy/profiles/demo.env
    """
    if demo and market != "synthetic":
        raise Fatal(f"--demo uses the synthetic market and takes no --market {market}")
    settings = stack_settings(os.environ, market)
    if market == "oanda":
        Oanda.from_env(settings).require_access()
    runtime, config = Runtime.from_env(settings), Config.from_env(settings)
    now_ms = int(time.time() * 1000)
    end_ms = lively_end_ms(now_ms, runtime.hotband_pairs, config) if demo else now_ms
    start_ms = calendar_of(config).start_of_last_bars_ms(end_ms, bars, config.granularity_ms)
    ports = Ports(broker_port, registry_port, valkey_port, metrics_port)
    plan = StackPlan(broker, data_dir, ports, seed, start_ms, bars if demo else None, market)
    # SIGTERM from a supervisor ends it as Ctrl-C does
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    stack = Stack(plan, settings)
    try:
        plain = plain or not console.is_terminal
        if not _run(console, stack, report_file, demo=demo, plain=plain):
            raise click.exceptions.Exit(1)
    except KeyboardInterrupt:
        console.print("stopping")
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        stack.stop()


def _run(console: Console, stack: Stack, report_file: Path, *, demo: bool, plain: bool) -> bool:
    begun_at = time.monotonic()
    stack.start(lambda line: console.print(line, highlight=False))
    watch = Watch(stack.runtime, locked_codec(stack.runtime.topic_prefix))
    watch.start()
    try:
        if plain:
            _follow_plain(console, stack, watch, until_done=demo)
        else:
            _follow_screen(console, stack, watch, until_done=demo)
        return show_outcome(console, stack, watch, begun_at, report_file)
    finally:
        watch.stop()


def _finished(stack: Stack, watch: Watch) -> bool:
    return stack.processes[FEED].done and watch.sight.settled


def _follow_plain(console: Console, stack: Stack, watch: Watch, *, until_done: bool) -> None:
    lines = PlainLines()
    while not (until_done and _finished(stack, watch)):
        stack.poll()
        if lines.due():
            console.print(plain_line(stack, watch.sight), highlight=False, soft_wrap=True)
        time.sleep(POLL_S)


def _follow_screen(console: Console, stack: Stack, watch: Watch, *, until_done: bool) -> None:
    with Live(console=console, refresh_per_second=4, screen=False, transient=True) as live:
        while not (until_done and _finished(stack, watch)):
            stack.poll()
            live.update(screen(stack, watch.sight))
            time.sleep(POLL_S)
