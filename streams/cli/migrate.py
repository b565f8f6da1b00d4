"""``manifold migrate``."""

from __future__ import annotations

import json

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from streams.cli.output import echo
from streams.config.oanda import Oanda
from streams.config.runtime import Runtime
from streams.config.trading import Trading
from streams.migration.migrate import migrate as migrate_deployment
from streams.migration.plan import COPIED, Migration, next_steps


@click.command()
@click.option(
    "--to-prefix",
    required=True,
    help="Set the prefix of the new topics, consumer groups and transactional ids.",
)
@click.option(
    "--dry-run", is_flag=True, help="Check and count only; write nothing and stop no process."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def migrate(to_prefix: str, dry_run: bool, as_json: bool) -> None:
    """Migrate the deployment to another topic prefix, for example after a change of the engine.

    Candles with their watermarks, control, orders and fills are copied: same partitions, order,
    keys, timestamps and headers. A worker derives everything else again under the new prefix. If
    interrupted, run the same command again: it continues, and nothing is copied twice. At the end
    every record is compared. Stop worker, feed and executor and engage the kill switch first. The
    command refuses to run while a worker runs or the kill switch is off; a feed or an executor that
    still runs is fenced and ends at its next write. The kill switch is engaged under the new prefix
    too.

    Exit code 0: complete; 2: refused; 75: the log was written meanwhile or no broker answers, run
    it again.

    \b
    Examples:
      manifold migrate --to-prefix v2. --dry-run
      manifold migrate --to-prefix v2.
      manifold migrate --topic-prefix v2. --to-prefix v3. --json
    """
    runtime = Runtime.from_env()
    accounts = {Trading.from_env().paper_account_id, Oanda.from_env().oanda_account_id} - {""}
    columns = (
        TextColumn("{task.description:14}"),
        BarColumn(),
        TextColumn("{task.completed:,} records"),
    )
    console = Console(stderr=True, quiet=as_json)
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as bar:
        tasks = {topic: bar.add_task(topic, total=None) for topic in COPIED}
        found = migrate_deployment(
            runtime,
            to_prefix,
            accounts,
            dry_run=dry_run,
            progress=lambda topic, count: bar.advance(tasks[topic], count),
        )
    if as_json:
        echo(json.dumps(found.as_dict()))
    else:
        _print(found)


def _print(found: Migration) -> None:
    for topic, one in found.topics.items():
        echo(
            f"{topic:<12} {one.records:>12,} records  {one.there:>12,} were there  "
            f"{one.copied:>12,} copied"
        )
    if found.dry_run:
        echo(f"a dry run: {found.left:,} records to copy to {found.new!r}")
        return
    echo(f"complete: every record is under {found.new!r}, compared one by one. Next:")
    for number, step in enumerate(next_steps(found.new), 1):
        echo(f"  {number}. {step}")
