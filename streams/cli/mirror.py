"""``manifold mirror``."""

from __future__ import annotations

import asyncio
import json
import logging
import signal

import click
from prometheus_client import CollectorRegistry

from streams.cli.beginning import begin_process
from streams.cli.lookback import warn_of_lookback
from streams.cli.output import echo
from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.config.status_ports import status_access
from streams.kafka.control_topic import config_in_force
from streams.kafka.decoding import InvalidRecordsCollector
from streams.kafka.registry import open_codec
from streams.mirror.follow import Follower
from streams.mirror.rebuild import rebuild as rebuild_mirror
from streams.monitoring.clock_check import warn_of_clock
from streams.process.sigterm import exit_on_sigterm
from streams.process.started import ProcessCollector
from streams.process.status_access import metrics_web, open_status_port


@click.command()
@click.option(
    "--rebuild", is_flag=True, help="Delete the mirror's keys and fill them again from the log."
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print the result as JSON; with --rebuild only."
)
def mirror(rebuild: bool, as_json: bool) -> None:
    """Mirror the log into Valkey.

    Follows the log until SIGTERM or Ctrl-C. While Valkey is unavailable it waits, then catches up.
    Several may run at once. A last value is never replaced by an older one (event time).

    \b
    Examples:
      manifold mirror
      manifold mirror --rebuild
      manifold mirror --valkey-url rediss://user:password@valkey.example:6380/0
    """
    runtime, config = Runtime.from_env(), Config.from_env()
    logging.basicConfig(level=runtime.log_level, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    if rebuild:
        warn_of_clock(runtime)
        written = asyncio.run(_rebuild(runtime, config))
        echo(json.dumps({"written": written}) if as_json else f"{written:,} writes")
    else:
        exit_on_sigterm()
        begin_process(runtime, "mirror")
        warn_of_clock(runtime)
        warn_of_lookback(config)
        asyncio.run(_follow(runtime, config))


async def _rebuild(runtime: Runtime, config: Config) -> int:
    codec = await open_codec(runtime)
    active = await asyncio.to_thread(config_in_force, runtime, codec, config)
    return await rebuild_mirror(runtime, active, codec)


async def _follow(runtime: Runtime, config: Config) -> None:
    # before anything that can fail: a restart in a loop is seen at this port too
    status = await open_status_port(
        metrics_web(process_registry()),
        status_access(runtime.metrics_host),
        runtime.mirror_metrics_port,
        "MIRROR_METRICS_PORT",
    )
    try:
        follower = Follower(runtime, config, await open_codec(runtime))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, follower.stop)
        await follower.run()
    finally:
        await status.cleanup()


def process_registry() -> CollectorRegistry:
    """Return a registry of what the mirror exports: its start, open files, refused records."""
    registry = CollectorRegistry()
    registry.register(ProcessCollector())
    registry.register(InvalidRecordsCollector())
    return registry
