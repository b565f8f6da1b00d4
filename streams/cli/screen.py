"""The output of ``manifold up``: one live screen, or plain lines without a terminal."""

from __future__ import annotations

import time

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from streams.cli.status import gates_table, weights_table
from streams.instants import clock
from streams.records.topics import STAGE_SOURCES
from streams.stack.up import Stack
from streams.stack.watch import StackProbe

PLAIN_EVERY_S = 5.0


def screen(stack: Stack, sight: StackProbe) -> RenderableType:
    """Return the screen at one moment."""
    parts: list[RenderableType] = [_head(stack), _processes(stack)]
    if sight.trouble:
        parts.append(Text(sight.trouble, style="red"))
    if sight.status is not None:
        parts.append(_topics(sight))
        if sight.status.decisions:
            parts += [gates_table(sight.status), weights_table(sight.status)]
    parts.append(Text(f"--env-file {stack.env_file} connects to it. Ctrl-C ends it.", "dim"))
    return Group(*parts)


def plain_line(stack: Stack, sight: StackProbe) -> str:
    """Return the state at one moment as one line."""
    ended = [f"{n}: {p.state}" for n, p in stack.processes.items() if not p.child.running]
    status = sight.status
    if status is None:
        return f"waiting for the log: {sight.trouble or 'starting'}"
    said = [f"{topic} {end:,}" for topic, end in status.ends.items() if end]
    lags = [f"{stage} {lag:,}" for stage, lag in status.lag.items() if lag]
    said.append("lag: " + (", ".join(lags) or "none"))
    return "  ".join([*said, *ended])


class PlainLines:
    """Tells when the next line is due."""

    def __init__(self) -> None:
        self._last = -PLAIN_EVERY_S

    def due(self) -> bool:
        """Return whether a line is due now."""
        now = time.monotonic()
        if now - self._last < PLAIN_EVERY_S:
            return False
        self._last = now
        return True


def _head(stack: Stack) -> Panel:
    if stack.durable:
        kept = f"the log is kept in {stack.directory.name}{'/'}broker"
    else:
        kept = "all data is in memory and lost at the end; --broker kafka keeps it"
    ports = stack.plan.ports
    text = Text.assemble(
        (stack.broker_name, "bold"),
        f" on 127.0.0.1:{ports.broker}   registry :{ports.registry}   Valkey :{ports.valkey}   "
        f"metrics :{ports.metrics}\n",
        (kept, "" if stack.durable else "yellow"),
    )
    if stack.live:
        text.append(f"\npage {stack.page_url}", "bold")
        text.append(f"   API token: {stack.token_file}   orders go to the paper account")
    return Panel(text, title="manifold up", title_align="left")


def _processes(stack: Stack) -> Table:
    table = Table("process", "pid", "state", "restarts", box=None, pad_edge=False)
    for name, process in stack.processes.items():
        style = "green" if process.child.running or process.done else "red"
        pid = str(process.child.pid) if process.child.running else "-"
        table.add_row(name, pid, Text(process.state, style), str(process.restarts))
    return table


def _topics(sight: StackProbe) -> Table:
    status, rates = sight.status, sight.rates or {}
    assert status is not None
    table = Table(box=None, pad_edge=False)
    table.add_column("topic")
    for name in ("offsets", "per second", "lag behind it"):
        table.add_column(name, justify="right")
    readers = {source: stage for stage, source in STAGE_SOURCES.items()}
    for topic, end in status.ends.items():
        if end:
            stage = readers.get(topic)
            lag = f"{stage} {status.lag[stage]:,}" if stage else ""
            table.add_row(topic, f"{end:,}", f"{rates.get(topic, 0.0):,.0f}", lag)
    table.add_row("Valkey", "", "", f"mirror {status.lag['mirror']:,}")
    if status.weights:
        table.caption = f"event time {clock(status.weights.epoch_ms)} UTC"
    return table
