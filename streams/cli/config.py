"""``manifold config``."""

from __future__ import annotations

import asyncio
import json
import time

import click
from rich.console import Console
from rich.table import Table

from streams.cli.actor import ACTOR
from streams.clocks.check import require_clock
from streams.control_log import active_config, append_control, read_control
from streams.environment import FromEnvironment
from streams.errors import Fatal, Recoverable
from streams.events import Control
from streams.registry import open_codec
from streams.setting_groups import LIVE_GROUPS
from streams.settings import Config, Runtime


@click.group()
def config() -> None:
    """Show the settings, or apply them to the fleet."""


@config.command()
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.option("--offline", is_flag=True, help="Do not ask the log for the active configuration.")
def show(as_json: bool, offline: bool) -> None:
    """Show every setting: value, default, unit, and how it differs from the active one.

    \b
    Examples:
      manifold config show
      manifold config show --json --offline
    """
    mine, runtime = Config.from_env(), Runtime.from_env()
    live = {name: group.from_env() for name, group in LIVE_GROUPS.items()}
    active, trouble = (None, "not asked") if offline else _active(runtime)
    differs = mine.differences(active) if active else []
    if as_json:
        content = {
            "config_id": mine.config_id,
            "active_config_id": active.config_id if active else None,
            "active_unknown_because": trouble,
            "differs": differs,
            "config": mine.table(),
            "runtime": runtime.table(),
        } | {name: group.table() for name, group in live.items()}
        click.echo(json.dumps(content, default=str))
        return
    console = Console()
    console.print(_table("settings that can change a result", mine.table()))
    console.print(_table("connections, names, limits", runtime.table()))
    for name, group in live.items():
        console.print(_table(f"{name.replace('_', ' ')}: {_first_line(group)}", group.table()))
    console.print(f"config_id here: {mine.config_id}")
    if active:
        same = ", another text of the same settings"
        told = same if not differs and active.config_id != mine.config_id else ""
        console.print(f"active in ops.control: {active.config_id}{told}")
    else:
        console.print(f"active in ops.control: unknown ({trouble})")
    for line in differs:
        console.print(f"  differs: {line}  (here != active)")


def _first_line(group: FromEnvironment) -> str:
    return (type(group).__doc__ or "").splitlines()[0].rstrip(".")


def _active(runtime: Runtime) -> tuple[Config | None, str | None]:
    try:
        codec = asyncio.run(open_codec(runtime))
        found = active_config(read_control(runtime, codec))
    except (Fatal, Recoverable) as error:
        return None, str(error)
    return found, None if found else "no config record yet"


def _table(title: str, rows: list[dict[str, object]]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in ("setting", "value", "default", "unit", "what"):
        table.add_column(name, no_wrap=name == "setting", overflow="fold")
    for row in rows:
        value, default = row["value"], row["default"]
        shown = str(value) if value == default else f"[bold]{value}[/]"
        table.add_row(str(row["name"]), shown, str(default), str(row["unit"]), str(row["doc"]))
    return table


@config.command()
@click.option("--reason", required=True, help="Why; it stands in the log.")
@ACTOR
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def apply(reason: str, actor: str, as_json: bool) -> None:
    """Make the settings of this environment the active ones, for the whole fleet.

    They take effect at the next watermark, at the same record on every worker and in every replay.

    \b
    Examples:
      AUTO_MAX_ENTROPY=0.85 manifold config apply --reason "calibrated on May"
    """
    if not reason.strip():
        raise Fatal("--reason is empty; say why, it stands in the log")
    mine, runtime = Config.from_env(), Runtime.from_env()
    require_clock(runtime)
    codec = asyncio.run(open_codec(runtime))
    active = active_config(read_control(runtime, codec))
    differs = mine.differences(active) if active else ["first configuration"]
    if differs:
        now_ms = int(time.time() * 1000)
        record = Control("config", None, mine.to_json(), actor, reason, now_ms)
        append_control(runtime, codec, [record])
    holds = active if active is not None and not differs else mine
    if as_json:
        click.echo(json.dumps({"config_id": holds.config_id, "changed": differs}))
    elif differs:
        click.echo(f"config {holds.config_id} applied; takes effect at the next watermark")
        for line in differs:
            click.echo(f"  {line}")
    else:
        click.echo(f"config {holds.config_id} is active already; nothing changed")
