"""Writes into Valkey, pipelined; each write is one script, so that readers see it complete."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import redis.asyncio as valkey
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from streams.config.runtime import Runtime
from streams.errors import Fatal, Recoverable
from streams.kafka.client import tls_context
from streams.mirror import keys
from streams.mirror.shapes import Latest, Point, SeriesMember, Write

_REFUSED_IN_SCRIPT = ("ACL failure in script", "The user executing the script can't")

MOST_DIGITS = 18
"""Maximum number of digits of an offset."""

log = logging.getLogger("manifold.mirror")

# KEYS: value, guard; ARGV: as_of_ms, value, expires_ms or "", channel or ""
LATEST = """
local known = redis.call('HGET', KEYS[2], KEYS[1])
if known and string.match(known, '^%d+$') and tonumber(known) >= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[2], KEYS[1], ARGV[1])
if ARGV[3] == '' then redis.call('SET', KEYS[1], ARGV[2])
else redis.call('SET', KEYS[1], ARGV[2], 'PXAT', ARGV[3]) end
if ARGV[4] ~= '' then redis.call('PUBLISH', ARGV[4], ARGV[2]) end
return 1
"""

# KEYS: series, value key or series; ARGV: at_ms, member, value, newest, span_ms, gone_ms or ""
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
    -- a lowered limit is reached over several writes: a script blocks the server while it runs
    for _, member in ipairs(redis.call('ZRANGE', KEYS[1], 0, math.min(over, 1000) - 1)) do
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
if ARGV[6] ~= '' and redis.call('PEXPIRETIME', KEYS[1]) < tonumber(ARGV[6]) then
  redis.call('PEXPIREAT', KEYS[1], ARGV[6])
end
return added
"""

# KEYS: series; ARGV: at_ms, member, newest
ENTRY = """
local added = redis.call('ZADD', KEYS[1], 'NX', ARGV[1], ARGV[2])
local over = redis.call('ZCARD', KEYS[1]) - tonumber(ARGV[3])
if over > 0 then redis.call('ZREMRANGEBYRANK', KEYS[1], 0, over - 1) end
return added
"""

# KEYS: positions; ARGV: one or more of (field, position before or "", position after)
ADVANCE = """
local moved = 1
for i = 1, #ARGV, 3 do
  local known = redis.call('HGET', KEYS[1], ARGV[i]) or ''
  if not (string.match(known, '^%d+$') and #known <= 18) then known = '' end
  if known == ARGV[i + 1] then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2])
  else moved = 0 end
end
return moved
"""

# KEYS: positions; ARGV: one or more of (field, position)
REACH = """
for i = 1, #ARGV, 2 do
  local known = redis.call('HGET', KEYS[1], ARGV[i])
  if not known or not string.match(known, '^%d+$') or tonumber(known) < tonumber(ARGV[i + 1]) then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
return 1
"""


class Advance(NamedTuple):
    """A step of one partition: the records between the two positions are in the same batch."""

    field: str
    before: int | None
    after: int


def valkey_options(runtime: Runtime) -> dict[str, Any]:
    """Return the connection options of a client of ``VALKEY_URL``, except the address.

    Raises
    ------
    Fatal
        The CA file is unusable.
    """
    if not (runtime.valkey_url.startswith("rediss://") and runtime.valkey_tls_ca):
        return {}
    tls_context("VALKEY_TLS_CA", runtime.valkey_tls_ca)
    return {"ssl_ca_certs": runtime.valkey_tls_ca}


def connect(runtime: Runtime, *, text: bool = True) -> Any:
    """Return a client of ``VALKEY_URL``.

    Parameters
    ----------
    runtime
        The deployment.
    text
        Whether values are text; bytes otherwise.

    Raises
    ------
    Fatal
        The address or the CA file is unusable; the password is never shown.
    """
    options = valkey_options(runtime)
    try:
        return valkey.Redis.from_url(
            runtime.valkey_url, decode_responses=text, socket_connect_timeout=5, **options
        )
    except ValueError as error:
        raise Fatal("VALKEY_URL is not a redis:// or rediss:// address") from error


class MirrorWriter:
    """Applies writes to one Valkey database.

    Parameters
    ----------
    client
        Connection.
    publish
        Whether new last values are published too; a rebuild publishes nothing.
    """

    def __init__(self, client: Any, publish: bool = True) -> None:
        self._client, self._publish = client, publish
        self.written = 0
        self.guarded = 0
        self._named: set[str] = set()

    async def positions(self, fields: Sequence[str]) -> list[int | None]:
        """Return the stored position of each partition; None when missing or malformed.

        Raises
        ------
        Recoverable, Fatal
            As ``apply``.
        """
        if not fields:
            return []
        try:
            found = await self._client.hmget(keys.POSITIONS, fields)
        except (RedisError, OSError) as error:
            types = {keys.POSITIONS: "hash"}
            if not (_wrong_type(error) and await self._remove_wrong_types(types)):
                raise translate_valkey_error(error, self._client) from error
            found = [None] * len(fields)
        return [self._position(field, text) for field, text in zip(fields, found, strict=True)]

    async def apply(self, writes: Sequence[Write], advances: Sequence[Advance] = ()) -> bool:
        """Write in order, in one round trip, and the positions after that.

        Of several last values of one key only the newest is sent. If Valkey loses writes, it loses
        the latest ones, so a position is never ahead of the values.

        Returns
        -------
        bool
            Whether every stored position was the start of its advance. A position that was not is
            left unchanged: Valkey lost writes, or another mirror wrote them.

        Raises
        ------
        Recoverable
            Valkey cannot be reached; the writes are idempotent and can be repeated.
        Fatal
            The login, the certificate or a right is refused.

        Notes
        -----
        A key that holds a value of another type than the mirror writes is removed and written anew.
        """
        try:
            return await self._apply(writes, advances)
        except ResponseError as error:
            types = {keys.GUARD: "hash", keys.POSITIONS: "hash"}
            types |= {one.key: "zset" for one in writes if not isinstance(one, Latest)}
            if not (_wrong_type(error) and await self._remove_wrong_types(types)):
                raise translate_valkey_error(error, self._client) from error
        except (RedisError, OSError) as error:
            raise translate_valkey_error(error, self._client) from error
        try:
            return await self._apply(writes, advances)
        except (RedisError, OSError) as error:
            raise translate_valkey_error(error, self._client) from error

    async def _apply(self, writes: Sequence[Write], advances: Sequence[Advance]) -> bool:
        newest: dict[str, int] = {}
        for write in writes:
            if isinstance(write, Latest):
                newest[write.key] = max(newest.get(write.key, -1), write.as_of_ms)
        latest = await self._client.script_load(LATEST)
        point = await self._client.script_load(POINT)
        entry = await self._client.script_load(ENTRY)
        advance = await self._client.script_load(ADVANCE)
        pipeline = self._client.pipeline(transaction=False)
        for write in writes:
            if isinstance(write, Point):
                pipeline.evalsha(point, 2, *_point(write))
            elif isinstance(write, SeriesMember):
                pipeline.evalsha(entry, 1, write.key, write.at_ms, write.member, write.newest)
            elif write.as_of_ms == newest[write.key]:
                pipeline.evalsha(latest, 2, *_latest(write, self._publish))
        # the positions are moved only when everything before them is written
        done = await pipeline.execute()
        moved = await self._client.evalsha(advance, 1, keys.POSITIONS, *_advances(advances))
        self.written += sum(done)
        self.guarded += len(done) - sum(done)
        return bool(moved)

    def _position(self, field: str, text: str | bytes | None) -> int | None:
        if text is None:
            return None
        shown = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        if shown.isascii() and shown.isdigit() and len(shown) <= MOST_DIGITS:
            return int(shown)
        self._name_once(field, f"{field}: the position in Valkey is no offset: {shown[:64]!r}")
        return None

    async def _remove_wrong_types(self, types: Mapping[str, str]) -> bool:
        """Remove the keys whose value has another type; return whether there were any."""
        removed = 0
        try:
            for key, kind in types.items():
                found = await self._client.type(key)
                found = found.decode() if isinstance(found, bytes) else found
                if found not in ("none", kind):
                    self._name_once(key, f"{key} in Valkey is a {found}, no {kind}: written anew")
                    removed += await self._client.unlink(key)
        except (RedisError, OSError) as error:
            raise translate_valkey_error(error, self._client) from error
        return removed > 0

    def _name_once(self, what: str, words: str) -> None:
        if what not in self._named:
            self._named.add(what)
            log.warning("%s", words)

    async def reach(self, positions: Mapping[str, int]) -> None:
        """Move positions forward to those of a rebuild that began at the first record.

        Raises
        ------
        Recoverable, Fatal
            As ``apply``.
        """
        if not positions:
            return
        pairs = [part for item in positions.items() for part in item]
        try:
            await self._client.eval(REACH, 1, keys.POSITIONS, *pairs)
        except (RedisError, OSError) as error:
            raise translate_valkey_error(error, self._client) from error

    async def run_id(self) -> str:
        """Return the server's run id; another run may have lost the last writes.

        Raises
        ------
        Recoverable, Fatal
            As ``apply``.
        """
        try:
            return str((await self._client.info("server"))["run_id"])
        except (RedisError, OSError) as error:
            raise translate_valkey_error(error, self._client) from error


def _wrong_type(error: Exception) -> bool:
    return "WRONGTYPE" in str(error)


def _latest(write: Latest, publish: bool) -> tuple[str | int, ...]:
    expires = "" if write.expires_ms is None else write.expires_ms
    channel = (write.channel or "") if publish else ""
    return write.key, keys.GUARD, write.as_of_ms, write.value, expires, channel


def _point(write: Point) -> tuple[str | int, ...]:
    return (
        *(write.key, write.value_key or write.key, write.at_ms, write.member),
        *(write.value, write.newest, write.span_ms),
        "" if write.gone_ms is None else write.gone_ms,
    )


def _advances(advances: Sequence[Advance]) -> list[str | int]:
    parts: list[str | int] = []
    for field, before, after in advances:
        parts += [field, "" if before is None else before, after]
    return parts


def is_refused_right(error: Exception) -> bool:
    """Return whether the server has refused a command, key or channel to the user."""
    if isinstance(error, NoPermissionError):
        return True
    text = str(error)
    return isinstance(error, ResponseError) and any(words in text for words in _REFUSED_IN_SCRIPT)


def user_of(client: Any) -> str:
    """Return the name of a client's user."""
    return str(client.connection_pool.connection_kwargs.get("username") or "default")


def translate_valkey_error(error: Exception, client: Any = None) -> Fatal | Recoverable:
    """Translate an error of a client into Fatal or Recoverable; the password is never shown.

    Parameters
    ----------
    error
        Its error.
    client
        The client, so that the message can name its user.
    """
    said = str(error).split("//")[0] or type(error).__name__
    if isinstance(error, AuthenticationError):
        return Fatal(f"Valkey refuses the login of VALKEY_URL: {said}")
    if is_refused_right(error):
        who = "the user" if client is None else f"the user {user_of(client)!r}"
        return Fatal(
            f"Valkey refuses {who} of VALKEY_URL a right: {said}; grant the commands, keys and "
            "channels of docs/valkey-keys.md with ACL SETUSER"
        )
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Fatal(
                f"the certificate of Valkey is not trusted: {cause.verify_message}; "
                "set VALKEY_TLS_CA"
            )
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, ResponseError):
        return Recoverable(f"Valkey (VALKEY_URL) answers with an error: {said}")
    return Recoverable(f"Valkey (VALKEY_URL) does not answer: {said}")


async def clear(client: Any) -> int:
    """Remove exactly the keys that the mirror writes; return their number.

    Raises
    ------
    Recoverable
        Valkey cannot be reached.
    """
    removed = 0
    # positions are removed before the values and once more after them: a live mirror may write one
    # meanwhile, for values that are then removed
    families = [kind.glob for kind in keys.KEYS]
    try:
        for glob in (keys.POSITIONS, *families, keys.POSITIONS):
            batch = []
            async for name in client.scan_iter(match=glob, count=1000):
                batch.append(name)
                if len(batch) >= 1000:
                    removed += await client.unlink(*batch)
                    batch = []
            if batch:
                removed += await client.unlink(*batch)
    except (RedisError, OSError) as error:
        raise translate_valkey_error(error, client) from error
    return removed
