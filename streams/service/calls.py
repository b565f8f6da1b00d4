"""A mutating call: its record in ``ops.control``, written before it acts.

Every such endpoint takes a ``CallDep`` and awaits ``record`` (or ``say``, where the call itself is
a record of another kind) after all checks and before it acts. So a refused call leaves no record,
and a call that cannot be recorded is not carried out. Only the kill switch differs: engaging must
work without the log.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from streams.records.audit import audit_record
from streams.records.events import Control
from streams.service.audit import note
from streams.service.live import Live, LiveDep
from streams.service.shapes import Said


class Call:
    """One call.

    Parameters
    ----------
    live
        The running service.
    operation
        Method and path.
    """

    def __init__(self, live: Live, operation: str) -> None:
        self._live, self._operation = live, operation

    async def record(self, said: Said) -> int:
        """Write an ``audit`` record of the call, its actor and reason; return its offset.

        Raises
        ------
        ApiError
            503: the record was not acknowledged, so the call must not act.
        """
        parameters = said.model_dump(mode="json", exclude=set(Said.model_fields), exclude_none=True)
        return await self.say(
            audit_record(
                self._operation,
                parameters,
                said.actor,
                said.reason,
                self._live.now_ms(),
                getattr(said, "instrument", None),
            )
        )

    async def say(self, word: Control) -> int:
        """Write the command record of the call; return its offset; raises as ``record``."""
        offset = await self._live.audit_log.write(word)
        note(self._operation, word.actor, word.reason)
        return offset


def call_of(request: Request, live: LiveDep) -> Call:
    """Return the call of a request."""
    return Call(live, f"{request.method} {request.scope['route'].path}")


CallDep = Annotated[Call, Depends(call_of)]
