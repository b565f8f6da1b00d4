"""Environment names: settings, likely misspellings, and known names that are not read."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache
from typing import Final

from streams.config.environment import FromEnvironment, environment_names, setting_fields
from streams.config.groups import GROUPS
from streams.config.settings import Config
from streams.config.unused_variables import Unused, describe_unused, unused

ALIKE: Final = 0.86
SHORTEST: Final = 6
OWN_NAMES: Final = ("MANIFOLD_CACHE", "MANIFOLD_FAULT_KILLS")


def known_names(groups: Iterable[type[FromEnvironment]]) -> set[str]:
    """Return every environment name of the groups, including ``<NAME>_FILE`` of secrets."""
    names = set(OWN_NAMES)
    for group in groups:
        for item in setting_fields(group):
            names.update(environment_names(item))
            if item.metadata["secret"]:
                names.add(f"{item.name.upper()}_FILE")
    return names


@cache
def all_names() -> frozenset[str]:
    """Return every environment name of the product."""
    return frozenset(known_names(GROUPS))


def looks_like(name: str, known: Iterable[str]) -> str | None:
    """Return the setting that a name is a misspelling of; None when it is none."""
    plain = name.upper()
    if plain in known:
        return plain
    alike = get_close_matches(plain, known, 1, ALIKE) if len(name) >= SHORTEST else []
    return alike[0] if alike else None


def not_read(name: str) -> Unused | None:
    """Return the row of a known variable that nothing reads; None for all others.

    A name that matches only a pattern of the table and looks like a setting is treated as a
    misspelt setting.
    """
    row = unused(name, all_names())
    if row is None or name in row.names:
        return row
    return None if looks_like(name, all_names()) else row


def not_of_the_configuration(name: str) -> str:
    """Return why a name is not part of the configuration in the log, and what to do."""
    if name in all_names():
        return (
            f"{name} is a setting of each process and changes no result: set it in the environment "
            "of the processes that read it, and start them again"
        )
    row = not_read(name)
    if row is not None:
        return describe_unused(name, row)
    names = {each for item in setting_fields(Config) for each in environment_names(item)}
    alike = looks_like(name, names)
    hint = f"it looks like {alike}; " if alike else ""
    return (
        f"{name} is not a setting that can change a result; {hint}manifold config show lists "
        "those that can"
    )
