"""The end of `make demo`: results, where the time was spent, what to try next."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from streams.candles.calendar import calendar_of
from streams.candles.sessions import session_state
from streams.cli.replay import backtest_table
from streams.cli.status import gates_table, rates_table, weights_table
from streams.config.settings import Config
from streams.instants import clock
from streams.mirror.summary import read_summary
from streams.monitoring.status import Status
from streams.pipeline.chain import open_chain
from streams.records.codec import locked_codec
from streams.records.topics import CANDLES, SIGNALS
from streams.replay.report.collect import TimeRange, collect_report
from streams.replay.report.page import write_report
from streams.replay.verify.report import Report
from streams.replay.verify.verify import Verifier
from streams.stack.up import Stack
from streams.stack.watch import StageWork, Watch, stage_work

HOUR_MS = 3_600_000
WEEK_HOURS = 7 * 24


def lively_end_ms(now_ms: int, pairs: Sequence[str], config: Config) -> int:
    """Return the latest instant up to now at which most pairs are in session.

    A demonstration that ends at night would show only closed sessions.
    """
    best, calendar, minutes = (-1, now_ms), calendar_of(config), config.session_exit_minutes
    for back in range(WEEK_HOURS):
        at_ms = now_ms if back == 0 else now_ms - now_ms % HOUR_MS - back * HOUR_MS
        states = [session_state(calendar, pair, at_ms, minutes) for pair in pairs]
        count = sum(state.open and not state.near_close for state in states)
        if count == len(pairs):
            return at_ms
        best = max(best, (count, at_ms))
    return best[1]


def show_outcome(
    console: Console, stack: Stack, watch: Watch, begun_at: float, report_file: Path
) -> bool:
    """Print the result of a bounded run and write its report; return whether the log verified.

    Raises
    ------
    Fatal, Recoverable
        A service of the stack does not answer.
    """
    work = stage_work(stack.plan.ports.metrics)
    report = Verifier(stack.runtime, asyncio.run(open_chain(stack.runtime))).run()
    valkey = asyncio.run(read_summary(stack.runtime))
    data = collect_report(stack.runtime, locked_codec(stack.runtime.topic_prefix), TimeRange())
    report_file.parent.mkdir(parents=True, exist_ok=True)
    write_report(data, str(report_file), None)
    status = watch.sight.status
    assert status is not None
    console.print()
    console.print(backtest_table(data))
    console.print(gates_table(status))
    console.print(weights_table(status))
    if status.decided:
        console.print(rates_table(status))
    held = f"Valkey holds {valkey.keys:,} keys; risk:allocation_weights = {valkey.weights}"
    console.print(held, soft_wrap=True)
    console.print()
    console.print(_verdict(report))
    console.print()
    console.print(_times(stack, watch, begun_at, work, status))
    console.print(f"the report, a page to open in a browser: {report_file}", soft_wrap=True)
    console.print()
    console.print(_next(stack, status), highlight=False, soft_wrap=True)
    return report.passed(allow_engine=False)


def _verdict(report: Report) -> str:
    compared = sum(topic.compared for topic in report.topics.values())
    if report.passed(allow_engine=False):
        return (
            f"[green]replay equals live[/]: {compared:,} records of "
            f"{', '.join(report.topics)} derived again, byte for byte equal"
        )
    found = [t.difference for t in report.topics.values() if t.difference]
    return "[red]replay does NOT equal live[/]: " + "; ".join(found)


def _times(
    stack: Stack, watch: Watch, begun_at: float, work: dict[str, StageWork], status: Status
) -> Table:
    table = Table(title="where the time was spent", title_justify="left")
    table.add_column("part")
    table.add_column("seconds", justify="right")
    table.add_column("")
    for what, seconds in stack.timings.seconds.items():
        table.add_row(what, f"{seconds:.1f}", "")
    for stage, done in work.items():
        rate = f"{done.records:,.0f} records, {done.records / done.seconds:,.0f} a second"
        table.add_row(f"{stage} stage, transactions included", f"{done.seconds:.1f}", rate)
    if watch.first_weights_at is not None:
        passed = watch.first_weights_at - begun_at
        table.add_row("from start to the first weights", f"{passed:.1f}", "")
    facts, signals = status.ends[CANDLES], status.ends[SIGNALS]
    table.caption = f"{facts:,} offsets in {CANDLES}, {signals:,} in {SIGNALS}"
    return table


def _next(stack: Stack, status: Status) -> str:
    name = next(iter(sorted(status.decisions)), "EUR_USD")
    at = clock(status.weights.epoch_ms) if status.weights else ""
    command = f"manifold {{}} --env-file {stack.env_file}"
    lines = [
        f"The last epoch was {at} UTC. This stack ends now. Next:",
        "",
        "  . .venv/bin/activate",
        "  manifold up                       keeps the stack running; then, in another terminal:",
        f"  {command.format('status'):<58} lag, gate decisions, pass rates",
        f"  {command.format('why ' + name):<58} one decision, explained",
        f"  {command.format('tail risk.weights --last 3'):<58} records, as rpk prints them",
        f"  {command.format('replay --set AUTO_MIN_COHERENCE=0.6'):<58} replay with another "
        "setting",
        f"  {command.format('verify'):<58} check that a replay equals the log",
        "  manifold up --broker kafka        the same on Apache Kafka, with a log on disk",
    ]
    return "\n".join(lines)
