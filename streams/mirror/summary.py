"""Reads a few values of the mirror, for the end of a demonstration."""

from __future__ import annotations

from typing import NamedTuple

from redis.exceptions import RedisError

from streams.config.runtime import Runtime
from streams.mirror.keys import ALLOCATION_WEIGHTS
from streams.mirror.writer import connect, translate_valkey_error


class MirrorSummary(NamedTuple):
    """A few values of Valkey.

    Attributes
    ----------
    keys
        Number of keys.
    weights
        The JSON text of ``risk:allocation_weights``, None when there is none.
    """

    keys: int
    weights: str | None


async def read_summary(runtime: Runtime) -> MirrorSummary:
    """Read the number of keys and the weights.

    Raises
    ------
    Recoverable
        Valkey cannot be reached.
    Fatal
        The login or the certificate is refused.
    """
    client = connect(runtime)
    try:
        weights = await client.get(ALLOCATION_WEIGHTS)
        text = weights.decode() if isinstance(weights, bytes) else weights
        return MirrorSummary(int(await client.dbsize()), text)
    except RedisError as error:
        raise translate_valkey_error(error, client) from error
    finally:
        await client.aclose()
