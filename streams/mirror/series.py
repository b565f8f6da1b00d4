"""Reads series from the mirror: candles and the history of manifolds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from redis.exceptions import RedisError

from streams.config.runtime import Runtime
from streams.errors import Recoverable
from streams.mirror import keys
from streams.mirror.probe import MirrorFacts, mirror_facts
from streams.mirror.writer import connect, translate_valkey_error

ANSWER_S = 3.0


class Mirror:
    """Reads series from Valkey; a failed read is an error, never an empty series.

    Parameters
    ----------
    runtime
        The deployment.

    Raises
    ------
    Fatal
        The address or the CA file is unusable.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._client = connect(runtime)

    async def close(self) -> None:
        """Close the connection."""
        await self._client.aclose()

    async def candles(self, instrument: str, granularity: str, limit: int) -> list[dict[str, Any]]:
        """Return the last candles, ascending.

        Raises
        ------
        Recoverable, Fatal
            Valkey does not answer, or refuses.
        """
        return await self._series(keys.candles_key(instrument, granularity), limit)

    async def manifolds(self, instrument: str, limit: int) -> list[dict[str, Any]]:
        """Return the last manifolds of 24 hours, ascending; errors as ``candles``."""
        return await self._series(keys.history_key(instrument), limit)

    async def facts(self, instruments: Sequence[str], granularity: str) -> MirrorFacts:
        """Return the mirror's values for some instruments; errors as ``candles``."""
        asking = mirror_facts(self._client, instruments, granularity)
        found: MirrorFacts = await self._asked(asking)
        return found

    async def _series(self, key: str, limit: int) -> list[dict[str, Any]]:
        texts = await self._asked(self._client.zrange(key, -limit, -1))
        try:
            members = [json.loads(text, parse_constant=_no_constant) for text in texts]
        except (ValueError, RecursionError):
            members = [None]
        if not all(isinstance(member, dict) for member in members):
            raise Recoverable(
                f"{key} in Valkey has a member of another writer: remove it, or run manifold "
                "mirror --rebuild"
            )
        return members

    async def _asked(self, asking: Any) -> Any:
        try:
            return await asyncio.wait_for(asking, ANSWER_S)
        except TimeoutError as error:
            raise Recoverable(
                f"Valkey (VALKEY_URL) gave no answer within {ANSWER_S:g} s"
            ) from error
        except (RedisError, OSError) as error:
            raise translate_valkey_error(error, self._client) from error


def _no_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")
