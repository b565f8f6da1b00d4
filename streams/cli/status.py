"""``manifold status``."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from streams.cli.output import cell, echo
from streams.config.runtime import Runtime
from streams.instants import clock
from streams.kafka.decoding import INVALID
from streams.kafka.registry import open_codec
from streams.mirror.process_starts import starts_now
from streams.monitoring.alert_rules_processes import restarts_since
from streams.monitoring.clock_check import warn_of_clock
from streams.monitoring.status import Status, collect
from streams.monitoring.verdict import Limits
from streams.pipeline.limits import rarely_passing


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def status(as_json: bool) -> None:
    """Show consumer lag, gate decisions with reasons, guard pass rates, dead letters and weights.

    Everything is read from the log, but for the process starts of the last hour, which are in
    Valkey.

    \b
    Examples:
      manifold status
      manifold status --json | jq .weights
    """
    runtime = Runtime.from_env()
    warn_of_clock(runtime)
    found = collect(runtime, asyncio.run(open_codec(runtime)))
    now_ms = int(time.time() * 1000)
    starts = asyncio.run(starts_now(runtime, now_ms))
    if as_json:
        more = {
            "processes": processes_dict(starts, now_ms),
            "invalid_records": [one._asdict() for one in INVALID.kinds()],
        }
        echo(json.dumps(found.as_dict(now_ms) | more))
    else:
        console = Console()
        for table in [*status_tables(found), *process_tables(starts, now_ms)]:
            console.print(table)
        if starts is None:
            console.print(
                "process starts are unknown: ops:process_starts in Valkey (VALKEY_URL) cannot be "
                "read", style="yellow", soft_wrap=True, highlight=False,
            )  # fmt: skip
        rare = None if found.all_guards is None else rarely_passing(found.all_guards)
        if rare:
            console.print(rare, style="yellow", soft_wrap=True, highlight=False)


def status_tables(found: Status) -> list[Table]:
    """Return the status as tables."""
    title = f"the log (config {found.config_id or 'none yet'})"
    if found.market_calendar == "continuous":
        title += "; synthetic market: trades at weekends"
    log = Table(title=cell(title), title_justify="left")
    log.add_column("topic")
    log.add_column("offsets", justify="right")
    for topic, end in found.ends.items():
        if end:
            log.add_row(topic, f"{end:,}")
    for stage, lag in found.lag.items():
        log.add_row(f"lag of {stage}", f"{lag:,}")
    made = [log, gates_table(found), weights_table(found)]
    if found.decided:
        made.append(rates_table(found))
    if found.dead_letters:
        letters = Table(title="dead letters (the last ones)", title_justify="left")
        letters.add_column("reason")
        letters.add_column("count", justify="right")
        for reason, count in found.dead_letters.most_common():
            letters.add_row(cell(reason), f"{count:,}")
        made.append(letters)
    return made


def processes_dict(
    starts: Mapping[str, tuple[int, ...]] | None, now_ms: int
) -> dict[str, Any] | None:
    """Return the processes that were started in the last hour; None when they are not known."""
    if starts is None:
        return None
    since_ms = now_ms - 1000 * Limits().restart_window_sec
    return {
        name: {"started_ms": times[-1], "restarts": restarts_since(times, since_ms, now_ms)}
        for name, times in sorted(starts.items())
    }


def process_tables(starts: Mapping[str, tuple[int, ...]] | None, now_ms: int) -> list[Table]:
    """Return the processes that restart in a loop, and the records that are refused, as tables."""
    made = []
    limits = Limits()
    often = {
        name: one
        for name, one in (processes_dict(starts, now_ms) or {}).items()
        if one["restarts"] >= limits.restarts_warn
    }
    if often:
        minutes = limits.restart_window_sec // 60
        table = Table(
            title=f"processes that restarted repeatedly in the last {minutes} min",
            title_justify="left",
        )
        table.add_column("process")
        table.add_column("restarts", justify="right")
        table.add_column("last start (UTC)")
        for name, one in often.items():
            table.add_row(cell(name), str(one["restarts"]), clock(one["started_ms"]))
        made.append(table)
    if INVALID.kinds():
        table = Table(title="invalid records among those read here (skipped)", title_justify="left")
        for title in ("topic", "reason", "count", "last one"):
            table.add_column(title, justify="right" if title == "count" else "left")
        for kind in INVALID.kinds():
            count = f"{kind.records:,}"
            table.add_row(cell(kind.topic), cell(kind.reason), count, cell(kind.coordinates))
        made.append(table)
    return made


def rates_table(found: Status) -> Table:
    """Return a table of the share of decisions that pass each guard."""
    table = Table(
        title=f"guards: share of the last {found.decided:,} decisions that pass",
        title_justify="left",
    )
    table.add_column("guard (reason when it fails)")
    table.add_column("passes", justify="right")
    for guard, rate in found.pass_rates.items():
        table.add_row(cell(guard), f"{rate:.1%}")
    if found.all_guards is not None:
        table.add_section()
        table.add_row("all guards together", f"{found.all_guards:.2%}")
    return table


def gates_table(found: Status) -> Table:
    """Return the gate decisions as a table."""
    table = Table(title="gates: the latest decisions", title_justify="left")
    for name in ("instrument", "as of (UTC)", "eligible", "score", "reasons"):
        table.add_column(name, justify="right" if name == "score" else "left")
    for name, decision in sorted(found.decisions.items()):
        verdict = "[green]yes[/]" if decision.eligible else "[red]no[/]"
        score = "-" if decision.score is None else f"{decision.score:.3f}"
        reasons = cell(", ".join(decision.reasons))
        table.add_row(cell(name), clock(decision.as_of_ms), verdict, score, reasons)
    return table


def weights_table(found: Status) -> Table:
    """Return the latest weights as a table."""
    weights = found.weights
    title = "weights: none yet"
    if weights is not None:
        title = f"weights of {clock(weights.epoch_ms)} UTC: {weights.action} ({weights.reason})"
    table = Table(title=cell(title), title_justify="left")
    for name in ("instrument", "score", "weight", "share of the account"):
        table.add_column(name, justify="left" if name == "instrument" else "right")
    for entry in weights.entries if weights else ():
        table.add_row(
            cell(entry.instrument),
            f"{entry.score:.3f}",
            f"{entry.weight:.3f}",
            f"{entry.target_exposure_pct:.1%}",
        )
    return table
