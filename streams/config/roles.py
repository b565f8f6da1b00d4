"""The roles of a host: the commands it runs, and the order in which they start and stop."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from streams.errors import Fatal

FEED, WORKER, MIRROR, SERVE, TRADE, KEEP = "feed", "worker", "mirror", "serve", "trade", "keep"


class Role(NamedTuple):
    """One kind of process.

    Attributes
    ----------
    command
        Arguments of ``manifold``.
    after_warmup
        Whether it starts only after the warm-up.
    ends
        Stop order: smaller numbers first, equal numbers together. Writers stop before readers.
    content
        One line of documentation.
    """

    name: str
    command: tuple[str, ...]
    after_warmup: bool
    ends: int
    content: str


ROLES: Final = {
    role.name: role
    for role in (
        Role(WORKER, ("worker",), False, 1, "the stages: candles to signals, gates and weights"),
        Role(MIRROR, ("mirror",), False, 2, "Valkey follows the log"),
        Role(SERVE, ("serve",), False, 2, "REST, WebSocket and page; keeps the kill switch's key"),
        Role(
            KEEP, ("kill", "keep"), False, 2, "keeps the kill switch's key on a host without serve"
        ),
        Role(FEED, ("feed", "oanda"), True, 0, "candles and prices"),
        Role(TRADE, ("trade",), True, 0, "the executor of one account"),
    )
}
"""Every role, in start order."""

DEFAULT_ROLES: Final = (FEED, WORKER, MIRROR, SERVE, TRADE)


def roles_of(names: Iterable[str]) -> list[Role]:
    """Return the roles of these names, in start order.

    Raises
    ------
    Fatal
        A name is unknown, or no role is named.
    """
    wanted = {name.strip().lower() for name in names if name.strip()}
    unknown = sorted(wanted - ROLES.keys())
    if unknown or not wanted:
        said = f"unknown: {', '.join(unknown)}" if unknown else "none is named"
        raise Fatal(f"--roles (RUN_ROLES): {said}; the roles are {', '.join(ROLES)}")
    return [role for name, role in ROLES.items() if name in wanted]
