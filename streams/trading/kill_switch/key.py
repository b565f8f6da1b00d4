"""The two keys in Valkey: read together, and written only if unchanged since (compare-and-set)."""

from __future__ import annotations

from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from streams.config.kill_switch import KillSwitchSettings
from streams.config.runtime import Runtime
from streams.errors import Fatal
from streams.mirror.writer import translate_valkey_error, valkey_options
from streams.trading.kill_switch.lease import KeySnapshot, LeaseRecord, as_look

ANSWER_S = 1.0

MOST_VALUE, MOST_LEASE = 256, 65_536
"""Sizes in bytes. A longer value is of another writer: only its beginning and length are read."""

_STATE = f"""
local function state(name, most)
  local kind = redis.call('TYPE', name)['ok']
  if kind ~= 'string' then return kind, '' end
  local length = redis.call('STRLEN', name)
  if length <= most then return kind, redis.call('GET', name) end
  return kind, redis.call('GETRANGE', name, 0, 9) .. '... (' .. length .. ' bytes)'
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local kind, value = state(KEYS[1], {MOST_VALUE})
local expires = redis.call('PEXPIRETIME', KEYS[1])
local kept_kind, kept = state(KEYS[2], {MOST_LEASE})
"""

# KEYS: key, companion
LOOK = f"{_STATE} return {{now, kind, value, expires, kept_kind, kept}}"

# KEYS: key, companion; ARGV: what was seen (kind, value, expiry, kind and text of the companion),
# new value or "" to leave the key, its expiry, new companion, first and last instant for it or ""
SWAP = f"""{_STATE}
if kind ~= ARGV[1] or value ~= ARGV[2] or expires ~= tonumber(ARGV[3])
  or kept_kind ~= ARGV[4] or kept ~= ARGV[5] then return 0 end
if ARGV[9] ~= '' and (now < tonumber(ARGV[9]) or now > tonumber(ARGV[10])) then return 0 end
if ARGV[6] ~= '' then redis.call('SET', KEYS[1], ARGV[6], 'PXAT', ARGV[7]) end
redis.call('SET', KEYS[2], ARGV[8])
return 1
"""


class KillSwitchKey:
    """The key and its lease record.

    Parameters
    ----------
    runtime, settings
        The deployment, and the key's name.

    Raises
    ------
    Fatal
        The address or the CA file is unusable; the password is never shown.
    """

    def __init__(self, runtime: Runtime, settings: KillSwitchSettings) -> None:
        options = valkey_options(runtime)
        try:
            # one immediate retry, for a connection that the server has closed
            self._client: Any = redis.Redis.from_url(
                runtime.valkey_url,
                socket_timeout=ANSWER_S,
                socket_connect_timeout=ANSWER_S,
                retry=Retry(NoBackoff(), 1),
                **options,
            )
        except ValueError as error:
            raise Fatal("VALKEY_URL is not a redis:// or rediss:// address") from error
        self._names = (settings.kill_switch_key, settings.kept_key)
        self._look = self._client.register_script(LOOK)
        self._swap = self._client.register_script(SWAP)

    def look(self) -> KeySnapshot:
        """Return both keys and the server's time.

        Raises
        ------
        Recoverable, Fatal
            Valkey does not answer, or refuses.
        """
        try:
            return as_look(self._look(keys=self._names))
        except (RedisError, OSError) as error:
            raise translate_valkey_error(error) from error

    def swap(
        self,
        seen: KeySnapshot,
        kept: LeaseRecord,
        *,
        leave: bool = False,
        until_ms: int | None = None,
    ) -> bool:
        """Write ``kept`` into both keys if they are unchanged since ``seen``.

        Parameters
        ----------
        seen
            The state that must not have changed.
        kept
            The new lease record; the key gets its value and expiry.
        leave
            Write only the lease record.
        until_ms
            Last instant, by the server's clock, at which it may be written; that clock must not be
            before ``seen`` either.

        Returns
        -------
        bool
            Whether it was written.

        Raises
        ------
        Recoverable, Fatal
            As in ``look``; it may have been written nevertheless.
        """
        first, last = ("", "") if until_ms is None else (seen.now_ms, until_ms)
        before = (seen.kind, seen.value, seen.expires_ms, seen.kept_kind, seen.kept_text)
        value = "" if leave else kept.value
        arguments = (*before, value, kept.expires_ms, kept.to_json(), first, last)
        try:
            return bool(self._swap(keys=self._names, args=arguments))
        except (RedisError, OSError) as error:
            raise translate_valkey_error(error) from error

    def set_engaged(self) -> None:
        """Set the key to "1" as an operator does; it is not reset before the log has it.

        Raises
        ------
        Recoverable, Fatal
            As in ``look``.
        """
        try:
            self._client.set(self._names[0], "1")
        except (RedisError, OSError) as error:
            raise translate_valkey_error(error) from error

    def close(self) -> None:
        """Close the connection."""
        self._client.close()
