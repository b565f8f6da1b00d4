"""All groups of settings."""

from __future__ import annotations

from typing import Final

from streams.config.environment import FromEnvironment
from streams.config.feeds import FeedSettings
from streams.config.host import RunSettings
from streams.config.kill_switch import KillSwitchSettings
from streams.config.monitoring import Liveness
from streams.config.oanda import Oanda
from streams.config.runtime import Runtime
from streams.config.service import Service
from streams.config.settings import Config
from streams.config.trading import Trading

LIVE_GROUPS: Final[dict[str, type[FromEnvironment]]] = {
    "oanda": Oanda,
    "feed": FeedSettings,
    "trading": Trading,
    "kill_switch": KillSwitchSettings,
    "service": Service,
    "liveness": Liveness,
    "run": RunSettings,
}
"""Groups of the live trading loop: name in JSON -> settings. No derived record depends on them."""

GROUPS: Final[tuple[type[FromEnvironment], ...]] = (Config, Runtime, *LIVE_GROUPS.values())
