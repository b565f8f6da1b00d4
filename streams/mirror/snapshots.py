"""Reads candles from Valkey for a manifold snapshot; reads and writes the key of a UTC day.

That key is written on demand only, neither by the mirror nor by a rebuild.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from redis.exceptions import RedisError

from streams.candles.columns import SeriesKey
from streams.candles.record_text import parse_json_text
from streams.candles.rows import candle_from_row
from streams.candles.rules import FileRefused, RowRefused
from streams.candles.times import TimeColumn
from streams.config.runtime import Runtime
from streams.errors import Fatal
from streams.mirror.keys import DAY_MANIFOLD_TTL_SEC, candles_key, day_manifold_key
from streams.mirror.writer import connect, translate_valkey_error
from streams.records.events import Candle
from streams.replay.manifold_files import day_name, manifold_of, packed
from streams.replay.snapshot_candles import Selection


async def read_valkey(runtime: Runtime, key: SeriesKey, chosen: Selection) -> list[Candle]:
    """Return the candles of a series in Valkey that a selection may need, ascending.

    Raises
    ------
    Fatal
        There is no candle, or a member is not a candle.
    Recoverable
        Valkey cannot be reached.
    """
    name = candles_key(*key)
    low: str | int = "-inf" if chosen.since_ms is None else chosen.since_ms
    high: str | int = "+inf" if chosen.until_ms is None else f"({chosen.until_ms}"
    client = connect(runtime)
    try:
        if chosen.days or chosen.last is None:
            members = await client.zrangebyscore(name, low, high)
        else:
            members = await client.zrevrangebyscore(name, high, low, start=0, num=chosen.last + 1)
            members.reverse()
    except (RedisError, OSError) as error:
        raise translate_valkey_error(error, client) from error
    finally:
        await client.aclose()
    if not members:
        raise Fatal(
            f"Valkey has no candles in {name}: is manifold mirror running? To read from the log: "
            f"'manifold snapshot {key.instrument}'"
        )
    times = TimeColumn()
    return [_candle(name, place, text, key, times) for place, text in enumerate(members, 1)]


def _candle(name: str, place: int, text: str, key: SeriesKey, times: TimeColumn) -> Candle:
    try:
        row = parse_json_text(text)
        if not isinstance(row, dict):
            raise ValueError("not an object")
        lower = {str(field).lower(): value for field, value in row.items()}
        return candle_from_row(lower, *key, "file", times, place)
    except (ValueError, RecursionError, RowRefused, FileRefused) as error:
        raise Fatal(
            f"member {place} of {name} in Valkey is not a candle ({error}); remove it, or run "
            "'manifold mirror --rebuild'"
        ) from error


async def store_day(runtime: Runtime, manifold: Mapping[str, Any]) -> str:
    """Write a manifold under the key of the UTC day of its last candle; return the key.

    Raises
    ------
    Fatal, Recoverable
        Valkey refuses the login; it cannot be reached.
    """
    name = day_manifold_key(manifold["instrument"], day_name(manifold))
    client = connect(runtime)
    try:
        await client.set(name, packed(manifold), ex=DAY_MANIFOLD_TTL_SEC)
    except (RedisError, OSError) as error:
        raise translate_valkey_error(error, client) from error
    finally:
        await client.aclose()
    return name


async def read_day(runtime: Runtime, name: str) -> dict[str, Any]:
    """Return the manifold stored under the key of a UTC day.

    Raises
    ------
    Fatal
        The key does not exist, or holds no manifold.
    Recoverable
        Valkey cannot be reached.
    """
    client = connect(runtime, text=False)
    try:
        data: bytes | None = await client.get(name)
    except (RedisError, OSError) as error:
        raise translate_valkey_error(error, client) from error
    finally:
        await client.aclose()
    if data is None:
        raise Fatal(f"Valkey has no {name}; 'manifold snapshot INSTRUMENT --output valkey' sets it")
    return manifold_of(data, name)
