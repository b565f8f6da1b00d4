"""Reads the mirror's values and their age from Valkey."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from redis.exceptions import RedisError

from streams.config.runtime import Runtime
from streams.instants import GRANULARITY_MS
from streams.mirror import keys
from streams.mirror.process_starts import read_starts
from streams.mirror.writer import MOST_DIGITS, connect, translate_valkey_error
from streams.process.clock_skew import now_ms

MOST_INSTANT: Final = 10**MOST_DIGITS
METRICS: Final = ("coherence", "stability", "entropy", "rupture")


class MirrorSight:
    """Queries Valkey repeatedly over one connection.

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
        """Return the mirror's current values.

        Parameters
        ----------
        granularity
            Bar length.

        Raises
        ------
        Fatal, Recoverable
            As ``mirror_facts``.
        """
        found = await mirror_facts(self._client, self._pairs, granularity)
        return found._replace(starts=await read_starts(self._client, now_ms()))

    async def close(self) -> None:
        """Close the connection."""
        await self._client.aclose()


async def mirror_facts(client: Any, pairs: Sequence[str], granularity: str) -> MirrorFacts:
    """Return the mirror's values for ``pairs``, read in one round trip.

    Parameters
    ----------
    client
        Connection of ``streams.mirror.writer.connect``.
    granularity
        Bar length: candles and signals are scored by the start of their bar.

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
        # the mirror writes the last value before the history: a history entry implies the last
        # value
        pipeline.zrange(keys.history_key(pair), -1, -1, withscores=True)
        pipeline.get(keys.manifold_key(pair))
        pipeline.zrange(keys.signal_index_key(pair), -1, -1, withscores=True)
        pipeline.hget(keys.GUARD, keys.eligible_key(pair))
        pipeline.zrange(keys.candles_key(pair, granularity), -1, -1, withscores=True)
    try:
        blob, status, weights, *rest = await pipeline.execute()
    except (RedisError, OSError) as error:
        raise translate_valkey_error(error, client) from error
    manifolds, signals, decided, candles = {}, {}, {}, {}
    for place, pair in enumerate(pairs):
        history, last, index, guard, series = rest[5 * place : 5 * place + 5]
        manifolds[pair] = _manifold(last, history)
        signals[pair] = _bar_end(index, length_ms)
        decided[pair] = _instant(guard)
        candles[pair] = _bar_end(series, length_ms)
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
    newest = _bar_end(history, 0)
    if last is None:
        return MirroredManifold(newest, there=False)
    content = _object(last)
    metrics = content.get("metrics")
    found = metrics if isinstance(metrics, dict) else {}
    missing = tuple(name for name in METRICS if not isinstance(found.get(name), int | float))
    stamp = _stamp(last, "ts_ms")
    return MirroredManifold(newest if stamp is None else stamp, missing)


def _bar_end(members: Sequence[Any], length_ms: int) -> int | None:
    """Return the end of the last bar of a series; None without one, and for a score of others."""
    score = members[-1][1] if members else None
    if score is None or not 0 <= score < MOST_INSTANT:
        return None
    return int(score) + length_ms


def _instant(text: str | None) -> int | None:
    """Return an instant of the mirror; None for text that another writer has stored."""
    known = text is not None and text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS
    return int(text) if text is not None and known else None


def _stamp(text: str | None, field: str) -> int | None:
    stamp = _object(text).get(field)
    return stamp if isinstance(stamp, int) and 0 <= stamp < MOST_INSTANT else None


def _weighted(text: str | None) -> int | None:
    if text is None:
        return None
    return sum(isinstance(w, int | float) and w > 0 for w in _object(text).values())


def _object(text: str | None) -> dict[str, Any]:
    """Parse a JSON object; anything else gives no fields, so that each is reported as missing."""
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class MirroredManifold(NamedTuple):
    """An instrument's last manifold in Valkey.

    Attributes
    ----------
    as_of_ms
        Of the newest one: ``ws:last:manifold``, or the history where that key is absent.
    missing
        Names of metrics missing in ``ws:last:manifold``.
    there
        Whether ``ws:last:manifold`` exists.
    """

    as_of_ms: int | None
    missing: tuple[str, ...] = ()
    there: bool = True


class MirrorFacts(NamedTuple):
    """The mirror's values in Valkey.

    Attributes
    ----------
    manifolds, signals
        Instrument -> its newest manifold; newest ``as_of_ms`` of its signal index.
    blob_ms, status_ms
        Of ``opt:rolling:gates_blob`` and ``opt:allocator:status``; None when absent.
    weighted
        Number of instruments with weight in ``risk:allocation_weights``; None when absent.
    decided
        Instrument -> ``as_of_ms`` of ``opt:rolling:eligible``.
    candles
        Instrument -> ``as_of_ms`` of its newest candle in ``md:candles``.
    starts
        Process -> its starts of the last hour, epoch ms; None when not read.
    """

    manifolds: Mapping[str, MirroredManifold] = NOTHING
    signals: Mapping[str, int | None] = NOTHING
    blob_ms: int | None = None
    status_ms: int | None = None
    weighted: int | None = None
    decided: Mapping[str, int | None] = NOTHING
    candles: Mapping[str, int | None] = NOTHING
    starts: Mapping[str, tuple[int, ...]] | None = None
