"""Following the configuration in the log: what cannot be followed, and where a process differs.

The log is the truth. A process whose environment says something else follows the log all the same
and says which settings differ, for as long as they do. It refuses what it cannot follow: rules of
time zones or holidays that are not installed here, and settings that this version does not know
(``Config.from_json``).
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
    """Refuse a configuration that nobody can follow with what is installed here.

    Raises
    ------
    Fatal
        It is of other time zone rules, or of another table of holidays that it makes use of.
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
                f"the log is under {setting}={wanted}, and the {what} is {here}: results would not "
                "be those of the others. Install that one here, or let the whole fleet change to "
                f"this one: manifold config set {setting}={here} --reason TEXT"
            )


def warn(text: str) -> None:
    """Say something on stderr that does not keep the process from its work."""
    print(f"manifold: warning: {text}", file=sys.stderr, flush=True)


class FollowedConfig:
    """The active configuration as a process follows it.

    Parameters
    ----------
    here
        The settings of its environment.
    say
        Told where they differ, whenever that changes.

    Attributes
    ----------
    active
        The active configuration as of the last look; that of the environment before.
    differs
        Where the environment differs from it.
    """

    def __init__(self, here: Config, say: Callable[[str], None] = warn) -> None:
        self.here, self._say = here, say
        self.active = here
        self.differs: tuple[Difference, ...] = ()

    def look(self, control: ControlLog, *, refuse: bool = True) -> Config:
        """Take what ``ops.control`` says at the end of what was read; return it.

        Parameters
        ----------
        refuse
            Whether one that cannot be followed ends the process. It must not end a feed or an
            executor that runs: they derive nothing, and what they do would be left undone.

        Raises
        ------
        Fatal
            It cannot be followed.
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
        What the process follows; None before it has looked.
    """

    def __init__(self, followed: FollowedConfig | None = None) -> None:
        self.followed = followed

    def collect(self) -> Iterator[Metric]:
        """Yield the samples as they are now."""
        family = GaugeMetricFamily(
            DIFFERS,
            "1 for a setting of this process's environment that is not the active one",
            labels=["setting", "here", "active"],
        )
        for one in self.followed.differs if self.followed else ():
            family.add_metric([*one], 1.0)
        yield family
