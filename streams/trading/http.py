"""``/status``, ``/metrics`` and ``/healthz`` of an executor; read-only."""

from __future__ import annotations

import time
from typing import Any

from aiohttp import web
from prometheus_client import generate_latest

from streams.config.status_ports import status_access
from streams.config.trading import Trading
from streams.instants import clock
from streams.process.metrics import METRICS_TYPE
from streams.process.status_access import open_status_port
from streams.trading.closing_pauses import CANNOT_CLOSE
from streams.trading.executor import Executor
from streams.trading.operator_sending import orders_shown
from streams.trading.reports import doubt_words


def status_of(executor: Executor) -> dict[str, Any]:
    """Return the executor's state for ``/status``."""
    parts = executor.parts
    ledger, broker, trading = parts.ledger, parts.broker, parts.trading
    account, kill = executor.account, executor.kill_state
    blocked, checks = executor.blocked, parts.checks
    return {
        "ts_ms": int(time.time() * 1000),
        "venue": trading.trading_venue,
        "account_id": broker.account_id,
        "mode": broker.mode,
        "read_only": trading.read_only,
        "dry_run": trading.dry_run_trades,
        "kill_switch": {
            "engaged": kill.engaged if kill else True,
            "why": list(kill.why) if kill else ["not read yet"],
        },
        "account": None
        if account is None
        else {
            "currency": account.currency,
            "balance": account.balance,
            "nav": account.nav,
            "margin_used": account.margin_used,
            "margin_available": account.margin_available,
            "unrealized_pl": account.unrealized_pl,
        },
        "limits": {
            "peak_nav": ledger.worth.peak,
            "day_start_nav": ledger.worth.at_day_start,
            "drawdown": ledger.worth.drawdown(),
            "daily_loss": ledger.worth.daily_loss(broker.now_ms()),
        },
        "positions": [
            {
                "instrument": position.instrument,
                "units": float(position.units),
                "average_price": position.average_price,
                "unrealized_pl": position.unrealized_pl,
            }
            for position in executor.positions
        ],
        "joined": {
            name: {
                "direction": held.direction,
                "entry_bar_ms": held.entry_bar_ms,
                "units": float(held.units),
                "entry_price": held.entry_price,
                "stop_loss": held.stop_loss,
                "take_profit": held.take_profit,
                "by_operator": held.by_operator,
            }
            for name, held in sorted(ledger.holdings.items())
        },
        "cannot_close": executor.closer.cannot_close,
        "untraded": executor.untraded,
        "unread": dict(executor.reconciler.reading.unread),
        "unresolved": sorted(ledger.unresolved),
        "last_cycle_ms": executor.last_cycle_ms,
        "reconciled": not blocked,
        "unreconciled": blocked,
        "differences": list(executor.remarks),
        "by_hand": executor.reconciler.by_hand,
        "paused": {name: given._asdict() for name, given in executor.commands.paused.items()},
        "waiting": waiting(executor),
        "operator_orders": trading.operator_orders,
        "orders": orders_shown(ledger, executor.operator_orders),
        "blocked": _blocked(executor),
        "foreign": dict(executor.comparison.foreign),
        "last_transaction_id": parts.dispatch.cursor,
        "refused_decisions": [one._asdict() for one in checks.refused],
        "refused_decision_counts": dict(checks.counts),
        "decided_ms": executor.settled.decided_ms,
        "epoch_ms": executor.settled.epoch_ms,
        "reading": parts.following.trouble,
        "config_differs": [one._asdict() for one in parts.followed.differs],
    }


def waiting(executor: Executor) -> dict[str, list[str]]:
    """Return the commands about positions that have not been carried out, as text."""
    ledger, found = executor.parts.ledger, {}
    for name, held in sorted(ledger.holdings.items()):
        command = executor.commands.not_carried_out(name, held.control_offset)
        if command:
            doubts = [f"it waits for {doubt_words(i)}" for i in ledger.waiting(name)]
            found[name] = [command, *doubts]
    return found


def _blocked(executor: Executor) -> dict[str, list[str]]:
    """Return what blocks an instrument: the guards that refused its newest order, or the venue.

    An order is evaluated once, so the result has its time; switches turned off since then (kill
    switch, pause) are left out.
    """
    ledger, kill = executor.parts.ledger, executor.kill_state
    found: dict[str, list[str]] = {name: [why] for name, why in executor.untraded.items()}
    for name in sorted({intent.instrument for intent in ledger.intents.values()}):
        intent = ledger.unsent(name)
        if intent is not None:
            holds = {
                "kill_switch": kill is None or kill.engaged,
                "paused": name in executor.commands.paused,
            }
            failing = [v for v in intent.guards if not v.passed and holds.get(v.guard, True)]
            said = [f"{verdict.guard}: {verdict.detail}" for verdict in failing]
            if said:
                refused = f"refused at {clock(intent.placed_ms)} UTC: {'; '.join(said)}"
                found.setdefault(name, []).append(refused)
    if not executor.parts.broker.takes_client_ids:
        for order_id in ledger.doubtful:
            found.setdefault(ledger.intents[order_id].instrument, []).append(
                "the answer to an order was lost and the account takes no client ids: waits until "
                "the transactions show it by instrument, units and time"
            )
    for name, why in executor.closer.cannot_close.items():
        found.setdefault(name, []).append(f"{CANNOT_CLOSE}: {why}")
    return found


def executor_health(executor: Executor, now: float) -> dict[str, Any]:
    """Return whether an executor is healthy; ``now`` is its monotonic clock."""
    patience_s = executor.parts.trading.cycle_patience_s
    stuck = []
    if now - executor.last_cycle_at > patience_s:
        stuck.append(f"no cycle for {now - executor.last_cycle_at:.0f} s")
    stuck += [f"cannot close {n}: {why}" for n, why in executor.closer.cannot_close.items()]
    if executor.unreconciled:
        stuck.append(executor.unreconciled)
    if executor.parts.checks.trouble:
        stuck.append(executor.parts.checks.trouble)
    if executor.parts.following.trouble:
        stuck.append(executor.parts.following.trouble)
    return {"healthy": not stuck, "stuck": stuck}


def make_executor_web(executor: Executor) -> web.Application:
    """Return the web application with its addresses."""

    async def show_status(_: web.Request) -> web.Response:
        return web.json_response(status_of(executor))

    async def show_metrics(_: web.Request) -> web.Response:
        body = generate_latest(executor.parts.metrics.registry)
        return web.Response(body=body, headers={"Content-Type": METRICS_TYPE})

    async def show_health(_: web.Request) -> web.Response:
        found = executor_health(executor, time.monotonic())
        return web.json_response(found, status=200 if found["healthy"] else 503)

    application = web.Application()
    application.router.add_get("/status", show_status)
    application.router.add_get("/metrics", show_metrics)
    application.router.add_get("/healthz", show_health)
    return application


async def open_page(executor: Executor, trading: Trading) -> web.AppRunner:
    """Serve until the returned runner is cleaned up.

    Raises
    ------
    Fatal
        The port is in use.
    """
    access = status_access(trading.trade_status_host)
    port = trading.trade_status_port
    return await open_status_port(make_executor_web(executor), access, port, "TRADE_STATUS_PORT")
