"""A call that changes something: its place in ``ops.control``, before it acts.

Every such endpoint asks for a ``CallDep`` and awaits ``record`` (or ``say``, where a record of
another kind is what the call is) after the last refusal and before the first act. So what is
refused leaves nothing, and what cannot be written is not done. The kill switch alone has a way of
its own: engaging must work without the log.
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
        The service it came to.
    operation
        Method and path.
    """

    def __init__(self, live: Live, operation: str) -> None:
        self._live, self._operation = live, operation

    async def record(self, said: Said) -> int:
        """Write an ``audit`` record of what is asked for, by whom and why; return its offset.

        Raises
        ------
        ApiError
            503: the log did not take it, so the call must not act.
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
        """Write the record that the call is; return its offset; raises as ``record``."""
        offset = await self._live.audit_log.write(word)
        note(self._operation, word.actor, word.reason)
        return offset


def call_of(request: Request, live: LiveDep) -> Call:
    """Return the call that a request is."""
    return Call(live, f"{request.method} {request.scope['route'].path}")


CallDep = Annotated[Call, Depends(call_of)]
