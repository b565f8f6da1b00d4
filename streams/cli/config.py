"""``manifold config``."""

from __future__ import annotations

import asyncio
import json
import sys
import time

import click
from rich.console import Console
from rich.table import Table

from streams.cli.actor import ACTOR
from streams.cli.output import cell, echo
from streams.config.difference import SET_ALIKE, differences
from streams.config.environment import FromEnvironment, read_env_file, setting_fields, setting_text
from streams.config.groups import LIVE_GROUPS
from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.errors import Fatal, Recoverable
from streams.kafka.config_writing import write_change
from streams.kafka.control_topic import active_config, read_control
from streams.kafka.registry import open_codec
from streams.monitoring.clock_check import require_clock
from streams.printable import says_something
from streams.records.codec import Codec
from streams.records.config_change import ConfigChange, configuration_texts, named, whole
from streams.records.control import ControlLog

REASON = click.option(
    "--reason", help="State the reason; it is recorded in the log.  [required without --dry-run]"
)
DRY_RUN = click.option("--dry-run", is_flag=True, help="Show the difference and change nothing.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print as JSON.")


@click.group()
def config() -> None:
    """Show the settings, or change those of the deployment.

    Settings that can change a result are a record in ops.control, which every process follows. The
    first worker or feed of a new log writes that record from its environment.
    """


@config.command()
@JSON
@click.option(
    "--offline",
    is_flag=True,
    help="Show the settings without reading the active configuration from the log.",
)
@click.option(
    "--env",
    "as_env",
    is_flag=True,
    help="Print the active configuration as NAME=value lines, for --env-file and config apply.",
)
def show(as_json: bool, offline: bool, as_env: bool) -> None:
    """Show every setting: value, default, unit, and how it differs from the active one.

    \b
    Examples:
      manifold config show
      manifold config show --json --offline
      manifold config show --env > fleet.env
    """
    mine, runtime = Config.from_env(), Runtime.from_env()
    if as_env:
        if as_json or offline:
            raise Fatal(
                "--env prints the active configuration as lines: leave --json and --offline"
            )
        echo(env_text(_required(_open(runtime)[1])), nl=False)
        return
    live = {name: group.from_env() for name, group in LIVE_GROUPS.items()}
    active, trouble = (None, "not read") if offline else _active(runtime)
    differs = differences(mine, active) if active else ()
    if as_json:
        content = {
            "config_id": mine.config_id,
            "active_config_id": active.config_id if active else None,
            "active_unknown_because": trouble,
            "differs": [one._asdict() for one in differs],
            "config": mine.table(),
            "runtime": runtime.table(),
        } | {name: group.table() for name, group in live.items()}
        echo(json.dumps(content, default=str))
        return
    console = Console()
    console.print(_table("settings that can change a result", mine.table()))
    console.print(_table("connections, names, limits", runtime.table()))
    for name, group in live.items():
        console.print(_table(f"{name.replace('_', ' ')}: {_first_line(group)}", group.table()))
    console.print(f"config_id here: {mine.config_id}")
    if active:
        same = ", the same settings in another notation"
        told = same if not differs and active.config_id != mine.config_id else ""
        console.print(f"active in ops.control: {active.config_id}{told}")
    else:
        console.print(f"active in ops.control: unknown ({cell(trouble or '')})")
    for one in differs:
        console.print(f"  differs: {cell(one.words)}", highlight=False)


def env_text(active: Config) -> str:
    """Return a configuration as lines of a settings file; what is unset is a comment."""
    lines = [f"# the configuration {active.config_id} of ops.control"]
    for item in setting_fields(active):
        text = setting_text(getattr(active, item.name))
        quoted = f"'{text}'" if "{" in text else text
        name = item.name.upper()
        lines.append(f"{name}={quoted}" if text else f"# {name} is unset")
    return "\n".join(lines) + "\n"


def _first_line(group: FromEnvironment) -> str:
    return (type(group).__doc__ or "").splitlines()[0].rstrip(".")


def _open(runtime: Runtime) -> tuple[Codec, ControlLog]:
    codec = asyncio.run(open_codec(runtime))
    return codec, read_control(runtime, codec)


def _required(log: ControlLog) -> Config:
    active = active_config(log)
    if active is None:
        raise Fatal("ops.control holds no configuration yet: start a worker or a feed first")
    return active


def _active(runtime: Runtime) -> tuple[Config | None, str | None]:
    try:
        found = active_config(_open(runtime)[1])
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


@config.command("set")
@click.argument("settings", nargs=-1, metavar="NAME=VALUE...")
@click.option(
    "--from-file",
    metavar="FILE",
    help="Set the settings of FILE too: NAME=value lines, as calibrate writes them.",
)
@REASON
@ACTOR
@DRY_RUN
@JSON
def set_(
    settings: tuple[str, ...],
    from_file: str | None,
    reason: str | None,
    actor: str,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Change only the named settings, for the whole deployment.

    All other settings keep their active value in ops.control; the environment is not used. The
    command prints what changes and what is derived again. The change takes effect at the next
    watermark, at the same record on every worker and in every replay. NAME= resets a setting to its
    default.

    \b
    Examples:
      manifold config set AUTO_MAX_ENTROPY=0.85 --dry-run
      manifold config set AUTO_MAX_ENTROPY=0.85 ALLOC_TOP_K=4 --reason "calibrated on May"
      manifold config set AUTO_MAX_HAZARD= --reason "guard removed"
      manifold config set --from-file calibrated.env --reason "calibrated on May"
    """
    texts, others = configuration_texts(read_env_file(from_file)) if from_file else ({}, [])
    for setting in settings:
        name, found, value = setting.partition("=")
        if not found or not name.strip():
            raise Fatal(f"{setting!r} is not NAME=VALUE")
        texts[name.strip()] = value.strip()
    if not texts:
        raise Fatal("no setting is named: give NAME=VALUE or --from-file FILE")
    runtime = _ready(reason, dry_run)
    codec, log = _open(runtime)
    change = named(log.state(log.end), texts)
    if not as_json:
        _say_left_out(from_file, others)
        _say(change)
    offset, undone = None, ""
    if change.needed and not dry_run:
        offset, undone = _write(runtime, codec, log, change, actor, reason or "")
    _report(change, offset, undone, as_json=as_json, dry_run=dry_run)


@config.command()
@click.option(
    "--file",
    "file",
    metavar="FILE",
    help="Read the whole configuration from a file of NAME=value lines.  [required]",
)
@click.option(
    "--yes", is_flag=True, help="Skip the confirmation; required where there is no terminal."
)
@REASON
@ACTOR
@DRY_RUN
@JSON
def apply(
    file: str | None, yes: bool, reason: str | None, actor: str, dry_run: bool, as_json: bool
) -> None:
    """Replace the whole configuration of the deployment by that of a file.

    A setting that FILE does not name is reset to its default, except TZDATA_VERSION and
    MARKET_HOLIDAYS_VERSION, which keep their value. Process settings in the file (brokers, ports,
    accounts) are ignored. The difference is printed first and, on a terminal, must be confirmed. It
    takes effect as with manifold config set.

    \b
    Examples:
      manifold config show --env > fleet.env
      manifold config apply --file fleet.env --dry-run
      manifold config apply --file fleet.env --reason "as reviewed" --yes
    """
    if file is None:
        raise Fatal(
            "config apply replaces the whole configuration, by that of a file: give --file FILE. "
            "To change some settings and leave the others: manifold config set NAME=VALUE "
            "--reason TEXT"
        )
    texts, others = configuration_texts(read_env_file(file))
    asks = not (yes or dry_run)
    if asks and not (sys.stdin.isatty() and not as_json):
        raise Fatal("no terminal to confirm on: give --yes, or --dry-run to see the difference")
    runtime = _ready(reason, dry_run)
    codec, log = _open(runtime)
    change = whole(log.state(log.end), texts)
    if not as_json:
        _say_left_out(file, others)
        _say(change)
    offset, undone = None, ""
    if change.needed and not dry_run:
        if asks and not click.confirm("make it the configuration of the whole deployment?"):
            echo("nothing was changed")
            raise click.exceptions.Exit(1)
        offset, undone = _write(runtime, codec, log, change, actor, reason or "")
    _report(change, offset, undone, as_json=as_json, dry_run=dry_run)


def _ready(reason: str | None, dry_run: bool) -> Runtime:
    if not dry_run and not says_something(reason or ""):
        raise Fatal(
            "--reason is missing or empty, or has no visible character; it is recorded in the log"
        )
    runtime = Runtime.from_env()
    if not dry_run:
        require_clock(runtime)
    return runtime


def _write(
    runtime: Runtime, codec: Codec, log: ControlLog, change: ConfigChange, actor: str, reason: str
) -> tuple[int, str]:
    record = change.record(actor, reason, int(time.time() * 1000))
    return write_change(runtime, codec, log, change, record)


def _say_left_out(file: str | None, others: list[str]) -> None:
    if others:
        echo(
            f"ignored in {file}, because they change no result: {', '.join(sorted(others))}",
            err=True,
        )


def _say(change: ConfigChange) -> None:
    for one in change.changes:
        echo(f"  {one.words}")
    for text in change.refolds:
        echo(f"  {text}")


def _report(
    change: ConfigChange, offset: int | None, undone: str, *, as_json: bool, dry_run: bool
) -> None:
    name = change.after.config_id
    if as_json:
        echo(json.dumps(change.as_dict() | {"offset": offset, "undone": undone}))
    elif not change.needed:
        echo(f"config {name} is active already; nothing changed")
    elif dry_run:
        echo(f"config {name} would be active; nothing was changed (--dry-run)")
    else:
        echo(f"config {name} is active (ops.control {offset})")
        echo(
            "every process follows it. The failure signal config_differs is on while a process "
            f"was started with an environment that differs from it: {SET_ALIKE}"
        )
    if undone:
        raise Recoverable(undone)
