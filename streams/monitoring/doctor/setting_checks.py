"""Checks of the settings: they parse, none is misspelt, they equal the active ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from streams.candles.freshness import fresh_for_ms, lookback_problems
from streams.checks import Finding
from streams.config.difference import WHAT_TO_DO, differences
from streams.config.environment import FromEnvironment, setting_fields
from streams.config.feeds import FeedSettings
from streams.config.groups import GROUPS
from streams.config.names import known_names, looks_like, not_read
from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.config.unused_variables import describe_unused
from streams.errors import Fatal
from streams.kafka.control_topic import active_config, read_control
from streams.records.codec import Codec
from streams.records.config_following import require_followable

OWN_PREFIX: Final = "MANIFOLD_"
CORRECT: Final = "correct it; manifold config show lists all"


def settings_readable(
    groups: Iterable[type[FromEnvironment]], env: Mapping[str, str]
) -> list[Finding]:
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


def misspelt(groups: Iterable[type[FromEnvironment]], env: Mapping[str, str]) -> list[Finding]:
    """Return the names in the environment that look like a misspelt setting."""
    known = known_names(groups)
    found = []
    for name in sorted(set(env) - known):
        if not_read(name) is not None:
            continue  # reported by ``unread``
        alike = looks_like(name, known)
        if alike == name.upper():
            found.append(f"{name} is written {alike}")
        elif alike:
            found.append(f"{name} looks like {alike}")
        elif name.upper().startswith(OWN_PREFIX):
            found.append(f"{name} is not a setting")
    if not found:
        return [Finding("spelling", "ok", "no name in the environment looks like a misspelt one")]
    action = "rename or remove it: now the default applies; manifold config show"
    return [Finding("spelling", "warn", "; ".join(found), action)]


def unread(env: Mapping[str, str]) -> list[Finding]:
    """Return the environment variables of the original that are not read here."""
    rows = ((name, not_read(name)) for name in sorted(env))
    found = [describe_unused(name, row) for name, row in rows if row is not None]
    if not found:
        return [Finding("unused variables", "ok", "no unused variable of the original is set")]
    action = "remove it: nothing reads it; docs/unused-variables.md has all of them"
    return [Finding("unused variables", "warn", said, action) for said in found]


def active(runtime: Runtime, codec: Codec, env: Mapping[str, str]) -> list[Finding]:
    """Return whether the settings of this environment equal the active ones.

    Raises
    ------
    Fatal, Recoverable
        A setting does not parse; the topic is missing; no broker answers.
    """
    mine = Config.from_env(env)
    found = active_config(read_control(runtime, codec))
    if found is None:
        detail = f"none is active yet; the first worker or feed activates {mine.config_id}"
        return [Finding("active config", "ok", detail)]
    require_followable(found)
    differs = differences(mine, found)
    if differs:
        said = "; ".join(one.words for one in differs)
        detail = f"{found.config_id} is active and takes precedence over this environment: {said}"
        return [Finding("active config", "warn", detail, WHAT_TO_DO)]
    return [Finding("active config", "ok", f"{found.config_id}, same as in this environment")]


def look_back(env: Mapping[str, str]) -> list[Finding]:
    """Return whether ECHO_LOOKBACK_MINUTES fits the bar length and the lifetime of keys."""
    try:
        config, settle_ms = Config.from_env(env), FeedSettings.from_env(env).feed_settle_ms
    except Fatal:
        return []  # reported as a setting that cannot be read
    problems = lookback_problems(config, settle_ms)
    if problems:
        return [Finding("look-back", "warn", one, "manifold config set") for one in problems]
    alive_s = fresh_for_ms(config.granularity_ms, settle_ms) / 1000
    detail = f"{config.echo_lookback_minutes} min, ws:last:manifold lives {alive_s:g} s"
    return [Finding("look-back", "ok", detail)]


def examine_settings(env: Mapping[str, str]) -> list[Finding]:
    """Return the findings that need only the environment."""
    return [*settings_readable(GROUPS, env), *misspelt(GROUPS, env), *look_back(env), *unread(env)]
