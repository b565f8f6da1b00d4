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
from streams.cli.beginning import begin_process
from streams.cli.output import echo, echo_line
from streams.cli.reason import REASON
from streams.config.kill_switch import KillSwitchSettings
from streams.config.runtime import Runtime
from streams.config.status_ports import status_access
from streams.instants import clock
from streams.kafka.control_topic import StampRefused
from streams.kafka.reader import LogReader
from streams.kafka.registry import open_codec
from streams.monitoring.clock_check import brokers_now_ms, require_clock, warn_of_clock
from streams.process.sigterm import exit_on_sigterm
from streams.process.status_access import metrics_web, open_status_port
from streams.records.topics import CONTROL
from streams.trading.kill_switch.commands import READ_S, Engaged, disengage, engage
from streams.trading.kill_switch.keeper import KillSwitchKeeper
from streams.trading.kill_switch.reader import KillSwitchReader, KillSwitchState

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print as JSON.")


@click.group()
def kill() -> None:
    """Control the kill switch: while it is engaged, no position is opened or increased.

    The state is a record in ops.control; the key ops:kill_switch in Valkey repeats it as "1" or "0"
    for other programs. The switch is off only while both say so and a lease holder renews the key.
    SET ops:kill_switch 1 in Valkey engages it too; only `manifold kill off` clears it.
    """


@kill.command()
@REASON
@ACTOR
@AS_JSON
def on(reason: str, actor: str, as_json: bool) -> None:
    """Engage the kill switch; return when it is in the log and the key in Valkey is 1.

    Exit codes: 0 engaged in both; 75 the log or Valkey did not answer (the message says what is in
    effect).

    \b
    Examples:
      manifold kill on --reason "spread too wide"
    """
    runtime, settings = Runtime.from_env(), KillSwitchSettings.from_env()

    def logged(offset: int) -> None:
        if not as_json:
            echo(f"engaged: ops.control has it at offset {offset}")

    codec = asyncio.run(open_codec(runtime))

    def engaged(at_ms: int) -> Engaged:
        wait_s = settings.kill_switch_max_age_sec + 1.0
        return engage(
            runtime, codec, actor, reason, at_ms, settings, valkey_wait_s=wait_s, logged=logged
        )

    try:
        done = engaged(_now_ms())
    except StampRefused:
        # engaging does not wait for the clock check
        done = engaged(brokers_now_ms(runtime))
    warn_of_clock(runtime)
    if as_json:
        echo(json.dumps({"engaged": True, **done._asdict()}))
    elif not done.key_problem:
        echo(f"{settings.kill_switch_key} is not 0")
    if done.key_problem:
        echo(f"manifold: the log has it, but: {done.key_problem}", err=True)
        sys.exit(75)


@kill.command()
@REASON
@ACTOR
@AS_JSON
def off(reason: str, actor: str, as_json: bool) -> None:
    """Clear the kill switch: write "off" to the log and wait for the key in Valkey to follow.

    Refused while a change of the key in Valkey is not in the log yet, and when the switch is
    engaged again meanwhile. Exit codes: 0 off; 1 refused, or off in the log but still engaged for
    another reason (no lease holder, no Valkey); 75 the log did not answer.

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
        echo(json.dumps({"engaged": bool(why), "offset": done.offset, "why": why}))
    else:
        echo(f"off: ops.control has it at offset {done.offset}")
    if done.still:
        echo(f"manifold: still engaged: {done.still}", err=True)
        sys.exit(1)


@kill.command()
@AS_JSON
def status(as_json: bool) -> None:
    """Show whether the kill switch is engaged, with every reason.

    Exit codes: 0 off, 1 engaged.
    """
    runtime = Runtime.from_env()
    warn_of_clock(runtime)
    codec = asyncio.run(open_codec(runtime))
    # not connected yet: allows more time than a running reader needs
    reader = KillSwitchReader(runtime, codec, KillSwitchSettings.from_env(), READ_S)
    try:
        found = reader.read()
    finally:
        reader.close()
    if as_json:
        echo(json.dumps(kill_state_dict(found)))
    else:
        for line in _lines(found):
            echo_line(line)
    sys.exit(1 if found.engaged else 0)


@kill.command()
@click.option(
    "--metrics-port", type=int, default=0, help="Set the port of /metrics; 0 = no metrics."
)
def keep(metrics_port: int) -> None:
    """Hold the kill switch's lease in Valkey, where no service (manifold serve) does.

    Keeps ops:kill_switch equal to the log. Without a lease holder the kill switch is engaged.
    Several may run; one writes, the others stand by.

    \b
    Examples:
      manifold kill keep
      KILL_SWITCH=0 manifold kill keep
    """
    exit_on_sigterm()
    runtime, settings = Runtime.from_env(), KillSwitchSettings.from_env()
    logging.basicConfig(level=runtime.log_level, format="%(asctime)s %(name)s %(message)s")
    begin_process(runtime, "kill keep")
    with LogReader(runtime) as reader:
        reader.partitions(CONTROL)
    warn_of_clock(runtime)
    asyncio.run(_keep(runtime, settings, metrics_port))


async def _keep(runtime: Runtime, settings: KillSwitchSettings, metrics_port: int) -> None:
    keeper = KillSwitchKeeper(runtime, await open_codec(runtime), settings)
    application, access = metrics_web(keeper.metrics.registry), status_access(runtime.metrics_host)
    page = await open_status_port(application, access, metrics_port, "--metrics-port")
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, keeper.stop)
    try:
        await keeper.run()
    finally:
        await page.cleanup()


def kill_state_dict(found: KillSwitchState) -> dict[str, Any]:
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
        lines.append(f"  last record in the log: offset {found.log.offset}, {said}")
    return lines


def _now_ms() -> int:
    return int(time.time() * 1000)
