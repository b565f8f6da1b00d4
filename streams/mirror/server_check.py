"""Checks that the Valkey server accepts and keeps the mirror's writes."""

from __future__ import annotations

import secrets
from typing import Any, Final

from redis.exceptions import RedisError

from streams.checks import Finding
from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.mirror.follow import retention_of
from streams.mirror.rights import missing_rights
from streams.mirror.sizing import Need, memory_need
from streams.mirror.writer import connect, is_refused_right, translate_valkey_error, user_of

MIB: Final = 1 << 20
NEARLY_FULL: Final = 0.9
NO_EVICTION: Final = "noeviction"
LESS: Final = "set VALKEY_CANDLE_RETENTION and VALKEY_SIGNAL_RETENTION to less (docs/sizing.md)"
OLDEST: Final = (6, 2)


async def check_valkey(runtime: Runtime, config: Config) -> list[Finding]:
    """Return findings on the server: version, role, memory, persistence, rights, a test write.

    Parameters
    ----------
    runtime
        The server, the pairs and their retention.
    config
        Bar length, and length of the series.

    Raises
    ------
    Fatal, Recoverable
        The login is refused; the server does not answer.
    """
    client = connect(runtime)
    try:
        info = await client.info("all")
        trial = await _rights(client, runtime)
        # without permission for CONFIG GET, INFO has the settings needed here
        pairs = len(runtime.hotband_pairs)
        need = memory_need(pairs, config.granularity_ms, retention_of(runtime, config))
        memory = _memory(info, need, pairs)
        return [_server(info, runtime), *trial, memory, _persistence(info)]
    except (RedisError, OSError) as error:
        raise translate_valkey_error(error, client) from error
    finally:
        await client.aclose()


async def _try(client: Any, *, permitted: bool) -> list[Finding]:
    """Write a key; ``permitted``: the user has the mirror's rights, maybe none for this key."""
    name = f"manifold:doctor:{secrets.token_hex(6)}"
    try:
        await client.set(name, "1", px=5_000)
        script = await client.script_load("return redis.call('GET', KEYS[1])")
        read = await client.evalsha(script, 1, name)
        await client.delete(name)
    except RedisError as error:
        if permitted and is_refused_right(error):
            return []
        said = str(error).split("//")[0]
        action = "give the user of VALKEY_URL the right to write and to run scripts, on the primary"
        return [Finding("valkey", "fail", f"a test write is refused: {said}", action)]
    if read != "1":
        action = "use a Valkey or Redis server"
        return [Finding("valkey", "fail", "a test write cannot be read back", action)]
    return []


async def _rights(client: Any, runtime: Runtime) -> list[Finding]:
    missing = await missing_rights(client, runtime)
    if not missing:
        return await _try(client, permitted=missing is not None)
    user = user_of(client)
    return [Finding("valkey rights", "fail", missing.problem(user), missing.advice(user))]


def _server(info: dict[str, Any], runtime: Runtime) -> Finding:
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = str(info.get("valkey_version") or info.get("redis_version") or "unknown")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    tls = "TLS" if runtime.valkey_url.startswith("rediss://") else "no TLS"
    told = f"{name} {version}, {tls}, {info.get('role', 'unknown role')}"
    if info.get("role") not in (None, "master"):
        return Finding("valkey", "fail", f"{told}: a replica", "set VALKEY_URL to the primary")
    if int(info.get("cluster_enabled", 0)):
        action = "use a server without cluster mode: scripts touch several keys at once"
        return Finding("valkey", "fail", f"{told}, in cluster mode", action)
    if numbers and numbers < OLDEST:
        return Finding("valkey", "fail", f"{told} is too old", "use Valkey 7.2 or Redis 6.2")
    return Finding("valkey", "ok", told)


def _memory(info: dict[str, Any], need: Need, pairs: int) -> Finding:
    most, used = int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    policy = str(info.get("maxmemory_policy", "unknown"))
    limit = f"of {most // MIB:,} MiB" if most else "without a limit"
    kept = f"{pairs} pairs take {need.size // MIB:,} MiB at full retention"
    told = f"{used // MIB:,} MiB used {limit}, {policy}; {kept}"
    name = "valkey memory"
    if policy not in (NO_EVICTION, "unknown"):
        action = (
            f"set maxmemory-policy {NO_EVICTION}: the kill switch and the positions must not be "
            f"evicted"
        )
        if most:
            detail = f"keys are evicted when it is full, the kill switch too: {told}"
            return Finding(name, "fail", detail, action)
        return Finding(name, "warn", f"keys will be evicted under a maxmemory: {told}", action)
    # without maxmemory the limit is the machine's memory
    room = most or int(info.get("total_system_memory", 0))
    whose = "maxmemory is" if most else "its machine has"
    if room and used > NEARLY_FULL * room:
        return Finding(name, "warn", f"nearly full: {told}", f"raise maxmemory, or {LESS}")
    if room and need.size > NEARLY_FULL * room:
        detail = f"{kept}, and {whose} {room // MIB:,} MiB: {used // MIB:,} MiB used, {policy}"
        action = f"a full server refuses writes and the kill switch engages: raise it, or {LESS}"
        return Finding(name, "warn", detail, action)
    if need.yearly:
        detail = f"grows without limit, by {need.yearly // MIB:,} MiB a year: {told}"
        return Finding(name, "warn", detail, LESS)
    return Finding(name, "ok", told)


def _persistence(info: dict[str, Any]) -> Finding:
    failed = [
        what
        for field, what in (
            ("rdb_last_bgsave_status", "the last snapshot"),
            ("aof_last_write_status", "the last append"),
            ("aof_last_bgrewrite_status", "the last rewrite of the append-only file"),
        )
        if info.get(field, "ok") != "ok"
    ]
    if failed:
        action = "check the server's log and its disk"
        return Finding("valkey disk", "fail", f"{' and '.join(failed)} failed", action)
    if int(info.get("aof_enabled", 0)):
        return Finding("valkey disk", "ok", "append-only file")
    action = "set appendonly yes; without it the mirror fills an emptied server from the log"
    return Finding("valkey disk", "warn", "no append-only file: a restart may lose keys", action)
