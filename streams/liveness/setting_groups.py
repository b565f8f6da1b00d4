"""Every group of settings of the product, for what looks at all of them."""

from __future__ import annotations

from typing import Final

from streams.environment import FromEnvironment
from streams.settings import Config, Runtime

GROUPS: Final[tuple[type[FromEnvironment], ...]] = (Config, Runtime)
