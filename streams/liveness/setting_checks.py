"""Examining the settings: do they parse, are any misspelt, are they the active ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Final

from streams.codec import Codec
from streams.control_log import active_config, read_control
from streams.environment import FromEnvironment, environment_names, setting_fields
from streams.errors import Fatal
from streams.feed.settings import FeedSettings
from streams.liveness.examination import Finding
from streams.setting_groups import GROUPS
from streams.settings import Config, Runtime
from streams.stages.freshness import fresh_for_ms, lookback_problems

ALIKE: Final = 0.86
OWN_PREFIX: Final = "MANIFOLD_"
OWN_NAMES: Final = ("MANIFOLD_CACHE", "MANIFOLD_FAULT_KILLS")
SHORTEST: Final = 6
CORRECT: Final = "correct it; manifold config show lists all"


def parsed(groups: Iterable[type[FromEnvironment]], env: Mapping[str, str]) -> list[Finding]:
    """Return whether every group of settings can be read from the environment."""
    wrong = []
    count = 0
    for group in groups:
        count += len(setting_fields(group))
        try:
            group.from_env(env)
        except Fatal as error:
            wrong.append(
                Finding("settings", "fail", str(error), "correct it; manifold config show")
            )
    return wrong or [Finding("settings", "ok", f"{count} settings can be read")]


def known_names(groups: Iterable[type[FromEnvironment]]) -> set[str]:
    """Return every environment name of the groups, the files of secrets included."""
    names = set(OWN_NAMES)
    for group in groups:
        for item in setting_fields(group):
            names.update(environment_names(item))
            if item.metadata["secret"]:
                names.add(f"{item.name.upper()}_FILE")
    return names


def misspelt(groups: Iterable[type[FromEnvironment]], env: Mapping[str, str]) -> list[Finding]:
    """Return the names in the environment that look like a setting and are none."""
    known = known_names(groups)
    found = []
    for name in sorted(set(env) - known):
        plain = name.upper()
        if plain in known:
            found.append(f"{name} is written {plain}")
            continue
        alike = get_close_matches(plain, known, 1, ALIKE) if len(name) >= SHORTEST else []
        if alike:
            found.append(f"{name} looks like {alike[0]}")
        elif plain.startswith(OWN_PREFIX):
            found.append(f"{name} is no setting")
    if not found:
        return [Finding("spelling", "ok", "no name in the environment looks like a misspelt one")]
    action = "rename or remove it: as it is, the default holds; manifold config show"
    return [Finding("spelling", "warn", "; ".join(found), action)]


def active(runtime: Runtime, codec: Codec, env: Mapping[str, str]) -> list[Finding]:
    """Return whether the settings here are those that hold for the fleet.

    Raises
    ------
    Fatal, Recoverable
        A setting does not parse; the topic is missing; no broker answers.
    """
    mine = Config.from_env(env)
    found = active_config(read_control(runtime, codec))
    if found is None:
        detail = f"none is active yet; the first worker or feed makes {mine.config_id} active"
        return [Finding("active config", "ok", detail)]
    differs = mine.differences(found)
    if differs:
        detail = f"the settings here differ from the active ones: {'; '.join(differs)}"
        action = (
            "set them alike, or change them for the whole fleet: "
            "manifold config apply --reason TEXT; a worker here would refuse to start"
        )
        return [Finding("active config", "fail", detail, action)]
    return [Finding("active config", "ok", f"{found.config_id}, as here")]


def look_back(env: Mapping[str, str]) -> list[Finding]:
    """Return whether repetitions can be counted with these bars, and keys do not outlive them."""
    try:
        config, settle_ms = Config.from_env(env), FeedSettings.from_env(env).feed_settle_ms
    except Fatal:
        return []  # named as a setting that cannot be read
    problems = lookback_problems(config, settle_ms)
    if problems:
        return [Finding("look-back", "warn", one, "manifold config set") for one in problems]
    alive_s = fresh_for_ms(config.granularity_ms, settle_ms) / 1000
    detail = f"{config.echo_lookback_minutes} min, ws:last:manifold lives {alive_s:g} s"
    return [Finding("look-back", "ok", detail)]


def examine_settings(env: Mapping[str, str]) -> list[Finding]:
    """Return what is found by looking at the environment alone."""
    return [*parsed(GROUPS, env), *misspelt(GROUPS, env), *look_back(env)]
