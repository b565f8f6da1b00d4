"""Follow the active configuration in the log, and report differences of the environment.

The log takes precedence. A process whose environment differs uses the log's configuration and
reports the differing settings. It refuses a configuration it cannot apply: time zone rules or
holidays that are not installed here, and settings unknown to this version (``Config.from_json``).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from streams.config.difference import WHAT_TO_DO, Difference, differences
from streams.config.settings import Config
from streams.errors import Fatal
from streams.records.control import ControlLog

DIFFERS: Final = "manifold_config_differs"


def require_followable(config: Config) -> None:
    """Refuse a configuration that this installation cannot apply.

    Raises
    ------
    Fatal
        It needs other time zone rules, or another table of holidays.
    """
    installed = Config()
    by_table = config.market_calendar == "fx" and config.market_holidays == "oanda"
    for name, what, used in (
        ("tzdata_version", "Python package tzdata", True),
        ("market_holidays_version", "table of holidays of this version", by_table),
    ):
        here, wanted = getattr(installed, name), getattr(config, name)
        if used and here != wanted:
            setting = name.upper()
            raise Fatal(
                f"the log requires {setting}={wanted}, but the {what} is {here}: results would not "
                "match the other processes. Install that version here, or change all processes to "
                f"this one: manifold config set {setting}={here} --reason TEXT"
            )


def warn(text: str) -> None:
    """Print a warning to stderr."""
    print(f"manifold: warning: {text}", file=sys.stderr, flush=True)


class FollowedConfig:
    """The active configuration, as followed by a process.

    Parameters
    ----------
    here
        Settings of the process environment.
    say
        Called with the differences whenever they change.

    Attributes
    ----------
    active
        The active configuration at the last ``look``; the environment's before that.
    differs
        Settings in which the environment differs.
    """

    def __init__(self, here: Config, say: Callable[[str], None] = warn) -> None:
        self.here, self._say = here, say
        self.active = here
        self.differs: tuple[Difference, ...] = ()

    def look(self, control: ControlLog, *, refuse: bool = True) -> Config:
        """Update from the end of ``ops.control`` as read; return the active configuration.

        Parameters
        ----------
        refuse
            Whether to raise for a configuration that cannot be applied. A running feed or executor
            must not end because of it: they derive nothing, and their work would stop.

        Raises
        ------
        Fatal
            It cannot be applied.
        """
        active = control.state(control.end).config
        if active is not None and active is not self.active:
            if refuse:
                require_followable(active)
            self.active = active
            found = differences(self.here, active)
            if found != self.differs:
                self.differs = found
                self._say(_words(found))
        return self.active


def _words(found: tuple[Difference, ...]) -> str:
    if not found:
        return "the settings here are the active ones again"
    said = "; ".join(one.words for one in found)
    return f"the settings here are not the active ones, which are followed ({said}); {WHAT_TO_DO}"


class ConfigCollector(Collector):
    """One sample for each setting in which a process differs from the active configuration.

    Attributes
    ----------
    followed
        The followed configuration; None before the first ``look``.
    """

    def __init__(self, followed: FollowedConfig | None = None) -> None:
        self.followed = followed

    def collect(self) -> Iterator[Metric]:
        """Yield the samples as they are now."""
        family = GaugeMetricFamily(
            DIFFERS,
            "1 for a setting of this process's environment that differs from the active "
            "configuration",
            labels=["setting", "here", "active"],
        )
        for one in self.followed.differs if self.followed else ():
            family.add_metric([*one], 1.0)
        yield family
