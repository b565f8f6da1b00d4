"""The parts of a running service, passed to every endpoint."""

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
from streams.process.clock_skew import now_ms
from streams.records.codec import Codec
from streams.service.audit import AuditLog
from streams.service.errors import ApiError
from streams.service.facts import Facts
from streams.service.follower import ViewFollower
from streams.service.history import History
from streams.service.hub import Hub
from streams.service.long_runs import LongRuns
from streams.service.metrics import ServiceMetrics
from streams.service.oanda import OandaDoor
from streams.service.security import Doorkeeper
from streams.trading.kill_switch.keeper import KillSwitchKeeper

SILENT_S = 10.0


class KeptStatus(NamedTuple):
    """A cached aggregate: time, input, and JSON."""

    at_ms: int
    made_of: tuple[object, ...]
    text: bytes


@dataclass
class Pen:
    """A producer for one call at a time."""

    codec: Codec
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass
class Live:
    """The parts of the service.

    Attributes
    ----------
    runtime, environment_config, settings, kill_settings
        Settings of the process; the configuration of the log is ``view.config``.
    view, hub, follower, facts, history, mirror, doorkeeper, oanda, metrics, keeper, audit_log,
    long_runs
        The parts.
    engaging, clearing
        Locks of the kill switch: engaging never waits for clearing.
    now_ms
        Wall clock.
    kept_status
        The last aggregate.
    changing_config
        Lock, held while the configuration is changed.
    """

    runtime: Runtime
    environment_config: Config
    settings: Service
    kill_settings: KillSwitchSettings
    engaging: Pen
    clearing: Pen
    hub: Hub
    follower: ViewFollower
    facts: Facts
    history: History
    mirror: Mirror
    doorkeeper: Doorkeeper
    oanda: OandaDoor
    metrics: ServiceMetrics
    keeper: KillSwitchKeeper
    audit_log: AuditLog
    long_runs: LongRuns
    now_ms: Callable[[], int] = now_ms
    kept_status: KeptStatus | None = None
    changing_config: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def view(self) -> LiveView:
        """The last values."""
        return self.follower.view

    @property
    def config(self) -> Config:
        """The active configuration; the environment's while the log has none."""
        return self.view.config or self.environment_config

    def log_trouble(self) -> str | None:
        """Return why the log is not being followed, None when it is."""
        if self.follower.trouble is not None:
            return self.follower.trouble
        if self.follower.alive_at is None:
            return "the log has not answered yet"
        silent_s = time.monotonic() - self.follower.alive_at
        if silent_s > SILENT_S:
            return f"the log has not answered for {silent_s:.0f} s"
        return None

    def require_instrument(self, instrument: str) -> None:
        """Refuse an instrument that is not in the log.

        Raises
        ------
        ApiError
            404, with the known instruments.
        """
        known = self.view.instruments
        if instrument not in known:
            there = ", ".join(known) or "none yet"
            raise ApiError(404, "unknown_instrument", f"the log holds {there}, not {instrument}")


def live_of(request: Request) -> Live:
    """Return the service of a request."""
    return cast(Live, request.app.state.live)


LiveDep = Annotated[Live, Depends(live_of)]


async def kill_switch_of_now(live: LiveDep) -> None:
    """Read the kill switch again during the call if it is off."""
    await live.facts.kill_switch_now()


KILL_SWITCH_OF_NOW = (Depends(kill_switch_of_now),)
"""``dependencies`` of the endpoints that report whether opening is allowed."""
