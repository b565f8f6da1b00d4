"""The kill switch (docs/spec/trading-loop.md 5.3)."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter
from pydantic import ConfigDict, StrictBool, model_validator
from pydantic_core import PydanticCustomError

from streams.service.audit import note
from streams.service.errors import ApiError
from streams.service.global_status import kill_shape
from streams.service.live import LiveDep
from streams.service.responses import CONFLICTS, READS
from streams.service.shapes import KillSwitchShape, Said
from streams.trading.kill_switch.commands import NotCleared, disengage, engage
from streams.trading.kill_switch.reader import KillSwitchState

router = APIRouter(tags=["kill switch"])


class KillSwitchAnswer(KillSwitchShape):
    """The kill switch; ``kill_switch`` and ``enabled`` have the value of ``engaged``."""

    kill_switch: bool
    enabled: bool


class KillSwitchRequest(Said):
    """Exactly one of ``enabled`` and ``kill_switch``: true engages, false disengages.

    Disengaging needs a ``reason``; engaging does not.
    """

    model_config = ConfigDict(extra="forbid", json_schema_extra=lambda schema: _one_of(schema))

    # never read unless given; the default would engage
    enabled: StrictBool = True
    kill_switch: StrictBool = True

    @model_validator(mode="after")
    def _exactly_one(self) -> KillSwitchRequest:
        if len(self._given) != 1:
            raise PydanticCustomError(
                "one_of", "give exactly one of enabled and kill_switch, true or false"
            )
        if not self.engage and "reason" not in self.model_fields_set:
            raise PydanticCustomError("reason", "give a reason to disengage")
        return self

    @property
    def engage(self) -> bool:
        """The requested state."""
        (name,) = self._given
        return bool(getattr(self, name))

    @property
    def _given(self) -> set[str]:
        return self.model_fields_set & {"enabled", "kill_switch"}


def _one_of(schema: dict[str, Any]) -> None:
    names = ("enabled", "kill_switch")
    for name in names:
        del schema["properties"][name]["default"]
    schema["oneOf"] = [{"required": [name]} for name in names]
    engaging = {name: {"const": True} for name in names}
    schema["anyOf"] = [{"required": ["reason"]}, {"properties": engaging}]


def _answer(state: KillSwitchState) -> KillSwitchAnswer:
    shape = kill_shape(state)
    return KillSwitchAnswer(**shape.model_dump(), kill_switch=shape.engaged, enabled=shape.engaged)


@router.get("/api/kill-switch", responses=READS)
async def read_kill_switch(live: LiveDep) -> KillSwitchAnswer:
    """Whether opening and increasing are blocked; closing and reducing never are.

    An "off" was read after the call arrived, so it misses no record acknowledged before.
    """
    return _answer(await live.facts.kill_switch_now())


@router.post("/api/kill-switch", responses=CONFLICTS)
async def set_kill_switch(wanted: KillSwitchRequest, live: LiveDep) -> KillSwitchAnswer:
    """Engage or disengage; actor and reason are recorded in the log; returns the state afterwards.

    Exactly one explicit boolean is required: a body without one never disengages. After an
    effective "off" ``engaged`` is false; otherwise ``why`` lists the remaining reasons.
    """
    name, command = ("engage", engage) if wanted.engage else ("disengage", disengage)
    pen = live.engaging if wanted.engage else live.clearing
    note(f"kill-switch: {name}", wanted.actor, wanted.reason)
    async with pen.lock:
        try:
            await asyncio.to_thread(
                command,
                live.runtime,
                pen.codec,
                wanted.actor,
                wanted.reason,
                live.now_ms(),
                live.kill_settings,
            )
        except NotCleared as error:
            raise ApiError(409, "not_cleared", str(error)) from error
    return _answer(await live.facts.read_kill_switch())
