"""Where the settings of an environment differ from the active configuration. Pure."""

from __future__ import annotations

from typing import Final, NamedTuple

from streams.config.environment import setting_text
from streams.config.settings import Config

SET_ALIKE: Final = (
    "set the same values where it was started (manifold config show --env prints the active ones) "
    "and "
    "start it again"
)
WHAT_TO_DO: Final = (
    f"{SET_ALIKE}, or change them for all: manifold config set NAME=VALUE --reason TEXT"
)


class Difference(NamedTuple):
    """A setting whose value here differs from the log; both as environment text."""

    name: str
    here: str
    active: str

    @property
    def words(self) -> str:
        """The difference as one readable sentence."""
        return f"{self.name} is {self.here or 'unset'} here, {self.active or 'unset'} is active"


def differences(here: Config, active: Config) -> tuple[Difference, ...]:
    """Return the settings in which an environment differs from the active configuration."""
    return tuple(
        Difference(
            name.upper(), setting_text(getattr(here, name)), setting_text(getattr(active, name))
        )
        for name in here.differing(active)
    )
