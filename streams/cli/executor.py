"""``manifold executor``."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import aiohttp
import click

from streams.cli.output import echo, echo_line
from streams.config.service import Service
from streams.config.trading import Trading
from streams.errors import Recoverable
from streams.instants import clock
from streams.monitoring.executor_status import ExecutorState, parse_executor, read

SHOWN_ORDERS = 5


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the executor's /status as JSON.")
def executor(as_json: bool) -> None:
    """Show the status of the executor (manifold trade), read from TRADE_STATUS_URL.

    Exit codes: 0 running and in agreement with the broker; 1 idle, or not in agreement; 75 no
    executor answers.

    \b
    Examples:
      manifold executor
      manifold executor --json
    """
    url = Service.from_env().trade_status_url
    answer = asyncio.run(_answer(url))
    if isinstance(answer, ExecutorState) and answer.state == "absent":
        raise Recoverable(f"{answer.detail} ({url})")
    stale_ms = int(1000 * Trading.from_env().cycle_patience_s)
    found = (
        answer
        if isinstance(answer, ExecutorState)
        else parse_executor(answer, int(time.time() * 1000), stale_ms)
    )
    if not isinstance(answer, ExecutorState) and found.status is not None:
        for line in [answer.decode()] if as_json else executor_lines(json.loads(answer)):
            echo_line(line)
    echo(found.detail, err=as_json)
    well = found.state == "running" and found.status is not None and found.status.reconciled
    sys.exit(0 if well else 1)


async def _answer(url: str) -> bytes | ExecutorState:
    async with aiohttp.ClientSession() as session:
        return await read(session, url)


def executor_lines(said: dict[str, Any]) -> list[str]:
    """Return an executor's status as lines of text."""
    lines = [f"account {said['account_id']}, venue {said['venue']} ({said['mode']})"]
    lines += [name.upper() for name in ("read_only", "dry_run") if said.get(name)]
    kill = said["kill_switch"]
    lines.append("kill switch " + ("; ".join(kill["why"]) if kill["engaged"] else "off"))
    lines.append("agrees with the broker" if said["reconciled"] else said["unreconciled"])
    account = said.get("account")
    if account:
        money = f"{account['nav']:.2f} {account['currency']}, balance {account['balance']:.2f}"
        lines.append(f"NAV {money}, margin used {account['margin_used']:.2f}")
    held = {one["instrument"]: one for one in said.get("positions", [])}
    for name in sorted({*held, *said.get("joined", {})}):
        lines.append(f"  {name}: {_position(held.get(name), said.get('joined', {}).get(name))}")
    paused = said.get("paused", {})
    lines += [
        f"paused {name} since {clock(one['at_ms'])} UTC by {one['actor']}: {one['reason']}"
        for name, one in sorted(paused.items())
    ]
    for title, key in (("by hand", "by_hand"), ("command", "waiting"), ("blocked", "blocked")):
        for name, sentences in sorted(said.get(key, {}).items()):
            lines += [f"{title} {name}: {one}" for one in sentences]
    lines += [
        f"order {one['request_id']} of {one['actor']}: {one['side']} {one['units']:g} "
        f"{one['instrument']}: {one['status']}" + (f" ({one['detail']})" if one["detail"] else "")
        for one in said.get("orders", [])[:SHOWN_ORDERS]
    ]
    lines += [
        f"refused {one['topic']}-{one['partition']}-{one['offset']} {one['instrument']}: "
        f"{one['reason']} ({one['detail']})"
        for one in said.get("refused_decisions", [])[:SHOWN_ORDERS]
    ]
    lines += [f"difference: {one}" for one in said.get("differences", [])]
    lines += [f"order {one} without a result" for one in said.get("unresolved", [])]
    return lines


def _position(held: dict[str, Any] | None, joined: dict[str, Any] | None) -> str:
    parts = ["no open position"]
    if joined is not None and held is None:
        units = joined["direction"] * joined["units"]
        parts = [f"{units:g} units according to the log, not found at the last query of the broker"]
    if held is not None:
        parts = [f"{held['units']:g} units at {held['average_price']:g}"]
        if held.get("unrealized_pl") is not None:
            parts.append(f"unrealised {held['unrealized_pl']:+.2f}")
    if joined is None:
        return ", ".join([*parts, "no run joined"])
    if joined.get("by_operator"):
        return ", ".join([*parts, "opened by an operator's order"])
    return ", ".join([*parts, f"joined, entry bar {clock(joined['entry_bar_ms'])} UTC"])
