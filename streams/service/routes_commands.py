"""Commands to the executor about single instruments, and about its limits."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import Field

from streams.service.calls import Call, CallDep
from streams.service.errors import ApiError
from streams.service.live import Live, LiveDep
from streams.service.responses import ABOUT_INSTRUMENT, CONFLICTS
from streams.service.routes_orders import CommandGiven, RequestId, Units, asked_of, give_order
from streams.service.routes_trading import executor_account_id
from streams.service.shapes import INSTRUMENT_FORM, AnySpelling, Said
from streams.trading.operator_commands import (
    Commands,
    InstrumentCommand,
    commands_of,
    instrument_command,
    limits_reset,
)

router = APIRouter(tags=["trading"])

CHANGES_ONE = CONFLICTS | ABOUT_INSTRUMENT


class AboutInstrument(Said):
    """The instrument, who asks and why."""

    instrument: Annotated[str, Field(pattern=INSTRUMENT_FORM, examples=["EUR_USD"]), AnySpelling]


class AboutClosing(AboutInstrument):
    """The instrument, how much of it, who asks and why."""

    units: Units | None = None
    request_id: RequestId | None = None


class AboutLimit(Said):
    """The limit, who asks and why."""

    limit: Literal["drawdown"]


@router.post("/api/trade/limits/reset", responses=CONFLICTS)
async def reset_limit(given: AboutLimit, live: LiveDep, call: CallDep) -> CommandGiven:
    """Reset a limit: the drawdown is measured from the NAV at the executor's next reading."""
    account_id = executor_account_id(live)
    record = limits_reset(given.limit, account_id, given.actor, given.reason, live.now_ms())
    return _given(live, await call.say(record), "")


@router.post("/api/trade/pause", responses=CHANGES_ONE)
async def pause(given: AboutInstrument, live: LiveDep, call: CallDep) -> CommandGiven:
    """Block opening and increasing in an instrument until it is resumed."""
    return await _command("pause", given, live, call)


@router.post("/api/trade/resume", responses=CHANGES_ONE)
async def resume(given: AboutInstrument, live: LiveDep, call: CallDep) -> CommandGiven:
    """Allow opening and increasing in a paused instrument again."""
    return await _command("resume", given, live, call)


@router.post("/api/trade/close", responses=CHANGES_ONE)
async def close(given: AboutClosing, live: LiveDep, call: CallDep) -> CommandGiven:
    """Close the position in an instrument now; with ``units`` only that part.

    Closing a part is an order of side ``reduce``: GET /api/order returns its result.
    """
    if given.units is None:
        return await _command("close", given, live, call)
    return await give_order(asked_of(given, "reduce", given.units), live, call)


@router.post("/api/trade/release", responses=CHANGES_ONE)
async def release(given: AboutInstrument, live: LiveDep, call: CallDep) -> CommandGiven:
    """Hand the position in an instrument over to the operator; 409 in the paper account.

    It stays open with its brackets and is no longer managed; while it is open no other position is
    opened there.
    """
    status = live.facts.executor.status
    if status is not None and status.mode == "paper":
        detail = "a position of the paper account cannot be released: nobody else could close it"
        raise ApiError(409, "no_release", detail)
    return await _command("release", given, live, call)


async def _command(
    kind: InstrumentCommand, given: AboutInstrument, live: Live, call: Call
) -> CommandGiven:
    account_id = executor_account_id(live)
    live.require_instrument(given.instrument)
    record = instrument_command(
        kind, given.instrument, account_id, given.actor, given.reason, live.now_ms()
    )
    status = live.facts.executor.status
    before = commands_of(live.view.control.records, account_id)
    nothing = changes_nothing(kind, given.instrument, before, set(status.joined if status else ()))
    return _given(live, await call.say(record), nothing)


def changes_nothing(
    kind: InstrumentCommand, instrument: str, before: Commands, held: Collection[str]
) -> str:
    """Return why a command has no effect, as far as known; empty when it has.

    Parameters
    ----------
    before
        The earlier commands.
    held
        Instruments in which the executor has a position.
    """
    paused = before.paused.get(instrument)
    if kind == "pause":
        return "" if paused is None else f"{instrument} is paused already {paused.words}"
    if kind == "resume":
        return "" if paused is not None else f"{instrument} is not paused: nothing to resume"
    return "" if instrument in held else f"no position of the executor in {instrument} to {kind}"


def _given(live: Live, offset: int, nothing: str) -> CommandGiven:
    place = f"the command is in ops.control at offset {offset}"
    if nothing:
        return CommandGiven(offset=offset, detail=f"{nothing}; {place}")
    detail = (
        f"{place}, and the executor carries it out when it reads it ({live.facts.executor.detail})"
    )
    return CommandGiven(offset=offset, detail=detail)
