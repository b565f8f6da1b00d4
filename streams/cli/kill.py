"""``manifold kill``."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
import time
from typing import Any

import click

from streams.cli.actor import ACTOR
from streams.config.kill_switch import KillSwitchSettings
from streams.config.runtime import Runtime
from streams.errors import Fatal
from streams.instants import clock
from streams.kafka.control_topic import StampRefused
from streams.kafka.reader import LogReader
from streams.kafka.registry import open_codec
from streams.monitoring.clock_check import brokers_now_ms, require_clock, warn_of_clock
from streams.process.sigterm import exit_on_sigterm
from streams.records.topics import CONTROL
from streams.trading.kill_switch.commands import READ_S, Engaged, disengage, engage
from streams.trading.kill_switch.keeper import KillSwitchKeeper
from streams.trading.kill_switch.reader import KillSwitchReader, KillSwitchState

REASON = click.option("--reason", required=True, help="Reason, recorded in the log.")
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print as JSON.")


@click.group()
def kill() -> None:
    """The kill switch: while it is engaged nothing is opened or increased.

    ops.control is the record; ops:kill_switch in Valkey says "1" or "0" to everybody else. It is
    off only while both say so and a keeper proves that it lives. SET ops:kill_switch 1 in Valkey
    engages as well; only `manifold kill off` clears.
    """


@kill.command()
@REASON
@ACTOR
@AS_JSON
def on(reason: str, actor: str, as_json: bool) -> None:
    """Engage: returns when the log has it and the key in Valkey says 1.

    Exit codes: 0 engaged everywhere; 75 the log or Valkey did not answer (the sentence says what
    holds all the same).

    \b
    Examples:
      manifold kill on --reason "spread too wide"
    """
    runtime, settings = Runtime.from_env(), KillSwitchSettings.from_env()

    def logged(offset: int) -> None:
        if not as_json:
            click.echo(f"engaged: ops.control has it at offset {offset}")

    codec = asyncio.run(open_codec(runtime))

    def engaged(at_ms: int) -> Engaged:
        wait_s = settings.kill_switch_max_age_sec + 1.0
        return engage(
            runtime, codec, actor, reason, at_ms, settings, valkey_wait_s=wait_s, logged=logged
        )

    try:
        done = engaged(_now_ms())
    except StampRefused:
        # nobody waits for a clock to engage
        done = engaged(brokers_now_ms(runtime))
    warn_of_clock(runtime)
    if as_json:
        click.echo(json.dumps({"engaged": True, **done._asdict()}))
    elif not done.key_problem:
        click.echo(f"{settings.kill_switch_key} does not say 0 to anybody")
    if done.key_problem:
        click.echo(f"manifold: the log has it, but: {done.key_problem}", err=True)
        sys.exit(75)


@kill.command()
@REASON
@ACTOR
@AS_JSON
def off(reason: str, actor: str, as_json: bool) -> None:
    """Clear: say "off" in the log, and wait for the key in Valkey to follow.

    It is refused while a change of the key in Valkey is not in the log yet, and when somebody
    engages meanwhile. Exit codes: 0 off; 1 refused, or the log says off and something else still
    engages (no keeper, no Valkey); 75 the log did not answer.

    \b
    Examples:
      manifold kill off --reason "checked the positions"
    """
    runtime, settings = Runtime.from_env(), KillSwitchSettings.from_env()
    require_clock(runtime)
    codec = asyncio.run(open_codec(runtime))
    done = disengage(runtime, codec, actor, reason, _now_ms(), settings)
    if as_json:
        why = [done.still] if done.still else []
        click.echo(json.dumps({"engaged": bool(why), "offset": done.offset, "why": why}))
    else:
        click.echo(f"off: ops.control has it at offset {done.offset}")
    if done.still:
        click.echo(f"manifold: still engaged: {done.still}", err=True)
        sys.exit(1)


@kill.command()
@AS_JSON
def status(as_json: bool) -> None:
    """Show whether it is engaged, and every reason why.

    Exit codes: 0 off, 1 engaged.
    """
    runtime = Runtime.from_env()
    warn_of_clock(runtime)
    codec = asyncio.run(open_codec(runtime))
    # nothing is connected yet: a moment more than a running reader gives
    reader = KillSwitchReader(runtime, codec, KillSwitchSettings.from_env(), READ_S)
    try:
        found = reader.read()
    finally:
        reader.close()
    if as_json:
        click.echo(json.dumps(as_dict(found)))
    else:
        for line in _lines(found):
            click.echo(line)
    sys.exit(1 if found.engaged else 0)


@kill.command()
@click.option("--metrics-port", type=int, default=0, help="Port of /metrics; 0 = off.")
def keep(metrics_port: int) -> None:
    """Keep ops:kill_switch in Valkey equal to the log, where no service (manifold serve) does.

    Without a keeper the kill switch is engaged. Several may run; one writes, the others stand by.

    \b
    Examples:
      manifold kill keep
      KILL_SWITCH=0 manifold kill keep
    """
    exit_on_sigterm()
    runtime, settings = Runtime.from_env(), KillSwitchSettings.from_env()
    logging.basicConfig(level=runtime.log_level, format="%(asctime)s %(name)s %(message)s")
    with LogReader(runtime) as reader:
        reader.partitions(CONTROL)
    warn_of_clock(runtime)
    asyncio.run(_keep(runtime, settings, metrics_port))


async def _keep(runtime: Runtime, settings: KillSwitchSettings, metrics_port: int) -> None:
    keeper = KillSwitchKeeper(runtime, await open_codec(runtime), settings)
    if metrics_port:
        from prometheus_client import start_http_server

        try:
            start_http_server(metrics_port, runtime.metrics_host, keeper.metrics.registry)
        except OSError as error:
            raise Fatal(
                f"--metrics-port {metrics_port} cannot be used on {runtime.metrics_host} "
                f"({error.strerror}); choose another, or 0 for none"
            ) from error
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, keeper.stop)
    await keeper.run()


def as_dict(found: KillSwitchState) -> dict[str, Any]:
    """Return the state for ``--json``."""
    content = found._asdict()
    content["log"] = None if found.log is None else found.log._asdict()
    return content


def _lines(found: KillSwitchState) -> list[str]:
    since = "" if found.since_ms is None else f" since {clock(found.since_ms)} UTC"
    lines = [f"{'ENGAGED' if found.engaged else 'off'}{since}"]
    lines += [f"  {why}" for why in found.why]
    if found.log is not None and found.log.offset is not None:
        said = f"{found.log.actor}: {found.log.reason}"
        lines.append(f"  last word in the log: offset {found.log.offset}, {said}")
    return lines


def _now_ms() -> int:
    return int(time.time() * 1000)
