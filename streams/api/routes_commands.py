"""Commands to the executor about single instruments, and about its limits."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import Field

from streams.api.calls import Call, CallDep
from streams.api.errors import ApiError
from streams.api.live import Live, LiveDep
from streams.api.responses import ABOUT_INSTRUMENT, CONFLICTS
from streams.api.routes_trading import executor_account_id
from streams.api.shapes import INSTRUMENT_FORM, AnySpelling, Said, Shape
from streams.execution.operator_commands import InstrumentCommand, instrument_command, limits_reset

router = APIRouter(tags=["trading"])

CHANGES_ONE = CONFLICTS | ABOUT_INSTRUMENT


class AboutInstrument(Said):
    """The instrument, who asks and why."""

    instrument: Annotated[str, Field(pattern=INSTRUMENT_FORM, examples=["EUR_USD"]), AnySpelling]


class AboutLimit(Said):
    """The limit, who asks and why."""

    limit: Literal["drawdown"]


class CommandGiven(Shape):
    """The command is in ``ops.control``; the executor obeys it when it reads it."""

    offset: int
    detail: str


@router.post("/api/trade/limits/reset", responses=CONFLICTS)
async def reset_limit(given: AboutLimit, live: LiveDep, call: CallDep) -> CommandGiven:
    """Begin a limit anew: the drawdown counts from the account's worth (NAV) at its next look."""
    account_id = executor_account_id(live)
    record = limits_reset(given.limit, account_id, given.actor, given.reason, live.now_ms())
    return _given(live, await call.say(record))


@router.post("/api/trade/pause", responses=CHANGES_ONE)
async def pause(given: AboutInstrument, live: LiveDep, call: CallDep) -> CommandGiven:
    """Let nothing be opened or increased in an instrument until it is resumed."""
    return await _command("pause", given, live, call)


@router.post("/api/trade/resume", responses=CHANGES_ONE)
async def resume(given: AboutInstrument, live: LiveDep, call: CallDep) -> CommandGiven:
    """Let an instrument that was paused be opened and increased again."""
    return await _command("resume", given, live, call)


@router.post("/api/trade/close", responses=CHANGES_ONE)
async def close(given: AboutInstrument, live: LiveDep, call: CallDep) -> CommandGiven:
    """Close now what was opened in an instrument before."""
    return await _command("close", given, live, call)


@router.post("/api/trade/release", responses=CHANGES_ONE)
async def release(given: AboutInstrument, live: LiveDep, call: CallDep) -> CommandGiven:
    """Leave the position in an instrument to its operator; 409 in the paper account.

    It stays open with its brackets and is ours no more; as long as it is open nothing else is
    opened there.
    """
    status = live.facts.executor.status
    if status is not None and status.mode == "paper":
        detail = "the paper account releases nothing: nobody else could look after the position"
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
    return _given(live, await call.say(record))


def _given(live: Live, offset: int) -> CommandGiven:
    detail = (
        f"the command is in ops.control at offset {offset}, and the executor obeys it when it "
        f"reads it ({live.facts.executor.detail})"
    )
    return CommandGiven(offset=offset, detail=detail)
