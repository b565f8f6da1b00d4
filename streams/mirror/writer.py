"""Writes into Valkey, pipelined; each is one script, so that no reader sees half of it."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Any

import redis.asyncio as valkey
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from streams.connection import tls_context
from streams.errors import Fatal, Recoverable
from streams.mirror import keys
from streams.mirror.shapes import Latest, Point, Write
from streams.settings import Runtime

# KEYS: value, guard; ARGV: as_of_ms, value, expires_ms or "", channel or ""
LATEST = """
local known = redis.call('HGET', KEYS[2], KEYS[1])
if known and tonumber(known) >= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[2], KEYS[1], ARGV[1])
if ARGV[3] == '' then redis.call('SET', KEYS[1], ARGV[2])
else redis.call('SET', KEYS[1], ARGV[2], 'PXAT', ARGV[3]) end
if ARGV[4] ~= '' then redis.call('PUBLISH', ARGV[4], ARGV[2]) end
return 1
"""

# KEYS: series, value key or series; ARGV: at_ms, member, value, newest, span_ms
POINT = """
local at = tonumber(ARGV[1])
local added = 0
if redis.call('ZCOUNT', KEYS[1], at, at) == 0 then
  redis.call('ZADD', KEYS[1], at, ARGV[2])
  if KEYS[2] ~= KEYS[1] then redis.call('SET', KEYS[2], ARGV[3]) end
  added = 1
end
local newest, span = tonumber(ARGV[4]), tonumber(ARGV[5])
if newest > 0 then
  local over = redis.call('ZCARD', KEYS[1]) - newest
  if over > 0 then
    for _, member in ipairs(redis.call('ZRANGE', KEYS[1], 0, over - 1)) do
      redis.call('ZREM', KEYS[1], member)
      if KEYS[2] ~= KEYS[1] then redis.call('DEL', member) end
    end
  end
end
if span > 0 then
  local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
  if last[2] then
    local first = string.format('%.0f', tonumber(last[2]) - span)
    redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. first)
  end
end
return added
"""


def connect(runtime: Runtime) -> Any:
    """Return a client of ``VALKEY_URL``.

    Raises
    ------
    Fatal
        The address or the CA file is unusable; the password is never shown.
    """
    options: dict[str, Any] = {}
    if runtime.valkey_url.startswith("rediss://") and runtime.valkey_tls_ca:
        tls_context("VALKEY_TLS_CA", runtime.valkey_tls_ca)
        options["ssl_ca_certs"] = runtime.valkey_tls_ca
    try:
        return valkey.Redis.from_url(
            runtime.valkey_url, decode_responses=True, socket_connect_timeout=5, **options
        )
    except ValueError as error:
        raise Fatal("VALKEY_URL is no redis:// or rediss:// address") from error


class MirrorWriter:
    """Applies writes to one Valkey database.

    Parameters
    ----------
    client
        Connection.
    publish
        Whether new last values are published too; a rebuild tells nobody what is long past.
    """

    def __init__(self, client: Any, publish: bool = True) -> None:
        self._client, self._publish = client, publish
        self.written = 0
        self.guarded = 0

    async def apply(self, writes: Sequence[Write]) -> None:
        """Write in order, in one round trip.

        Of several last values of one key only the newest is sent.

        Raises
        ------
        Recoverable
            Valkey cannot be reached; the same writes again do no harm.
        Fatal
            The login or the certificate is refused.
        """
        newest: dict[str, int] = {}
        for write in writes:
            if isinstance(write, Latest):
                newest[write.key] = max(newest.get(write.key, -1), write.as_of_ms)
        try:
            latest = await self._client.script_load(LATEST)
            point = await self._client.script_load(POINT)
            pipeline = self._client.pipeline(transaction=False)
            for write in writes:
                if isinstance(write, Point):
                    pipeline.evalsha(point, 2, *_point(write))
                elif write.as_of_ms == newest[write.key]:
                    pipeline.evalsha(latest, 2, *_latest(write, self._publish))
            for done in await pipeline.execute():
                self.written += done
                self.guarded += 1 - done
        except (RedisError, OSError) as error:
            raise explained(error) from error


def _latest(write: Latest, publish: bool) -> tuple[str | int, ...]:
    expires = "" if write.expires_ms is None else write.expires_ms
    channel = (write.channel or "") if publish else ""
    return write.key, keys.GUARD, write.as_of_ms, write.value, expires, channel


def _point(write: Point) -> tuple[str | int, ...]:
    return (
        *(write.key, write.value_key or write.key, write.at_ms, write.member),
        *(write.value, write.newest, write.span_ms),
    )


def explained(error: Exception) -> Fatal | Recoverable:
    """Return what the client raised as one of the two roots; the password is never shown."""
    said = str(error).split("//")[0] or type(error).__name__
    if isinstance(error, AuthenticationError | NoPermissionError):
        return Fatal(f"Valkey refuses the login of VALKEY_URL: {said}")
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Fatal(
                f"the certificate of Valkey is not trusted: {cause.verify_message}; "
                "set VALKEY_TLS_CA"
            )
        cause = cause.__cause__ or cause.__context__
    return Recoverable(f"Valkey (VALKEY_URL) does not answer: {said}")


async def clear(client: Any) -> int:
    """Remove every key the mirror writes, and no other; return how many there were.

    Raises
    ------
    Recoverable
        Valkey cannot be reached.
    """
    removed = 0
    try:
        for kind in keys.KEYS:
            batch = []
            async for name in client.scan_iter(match=kind.glob, count=1000):
                batch.append(name)
                if len(batch) >= 1000:
                    removed += await client.unlink(*batch)
                    batch = []
            if batch:
                removed += await client.unlink(*batch)
    except (RedisError, OSError) as error:
        raise explained(error) from error
    return removed


async def snapshot(client: Any) -> dict[str, object]:
    """Return everything the mirror holds, TTLs aside, to compare two mirrors."""
    found: dict[str, object] = {}
    for kind in keys.KEYS:
        async for name in client.scan_iter(match=kind.glob, count=1000):
            stored = await client.type(name)
            if stored == "zset":
                found[name] = await client.zrange(name, 0, -1, withscores=True)
            elif stored == "hash":
                found[name] = await client.hgetall(name)
            else:
                found[name] = await client.get(name)
    return found
