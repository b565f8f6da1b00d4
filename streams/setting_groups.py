"""Every group of settings of the product, for what looks at all of them."""

from __future__ import annotations

from typing import Final

from streams.api.settings import Service
from streams.environment import FromEnvironment
from streams.execution.settings import Trading
from streams.feed.settings import FeedSettings
from streams.kill_switch.settings import KillSwitchSettings
from streams.liveness.settings import Liveness
from streams.oanda.settings import Oanda
from streams.settings import Config, Runtime
from streams.stack.settings import RunSettings

LIVE_GROUPS: Final[dict[str, type[FromEnvironment]]] = {
    "oanda": Oanda,
    "feed": FeedSettings,
    "trading": Trading,
    "kill_switch": KillSwitchSettings,
    "service": Service,
    "liveness": Liveness,
    "run": RunSettings,
}
"""What the live loop adds: name in JSON -> its settings. No derived record depends on them."""

GROUPS: Final[tuple[type[FromEnvironment], ...]] = (Config, Runtime, *LIVE_GROUPS.values())
