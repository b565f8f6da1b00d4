"""The starts of all processes of a deployment, in Valkey, so that restarts in a loop are seen.

A process records its start before anything else that can fail. So the starts of a process that ends
before its status port opens, or between two scrapes, are known too. The record is for the failure
signals only: no process depends on it, and it can be lost.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import Any, Final

import redis
from redis.exceptions import RedisError

from streams.config.runtime import Runtime
from streams.errors import Fatal, Recoverable
from streams.mirror.keys import PROCESS_STARTS
from streams.mirror.writer import connect, translate_valkey_error, valkey_options
from streams.printable import one_line
from streams.process.pausing import BackOff
from streams.process.started import THIS_PROCESS

KEPT_MS: Final = 3_600_000
"""For how long a start is kept."""
GIVE_UP_S: Final = 600.0
_ANSWER_S: Final = 2.0
_MOST_READ: Final = 1_000
_MOST_KEPT: Final = 10_000
_LONGEST_NAME: Final = 120

# KEYS: starts; ARGV: start, member, oldest start to keep, kept ms, most members
_RECORD = """
redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. ARGV[3])
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - tonumber(ARGV[5]))
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
"""

log = logging.getLogger("manifold.process")


def record_start(runtime: Runtime, program: str, instance: str = "") -> threading.Thread:
    """Name this process and record its start in a thread, which the caller need not wait for.

    While Valkey does not answer it is asked again for ``GIVE_UP_S`` seconds; the process is not
    delayed and does not fail because of it.

    Parameters
    ----------
    runtime
        The deployment.
    program, instance
        As in ``ThisProcess.call``.
    """
    THIS_PROCESS.call(program, instance)
    thread = threading.Thread(target=_record, args=(runtime,), name="process start", daemon=True)
    thread.start()
    return thread


def _record(runtime: Runtime) -> None:
    end, back_off = time.monotonic() + GIVE_UP_S, BackOff()
    started_ms = THIS_PROCESS.started_ms
    arguments = (
        *(started_ms, f"{started_ms} {THIS_PROCESS.name[:_LONGEST_NAME]}"),
        *(started_ms - KEPT_MS, KEPT_MS, _MOST_KEPT),
    )
    while True:
        try:
            with redis.Redis.from_url(
                runtime.valkey_url,
                socket_timeout=_ANSWER_S,
                socket_connect_timeout=_ANSWER_S,
                **valkey_options(runtime),
            ) as client:
                client.eval(_RECORD, 1, PROCESS_STARTS, *arguments)
            return
        except (RedisError, OSError) as error:
            found: Exception = translate_valkey_error(error)
        except (Fatal, ValueError) as error:
            found = error  # the part of the program that needs Valkey names the setting
        if not isinstance(found, Recoverable) or time.monotonic() > end:
            # a wrong login is named by the mirror, the service and the doctor
            level = logging.DEBUG if isinstance(found, Fatal) else logging.INFO
            log.log(level, "the start of this process is not recorded in Valkey: %s", found)
            return
        time.sleep(back_off.next_s())


async def starts_now(runtime: Runtime, now_ms: int) -> Mapping[str, tuple[int, ...]] | None:
    """Return ``read_starts`` over a connection of its own; None when Valkey does not answer.

    Raises
    ------
    Fatal
        VALKEY_URL or VALKEY_TLS_CA is unusable.
    """
    client = connect(runtime)
    try:
        return await read_starts(client, now_ms)
    finally:
        await client.aclose()


async def read_starts(client: Any, now_ms: int) -> Mapping[str, tuple[int, ...]] | None:
    """Return process -> its starts of the last hour, ascending; None when they cannot be read.

    Parameters
    ----------
    client
        Connection of ``streams.mirror.writer.connect``.
    now_ms
        Wall clock, epoch ms UTC.
    """
    try:
        members = await client.zrange(
            PROCESS_STARTS, "+inf", now_ms - KEPT_MS, desc=True, byscore=True, offset=0,
            num=_MOST_READ,
        )  # fmt: skip
    except (RedisError, OSError, ValueError):
        return None  # another type, no right to the key: the rest of the mirror is still readable
    found: dict[str, list[int]] = {}
    for member in reversed(members):
        stamp, _, name = str(member).partition(" ")
        if name and stamp.isascii() and stamp.isdigit() and len(stamp) <= 15:
            found.setdefault(one_line(name)[:_LONGEST_NAME], []).append(int(stamp))
    return {name: tuple(sorted(starts)) for name, starts in found.items()}
