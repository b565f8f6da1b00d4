"""The parts of a running service, as every endpoint is given them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, NamedTuple, cast

from fastapi import Depends, Request

from streams.config.kill_switch import KillSwitchSettings
from streams.config.runtime import Runtime
from streams.config.service import Service
from streams.config.settings import Config
from streams.mirror.series import Mirror
from streams.monitoring.view import LiveView
from streams.records.codec import Codec
from streams.service.audit import AuditLog
from streams.service.errors import ApiError
from streams.service.facts import Facts
from streams.service.follower import LogFollower
from streams.service.history import History
from streams.service.hub import Hub
from streams.service.long_runs import LongRuns
from streams.service.metrics import ServiceMetrics
from streams.service.oanda import OandaDoor
from streams.service.security import Doorkeeper
from streams.trading.kill_switch.keeper import KillSwitchKeeper

SILENT_S = 10.0


def wall_ms() -> int:
    """Return the wall clock, epoch ms UTC."""
    return int(time.time() * 1000)


class KeptStatus(NamedTuple):
    """An aggregate that was made: when, of what, and its JSON."""

    at_ms: int
    made_of: tuple[object, ...]
    text: bytes


@dataclass
class Pen:
    """What one call at a time writes to the log with."""

    codec: Codec
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass
class Live:
    """What a service is made of.

    Attributes
    ----------
    runtime, environment_config, settings, kill_settings
        Settings of the process; what the log says of the configuration is ``view.config``.
    view, hub, follower, facts, history, mirror, doorkeeper, oanda, metrics, keeper, audit_log,
    long_runs
        The parts.
    engaging, clearing
        For the kill switch: engaging it waits for nothing that clears it.
    now_ms
        Wall clock.
    kept_status
        The last aggregate.
    changing_config
        Held while the configuration is changed.
    """

    runtime: Runtime
    environment_config: Config
    settings: Service
    kill_settings: KillSwitchSettings
    engaging: Pen
    clearing: Pen
    hub: Hub
    follower: LogFollower
    facts: Facts
    history: History
    mirror: Mirror
    doorkeeper: Doorkeeper
    oanda: OandaDoor
    metrics: ServiceMetrics
    keeper: KillSwitchKeeper
    audit_log: AuditLog
    long_runs: LongRuns
    now_ms: Callable[[], int] = wall_ms
    kept_status: KeptStatus | None = None
    changing_config: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def view(self) -> LiveView:
        """The last values."""
        return self.follower.view

    @property
    def config(self) -> Config:
        """The configuration in force; the environment's while the log has none."""
        return self.view.config or self.environment_config

    def log_trouble(self) -> str | None:
        """Return why the log is not followed right now, None when it is."""
        if self.follower.trouble is not None:
            return self.follower.trouble
        if self.follower.alive_at is None:
            return "the log has not answered yet"
        silent_s = time.monotonic() - self.follower.alive_at
        if silent_s > SILENT_S:
            return f"the log has not answered for {silent_s:.0f} s"
        return None

    def require_instrument(self, instrument: str) -> None:
        """Refuse an instrument that the log knows nothing of.

        Raises
        ------
        ApiError
            404, with the instruments there are.
        """
        known = self.view.instruments
        if instrument not in known:
            there = ", ".join(known) or "none yet"
            raise ApiError(404, "unknown_instrument", f"the log holds {there}, not {instrument}")


def live_of(request: Request) -> Live:
    """Return the service that a request came to."""
    return cast(Live, request.app.state.live)


LiveDep = Annotated[Live, Depends(live_of)]


async def kill_switch_of_now(live: LiveDep) -> None:
    """Let what an answer says of the kill switch be no older than the call, if it says off."""
    await live.facts.kill_switch_now()


KILL_SWITCH_OF_NOW = (Depends(kill_switch_of_now),)
"""``dependencies`` of the endpoints that say whether anything may be opened."""
