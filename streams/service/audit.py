"""The service's producer for ``ops.control``: a mutating call is recorded before it acts."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor

from streams.config.runtime import Runtime
from streams.errors import Fatal, Recoverable
from streams.kafka.control_topic import ControlAppender
from streams.printable import one_line
from streams.records.codec import Codec
from streams.records.events import Control
from streams.service.errors import ApiError

WITHIN_S = 5.0
AGAIN_S = 5

log = logging.getLogger("manifold.audit")


class AuditLog:
    """Writes records one at a time, each acknowledged by all in-sync replicas.

    Parameters
    ----------
    runtime, codec
        The deployment; the codec is for this one alone. The client connects in the background.
    within_s
        Seconds to wait for calls that write, and again for the brokers.
    """

    def __init__(self, runtime: Runtime, codec: Codec, within_s: float = WITHIN_S) -> None:
        self._appender = ControlAppender(runtime, codec, within_s)
        self._within_s = within_s
        # a separate thread: while the log is unavailable, waiting calls must not block threads that
        # others need, above all the kill switch
        self._thread = ThreadPoolExecutor(1, "audit")
        self._turn = asyncio.Lock()

    async def write(self, record: Control) -> int:
        """Append a record; return its offset.

        Raises
        ------
        ApiError
            503: the log did not acknowledge it, so the call must not act.
        """
        try:
            async with asyncio.timeout(self._within_s):
                await self._turn.acquire()
        except TimeoutError:
            raise not_recorded("other calls wait for it") from None
        try:
            loop = asyncio.get_running_loop()
            offsets = await loop.run_in_executor(self._thread, self._appender.append, [record])
        except (Recoverable, Fatal) as error:
            raise not_recorded(str(error)) from error
        finally:
            self._turn.release()
        return offsets[0]

    def close(self) -> None:
        """Close the producer."""
        self._thread.shutdown(wait=False)


def note(what: str, actor: str, reason: str) -> None:
    """Write who changes what and why into the process log too."""
    log.warning("%s by %s: %s", what, one_line(actor), one_line(reason))


def not_recorded(why: str) -> ApiError:
    """Return the answer to a call that was refused because it could not be recorded in the log."""
    detail = f"nothing was done: the call could not be recorded in the log first ({why})"
    return ApiError(503, "not_recorded", detail, retry_after_s=AGAIN_S)
