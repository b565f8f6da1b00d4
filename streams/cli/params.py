"""``manifold params``."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any, TextIO

import click
from rich.console import Console
from rich.table import Table

from streams.cli.actor import ACTOR
from streams.cli.output import cell, echo
from streams.cli.reason import REASON, require_reason
from streams.config.run_parameters import (
    RUN_PARAMETERS,
    overridden,
    overrides_of,
    parameters,
    params_id,
)
from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.errors import Fatal
from streams.instruments import instrument_name
from streams.kafka.control_topic import append_control, read_control
from streams.kafka.registry import open_codec
from streams.monitoring.clock_check import require_clock
from streams.records.control import ControlState
from streams.records.events import Control


@click.group()
def params() -> None:
    """Show or change the parameters of an instrument's backtest run.

    A change is a record in ops.control: it takes effect at the next watermark and starts a new run
    of the instrument, which processes its last 60 days with the new parameters.
    """


@params.command()
@click.argument("instrument")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def show(instrument: str, as_json: bool) -> None:
    """Show the parameters of INSTRUMENT, and which of them override the deployment's settings.

    \b
    Examples:
      manifold params show EUR_USD
    """
    name = instrument_name(instrument)
    state, config = _state(Runtime.from_env())
    mine = state.config_of(name) or config
    own = overrides_of(state.params[name]) if name in state.params else {}
    found = parameters(mine)
    if as_json:
        content = {
            "instrument": name,
            "params_id": params_id(mine),
            "params": found,
            "own": {key.upper(): value for key, value in own.items()},
        }
        echo(json.dumps(content))
        return
    table = Table(title=f"{name}: parameters {params_id(mine)}", title_justify="left")
    for column in ("setting", "value", ""):
        table.add_column(column)
    for key, value in found.items():
        table.add_row(key, cell(str(value)), "its own" if key.lower() in own else "")
    Console().print(table)


@params.command("set")
@click.argument("instrument")
@click.argument("changes", nargs=-1, required=True, metavar="NAME=VALUE...")
@REASON
@ACTOR
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def set_(instrument: str, changes: tuple[str, ...], reason: str, actor: str, as_json: bool) -> None:
    """Set parameters of INSTRUMENT; NAME= resets one to the deployment's setting.

    \b
    Examples:
      manifold params set EUR_USD AUTO_MIN_COHERENCE=0.5 AUTO_DIRECTION_LOOKBACK=20 --reason "May"
      manifold params set EUR_USD AUTO_MIN_COHERENCE= --reason "back to the default"
    """
    wanted: dict[str, str] = {}
    for change in changes:
        key, found, value = change.partition("=")
        if not found or key.strip().lower() not in RUN_PARAMETERS:
            names = ", ".join(each.upper() for each in RUN_PARAMETERS)
            raise Fatal(f"{change!r} is not NAME=VALUE of a run's parameter: {names}")
        wanted[key.strip().lower()] = value.strip()
    _change(instrument, wanted, None, reason, actor, as_json)


@params.command("import")
@click.argument("instrument")
@click.argument("file", type=click.File())
@REASON
@ACTOR
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def import_(instrument: str, file: TextIO, reason: str, actor: str, as_json: bool) -> None:
    """Set the parameters of INSTRUMENT from a best-config JSON ({params, env, summary, ts}).

    It replaces all parameters set for the instrument before.

    \b
    Examples:
      valkey-cli GET opt:best_config:EUR_USD | manifold params import EUR_USD - --reason "trials"
    """
    _change(instrument, {}, file.read(), reason, actor, as_json)


def _change(
    instrument: str,
    wanted: dict[str, str],
    replacement: str | None,
    reason: str,
    actor: str,
    as_json: bool,
) -> None:
    require_reason(reason)
    name, runtime = instrument_name(instrument), Runtime.from_env()
    require_clock(runtime)
    state, config = _state(runtime)
    before = state.config_of(name) or config
    if replacement is None:
        own = overrides_of(state.params[name]) if name in state.params else {}
        own |= {key: _typed(key, text) for key, text in wanted.items()}
        dropped = {key for key, text in wanted.items() if not text}
        value = json.dumps({k.upper(): v for k, v in sorted(own.items()) if k not in dropped})
    else:
        value = replacement
    after = overridden(config, overrides_of(value))
    changed = params_id(before) != params_id(after)
    if changed:
        record = Control("params", name, value, actor, reason, int(time.time() * 1000))
        append_control(runtime, asyncio.run(open_codec(runtime)), [record])
    differs = before.differences(after)
    if as_json:
        content = {"instrument": name, "params_id": params_id(after), "changed": differs}
        echo(json.dumps(content))
    elif changed:
        echo(f"{name}: parameters {params_id(after)}; a new run begins at the next watermark")
        for line in differs:
            echo(f"  {line}")
    else:
        echo(f"{name}: parameters {params_id(after)} are active already; nothing changed")


def _typed(key: str, text: str) -> Any:
    return getattr(Config.from_env({key.upper(): text}), key)


def _state(runtime: Runtime) -> tuple[ControlState, Config]:
    log = read_control(runtime, asyncio.run(open_codec(runtime)))
    state = log.state(log.end)
    if state.config is None:
        raise Fatal("ops.control holds no configuration yet: start a worker or a feed first")
    return state, state.config
