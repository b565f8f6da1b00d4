"""What stands in the mirror and how fresh it is, as any reader of Valkey finds it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from redis.exceptions import RedisError

from streams.config.runtime import Runtime
from streams.instants import GRANULARITY_MS
from streams.mirror import keys
from streams.mirror.writer import connect, translate_error

METRICS: Final = ("coherence", "stability", "entropy", "rupture")


class MirrorSight:
    """Asks Valkey again and again with one connection.

    Parameters
    ----------
    runtime
        The deployment.

    Raises
    ------
    Fatal
        VALKEY_URL or VALKEY_TLS_CA is unusable.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._client, self._pairs = connect(runtime), runtime.hotband_pairs

    async def look(self, granularity: str) -> MirrorFacts:
        """Return what stands in Valkey now.

        Parameters
        ----------
        granularity
            Of the bars.

        Raises
        ------
        Fatal, Recoverable
            As ``mirror_facts``.
        """
        return await mirror_facts(self._client, self._pairs, granularity)

    async def close(self) -> None:
        """Give up the connection."""
        await self._client.aclose()


async def mirror_facts(client: Any, pairs: Sequence[str], granularity: str) -> MirrorFacts:
    """Return what stands in Valkey for ``pairs``, in one round trip.

    Parameters
    ----------
    client
        Connection of ``streams.mirror.writer.connect``.
    granularity
        Of the bars: candles and signals are scored by the start of theirs.

    Raises
    ------
    Recoverable
        Valkey cannot be reached.
    Fatal
        The login or the certificate is refused.
    """
    length_ms = GRANULARITY_MS[granularity]
    pipeline = client.pipeline(transaction=False)
    for name in (keys.GATES_BLOB, keys.ALLOCATOR_STATUS, keys.ALLOCATION_WEIGHTS):
        pipeline.get(name)
    for pair in pairs:
        # the mirror writes the last value before the history: what is in this is in that as well
        pipeline.zrange(keys.history_key(pair), -1, -1, withscores=True)
        pipeline.get(keys.manifold_key(pair))
        pipeline.zrange(keys.signal_index_key(pair), -1, -1, withscores=True)
        pipeline.hget(keys.GUARD, keys.eligible_key(pair))
        pipeline.zrange(keys.candles_key(pair, granularity), -1, -1, withscores=True)
    try:
        blob, status, weights, *rest = await pipeline.execute()
    except (RedisError, OSError) as error:
        raise translate_error(error) from error
    manifolds, signals, decided, candles = {}, {}, {}, {}
    for place, pair in enumerate(pairs):
        history, last, index, guard, series = rest[5 * place : 5 * place + 5]
        manifolds[pair] = _manifold(last, history)
        signals[pair] = int(index[-1][1]) + length_ms if index else None
        decided[pair] = None if guard is None else int(guard)
        candles[pair] = int(series[-1][1]) + length_ms if series else None
    return MirrorFacts(
        manifolds,
        signals,
        _stamp(blob, "ts"),
        _stamp(status, "ts_ms"),
        _weighted(weights),
        decided,
        candles,
    )


def _manifold(last: str | None, history: Sequence[Any]) -> MirroredManifold:
    newest = int(history[-1][1]) if history else None
    if last is None:
        return MirroredManifold(newest, there=False)
    content = _object(last)
    metrics = content.get("metrics")
    found = metrics if isinstance(metrics, dict) else {}
    missing = tuple(name for name in METRICS if not isinstance(found.get(name), int | float))
    stamp = content.get("ts_ms")
    return MirroredManifold(stamp if isinstance(stamp, int) else newest, missing)


def _stamp(text: str | None, field: str) -> int | None:
    stamp = _object(text).get(field)
    return stamp if isinstance(stamp, int) else None


def _weighted(text: str | None) -> int | None:
    if text is None:
        return None
    return sum(isinstance(w, int | float) and w > 0 for w in _object(text).values())


def _object(text: str | None) -> dict[str, Any]:
    """Return a JSON object; what is none has no fields, and is then missed by name."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class MirroredManifold(NamedTuple):
    """An instrument's manifold as a reader of Valkey finds it.

    Attributes
    ----------
    as_of_ms
        Of the newest one: ``ws:last:manifold``, or the history where that is not there.
    missing
        Names of metrics that ``ws:last:manifold`` should have and has not.
    there
        Whether ``ws:last:manifold`` is there.
    """

    as_of_ms: int | None
    missing: tuple[str, ...] = ()
    there: bool = True


class MirrorFacts(NamedTuple):
    """What stands in Valkey.

    Attributes
    ----------
    manifolds, signals
        Instrument -> its newest manifold; newest ``as_of_ms`` of its index of signals.
    blob_ms, status_ms
        Of ``opt:rolling:gates_blob`` and ``opt:allocator:status``; None when absent.
    weighted
        Instruments with weight in ``risk:allocation_weights``; None when absent.
    decided
        Instrument -> ``as_of_ms`` of the verdict in ``opt:rolling:eligible``.
    candles
        Instrument -> ``as_of_ms`` of the newest one in ``md:candles``.
    """

    manifolds: Mapping[str, MirroredManifold] = NOTHING
    signals: Mapping[str, int | None] = NOTHING
    blob_ms: int | None = None
    status_ms: int | None = None
    weighted: int | None = None
    decided: Mapping[str, int | None] = NOTHING
    candles: Mapping[str, int | None] = NOTHING
