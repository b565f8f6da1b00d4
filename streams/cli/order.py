"""``manifold order``."""

from __future__ import annotations

import secrets
import sys
import time
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

import click

from streams.cli.actor import ACTOR
from streams.cli.executor_command import (
    LOOK_S,
    WAIT,
    ExecutorAccount,
    known_instrument,
    open_account,
    why_it_waits,
)
from streams.cli.output import echo
from streams.cli.reason import REASON
from streams.errors import Fatal, Recoverable
from streams.process.clock_skew import now_ms

if TYPE_CHECKING:
    from streams.trading.operator_orders import Side


class _UnitsType(click.ParamType):
    name = "units"

    def convert(
        self, value: str | Decimal, param: click.Parameter | None, ctx: click.Context | None
    ) -> Decimal:
        try:
            units = Decimal(value)
        except InvalidOperation:
            units = Decimal("NaN")
        if not units.is_finite() or not 0 < units <= 10**12 or units != round(units, 6):
            self.fail(f"{value} is not a number of units above 0, with at most 6 decimals")
        return units


UNITS = _UnitsType()


@click.command()
@click.argument("instrument")
@click.option("--buy", type=UNITS, help="Buy this many units.")
@click.option("--sell", type=UNITS, help="Sell this many units.")
@click.option("--reduce", "reduced", type=UNITS, help="Reduce the position by this many units.")
@click.option(
    "--stop-loss",
    type=click.FloatRange(0.0, min_open=True),
    help="Set the price of the stop loss.  [default: none]",
)
@click.option(
    "--take-profit",
    type=click.FloatRange(0.0, min_open=True),
    help="Set the price of the take profit.  [default: none]",
)
@click.option(
    "--request-id",
    help="Set the idempotency key: the same id again is the same order.  [default: a new id]",
)
@REASON
@ACTOR
@WAIT
def order(
    instrument: str,
    buy: Decimal | None,
    sell: Decimal | None,
    reduced: Decimal | None,
    stop_loss: float | None,
    take_profit: float | None,
    request_id: str | None,
    reason: str,
    actor: str,
    wait_s: float,
) -> None:
    """Send the executor an order in INSTRUMENT: one of --buy, --sell, --reduce.

    An order against an open position reduces it, at most to zero. Any other order needs an executor
    with OPERATOR_ORDERS=open: it opens or increases an operator position, which no backtest run
    manages, within all guards and limits; that position is closed by its --stop-loss or
    --take-profit, by manifold close, or by an opposite order. An order is carried out within a
    minute or not at all. Exit codes: 0 filled; 1 refused by a guard or the broker; 75 not carried
    out, or no answer, after --wait.

    \b
    Examples:
      manifold order EUR_USD --reduce 1000 --reason "half before the news"
      manifold order EUR_USD --buy 500 --stop-loss 1.0950 --reason "a hedge"
    """
    chosen: list[tuple[Side, Decimal]] = []
    for side, units in (("buy", buy), ("sell", sell), ("reduce", reduced)):
        if units is not None:
            chosen.append((side, units))  # type: ignore[arg-type]
    if len(chosen) != 1:
        raise Fatal("give one of --buy, --sell and --reduce")
    here = open_account(reason)
    name = known_instrument(here.control(), here.books(), instrument)
    side, units = chosen[0]
    sys.exit(
        submit_order(
            here,
            name,
            side,
            units,
            actor,
            reason,
            wait_s,
            request_id=request_id,
            stop_loss=stop_loss,
            take_profit=take_profit,
        )
    )


def submit_order(
    here: ExecutorAccount,
    instrument: str,
    side: Side,
    units: Decimal,
    actor: str,
    reason: str,
    wait_s: float,
    *,
    request_id: str | None = None,
    stop_loss: float | None = None,
    take_profit: float | None = None,
) -> int:
    """Write an order, wait for its result, print it, and return the exit code.

    Raises
    ------
    Fatal
        The settings forbid sending, or the request id is invalid.
    Recoverable
        It was not carried out in time, or its result is unknown.
    """
    from streams.trading.operator_orders import REQUEST_ID, order_record

    if here.trading.read_only or here.trading.dry_run_trades:
        raise Fatal("READ_ONLY or DRY_RUN_TRADES is set: nothing is sent; unset it")
    request_id = request_id or secrets.token_hex(8)
    if not REQUEST_ID.fullmatch(request_id):
        raise Fatal(f"--request-id {request_id!r} is not {REQUEST_ID.pattern}")
    record = order_record(
        instrument, here.account_id, request_id, side, units, actor, reason, now_ms(),
        stop_loss=stop_loss, take_profit=take_profit,
    )  # fmt: skip
    offset = here.append(record)
    echo(
        f"order {request_id}: {side} {units:f} {instrument} of account {here.account_id} written "
        f"(ops.control {offset})"
    )
    end = time.monotonic() + wait_s
    while (told := _told(here, request_id)) is None and time.monotonic() < end:
        time.sleep(LOOK_S)
    if told is None:
        raise Recoverable(
            f"order {request_id} has no result after {wait_s:g} s; "
            f"{why_it_waits(here, instrument)}; see exec.orders and exec.fills"
        )
    code, words = told
    echo(words)
    return code


def _told(here: ExecutorAccount, request_id: str) -> tuple[int, str] | None:
    """Return the exit code and a text for the result of an order; None while it is open."""
    ledger = here.books()
    intent = ledger.requests.get(request_id)
    if intent is None:
        return None
    if not intent.submitted:
        failing = [f"{v.guard} ({v.detail})" for v in intent.guards if not v.passed]
        return 1, f"not sent: {'; '.join(failing)}"
    reports = [r for r in ledger.reports.get(intent.order_id, []) if r.status != "unknown"]
    if not reports:
        return None
    last = reports[-1]
    if last.status == "filled":
        return 0, f"{intent.kind}: {last.units:g} units filled at {last.price:g}"
    return 1, f"{last.status}: {last.reason or 'without a reason'}"
