"""Checks which rights of Valkey's access control list (ACL) the mirror's user lacks.

The commands of the mirror are queued in a transaction that is discarded: the server checks the
rights for a command, its keys and its channels when it queues it, and nothing is executed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from redis.exceptions import RedisError, ResponseError

from streams.config.runtime import Runtime
from streams.errors import Fatal
from streams.instants import GRANULARITY_MS
from streams.mirror import keys
from streams.mirror.keys import KeyKind, ValueType
from streams.mirror.writer import is_refused_right, translate_valkey_error, user_of

_SCRIPT: Final = "0" * 40

# commands of the scripts and of the rebuild, with arguments that a server queues
_OF_TYPE: Final[dict[ValueType, tuple[tuple[str, ...], ...]]] = {
    "string": (("SET", "x", "PXAT", "1"), ("UNLINK",)),
    "hash": (("HGET", "x"), ("HMGET", "x"), ("HSET", "x", "1"), ("TYPE",), ("UNLINK",)),
    "zset": (
        ("ZCOUNT", "0", "1"),
        ("ZADD", "1", "x"),
        ("ZCARD",),
        ("ZRANGE", "0", "1"),
        ("ZREM", "x"),
        ("ZREMRANGEBYSCORE", "0", "1"),
        ("ZREMRANGEBYRANK", "0", "1"),
        ("PEXPIRETIME",),
        ("PEXPIRE", "1"),
        ("PEXPIREAT", "1"),
        ("DEL",),
        ("TYPE",),
        ("UNLINK",),
    ),
}
_OF_CONNECTION: Final = ("multi", "ping", "select", "client|setinfo")
"""Commands of the client's connection, and that of this check."""

_WITHOUT_KEY: Final = (
    ("SCRIPT", "LOAD", "return 1"),
    ("EVAL", "return 1", "0"),
    ("SCAN", "0"),
    ("INFO", "server"),
)


class _Trial(NamedTuple):
    """A command to queue, its name in an ACL, and the pattern of its key or channel."""

    arguments: tuple[str, ...]
    name: str
    pattern: str = ""


class MissingRights(NamedTuple):
    """Rights that the user does not have.

    Attributes
    ----------
    commands
        Names as in an ACL, such as ``script|load``.
    keys, channels
        Patterns.
    """

    commands: tuple[str, ...]
    keys: tuple[str, ...]
    channels: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.commands or self.keys or self.channels)

    def problem(self, user: str) -> str:
        """Return what the user may not do."""
        parts = []
        if self.commands:
            parts.append(f"may not run {', '.join(name.upper() for name in self.commands)}")
        if self.keys:
            parts.append(f"may not read and write the keys {', '.join(self.keys)}")
        if self.channels:
            parts.append(f"may not publish to the channels {', '.join(self.channels)}")
        return f"the user {user!r} of VALKEY_URL {' and '.join(parts)}"

    def advice(self, user: str) -> str:
        """Return the command that grants the rights."""
        rules = [f"+{name}" for name in self.commands]
        rules += [f"~{name}" for name in self.keys] + [f"&{name}" for name in self.channels]
        return f"grant it in Valkey: ACL SETUSER {user} {' '.join(rules)}"


def acl_rules() -> str:
    """Return the rules of a user who has exactly the rights that the mirror needs."""
    trials = list(_trials(["x"]))
    commands = dict.fromkeys([*_OF_CONNECTION, *(trial.name for trial in trials)])
    patterns = {trial.pattern: trial.name for trial in trials if trial.pattern}
    rules = [f"+{name}" for name in sorted(commands)]
    marks = {name: "&" if command == "publish" else "~" for name, command in patterns.items()}
    return " ".join([*rules, *(mark + name for name, mark in marks.items())])


async def missing_rights(client: Any, runtime: Runtime) -> MissingRights | None:
    """Return the rights that the mirror needs and the user does not have.

    Parameters
    ----------
    client
        Connection of ``streams.mirror.writer.connect``.
    runtime
        The deployment; its pairs are those of the checked keys.

    Returns
    -------
    MissingRights or None
        None when the user may not run MULTI, or the server has no transactions: nothing can be
        checked then.

    Raises
    ------
    Fatal, Recoverable
        The login is refused; the server does not answer.
    """
    trials = list(_trials(runtime.hotband_pairs or (keys.GLOBAL,)))
    try:
        refusals = await _refusals(client, trials)
    except ResponseError:
        return None
    except (RedisError, OSError) as error:
        raise translate_valkey_error(error, client) from error
    commands: dict[str, None] = {}
    found: dict[str, None] = {}
    channels: dict[str, None] = {}
    for trial, refusal in zip(trials, refusals, strict=True):
        if refusal is None:
            continue
        if "to run" in refusal or not trial.pattern:
            commands[trial.name] = None
        elif trial.name == "publish":
            channels[trial.pattern] = None
        else:
            found[trial.pattern] = None
    return MissingRights(tuple(sorted(commands)), tuple(found), tuple(channels))


async def require_rights(client: Any, runtime: Runtime) -> None:
    """Refuse a user who lacks a right that the mirror needs.

    Raises
    ------
    Fatal
        Names the user, the commands, keys and channels, and how to grant them.
    Recoverable
        The server does not answer.
    """
    missing = await missing_rights(client, runtime)
    if missing:
        user = user_of(client)
        raise Fatal(f"{missing.problem(user)}; {missing.advice(user)}")


async def _refusals(client: Any, trials: Iterable[_Trial]) -> list[str | None]:
    """Return for each command why the server refuses to queue it; None when it does not."""
    pool = client.connection_pool
    connection = await pool.get_connection()
    try:
        await connection.send_command("MULTI")
        await connection.read_response()
        sent = list(trials)
        await connection.send_packed_command(
            connection.pack_commands([trial.arguments for trial in sent])
        )
        found: list[str | None] = []
        for _ in sent:
            try:
                await connection.read_response()
            except ResponseError as error:
                found.append(str(error) if is_refused_right(error) else None)
            else:
                found.append(None)
        return found
    finally:
        # closing discards what was queued, and no answer is left on the connection
        await connection.disconnect()
        await pool.release(connection)


def _trials(pairs: Iterable[str]) -> Iterator[_Trial]:
    for arguments in _WITHOUT_KEY:
        name = "|".join(arguments[:2]) if arguments[0] == "SCRIPT" else arguments[0]
        yield _Trial(arguments, name.lower())
    for kind in (*keys.KEYS, *keys.KEYS_OF_PROCESSES):
        names = list(_names(kind, pairs))
        for command, *rest in _OF_TYPE[kind.value_type]:
            yield _Trial((command, names[0], *rest), command.lower(), kind.glob)
        for name in names:
            yield _Trial(("EVALSHA", _SCRIPT, "1", name), "evalsha", kind.glob)
    channels = [(keys.MANIFOLD_CHANNEL, keys.MANIFOLD_CHANNEL)]
    channels += [(keys.live_config_channel(pair), keys.live_config_channel("*")) for pair in pairs]
    for channel, pattern in channels:
        yield _Trial(("PUBLISH", channel, ""), "publish", pattern)


def _names(kind: KeyKind, pairs: Iterable[str]) -> Iterator[str]:
    """Yield keys of a family such as the mirror writes."""
    fixed = {"{GRAN}": next(iter(GRANULARITY_MS)), "{ts_ns}": "0", "{params_id}": "0" * 16}
    name = kind.pattern
    for placeholder, value in fixed.items():
        name = name.replace(placeholder, value)
    if "{INST}" not in name:
        yield name
        return
    for pair in pairs:
        yield name.replace("{INST}", pair)
