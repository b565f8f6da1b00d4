"""Settings of ``manifold run``; no derived record depends on them."""

from __future__ import annotations

from dataclasses import dataclass

from streams.config.environment import FromEnvironment, setting
from streams.config.roles import DEFAULT_ROLES, Role, roles_of


@dataclass(frozen=True, slots=True)
class RunSettings(FromEnvironment):
    """Which processes a host runs, and the port of its status page."""

    run_roles: tuple[str, ...] = setting(
        DEFAULT_ROLES,
        "what manifold run runs on this host: feed, worker, mirror, serve, trade, keep",
    )
    run_workers: int = setting(
        1, "workers on this host; about one per core it may use", unit="processes", bounds=(1, 64)
    )
    run_feed: str = setting("oanda", "the feed of manifold run", choices=("oanda", "synthetic"))
    run_warmup: bool = setting(
        True, "fill the log and wait for stages and mirror before feed and executor start"
    )
    run_status_port: int = setting(
        8130, "port of the /status, /metrics and /healthz of manifold run; 0 = off",
        bounds=(0, 65_535),
    )  # fmt: skip

    def check(self) -> None:
        """Raise Fatal for a value that is out of bounds, or an unknown role."""
        FromEnvironment.check(self)
        roles_of(self.run_roles)

    @property
    def roles(self) -> list[Role]:
        """The roles, in start order."""
        return roles_of(self.run_roles)
