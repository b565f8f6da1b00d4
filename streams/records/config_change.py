"""Plan a change of the configuration in ``ops.control``: differences and consequences. Pure.

The command line and the service plan a change with the same functions: ``named`` changes some
settings on top of what is active, ``whole`` replaces all of it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, Literal, NamedTuple

from streams.config.environment import setting_text
from streams.config.names import all_names, looks_like, not_of_the_configuration, not_read
from streams.config.run_parameters import RUN_PARAMETERS, overrides_of, params_id
from streams.config.settings import Config
from streams.errors import Fatal
from streams.records.control import ControlState
from streams.records.events import Control

Effect = Literal["bars", "windows", "runs", "gates", "weights"]
EFFECTS: Final[tuple[Effect, ...]] = ("bars", "windows", "runs", "gates", "weights")

INSTALLED: Final = ("tzdata_version", "market_holidays_version")
"""Versions of installed tables: changed only when named explicitly."""
_WINDOWS: Final = ("candle_count", "echo_lookback_minutes", "echo_signature_precision")
_WEIGHTS: Final = (
    "alloc_interval_sec",
    "alloc_top_k",
    "alloc_max_hold_sec",
    "gates_blob_max_age_sec",
    "risk_alloc_target_pct",
    "pm_max_per_pos_pct",
)
_NAMED: Final = 3
_EVER: Final = 1 << 62
"""An epoch later than every change of the universe."""


class SettingChange(NamedTuple):
    """A changed setting: values as environment text, empty when unset."""

    name: str
    before: str
    after: str
    effect: Effect

    @property
    def words(self) -> str:
        """The change as readable text."""
        return f"{self.name}: {self.before or 'unset'} -> {self.after or 'unset'}"


class ConfigChange(NamedTuple):
    """A planned change of the configuration.

    Attributes
    ----------
    before, after
        The active configuration (None before the first), and the new one.
    changes
        Changed settings; for a first configuration those that differ from the defaults.
    refolds
        What is recomputed, and when the change takes effect; one sentence each.
    """

    before: Config | None
    after: Config
    changes: tuple[SettingChange, ...]
    refolds: tuple[str, ...]

    @property
    def needed(self) -> bool:
        """Whether the configuration differs."""
        return self.before is None or bool(self.changes)

    def record(self, actor: str, reason: str, now_ms: int) -> Control:
        """Return the control record of the change."""
        text = self.after.source_text or self.after.to_json()
        return Control("config", None, text, actor, reason, now_ms)

    def as_dict(self) -> dict[str, Any]:
        """Return the change as JSON."""
        return {
            "config_id": self.after.config_id,
            "config_id_before": self.before.config_id if self.before else None,
            "changes": [change._asdict() for change in self.changes],
            "refolds": list(self.refolds),
        }


def with_named(config: Config, texts: Mapping[str, str]) -> Config:
    """Return ``config`` with new values for the named settings.

    Parameters
    ----------
    texts
        Environment name -> environment text; empty for the default.

    Raises
    ------
    Fatal
        A name is not a setting of the configuration, a value is invalid, or settings are
        inconsistent.
    """
    defaults = Config()
    values = {name: getattr(defaults, name) for name in attributes(texts)}
    values |= Config.values_in(texts)
    wanted = json.loads(Config(**values).to_json())
    # a record of an older version contains fewer settings; keep only those
    text = config.source_text or config.to_json()
    written = {name.upper(): value for name, value in json.loads(text).items()}
    changed = {
        name.upper(): wanted[name.upper()]
        for name, value in values.items()
        if getattr(config, name) != value
    }
    if not changed:
        return config
    return Config.from_json(json.dumps(written | changed, sort_keys=True, separators=(",", ":")))


def attributes(names: Iterable[str]) -> list[str]:
    """Return the configuration settings of environment names.

    Raises
    ------
    Fatal
        A name is not a configuration setting; the message explains what it is.
    """
    found = []
    for name in names:
        attribute = Config.setting_of(name)
        if attribute is None:
            raise Fatal(not_of_the_configuration(name))
        found.append(attribute)
    return found


def named(state: ControlState, texts: Mapping[str, str]) -> ConfigChange:
    """Plan a change of the named settings of the active configuration.

    Parameters
    ----------
    state
        Current state of ``ops.control``.
    texts
        As in ``with_named``.

    Raises
    ------
    Fatal
        As ``with_named``; no configuration is active yet; or a named version is not installed here.
    """
    if state.config is None:
        raise Fatal(
            "ops.control holds no configuration yet: the first worker or feed writes that of its "
            "environment, or give one: manifold config apply --file FILE --reason TEXT"
        )
    return _change(state, with_named(state.config, texts))


def whole(state: ControlState, texts: Mapping[str, str]) -> ConfigChange:
    """Plan a complete configuration: settings that are not named get their default.

    ``TZDATA_VERSION`` and ``MARKET_HOLIDAYS_VERSION`` are kept unless named.

    Parameters
    ----------
    state, texts
        As in ``named``; only settings of the configuration.

    Raises
    ------
    Fatal
        As ``named``, except that a first configuration is allowed.
    """
    attributes(texts)
    values = Config.values_in(texts)
    if state.config is not None:
        values = {name: getattr(state.config, name) for name in INSTALLED} | values
    made = Config(**values)
    made.check()
    return _change(state, state.config if made == state.config else made)


def configuration_texts(found: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Split a settings file into configuration settings and other names.

    Raises
    ------
    Fatal
        A name looks like a misspelt setting.
    """
    texts = {name: text for name, text in found.items() if Config.setting_of(name) is not None}
    others = [name for name in found if name not in texts]
    for name in others:
        if name in all_names() or not_read(name) is not None:
            continue
        alike = looks_like(name, all_names())
        if alike:
            raise Fatal(f"{name} looks like {alike} but is not a setting; correct or remove it")
    return texts, others


def _change(state: ControlState, after: Config) -> ConfigChange:
    before = state.config
    from_values = Config() if before is None else before
    changes = tuple(
        SettingChange(
            name.upper(),
            setting_text(getattr(from_values, name)),
            setting_text(getattr(after, name)),
            effect_of(name),
        )
        for name in from_values.differing(after)
    )
    _require_installed(before, after)
    if before is None:
        return ConfigChange(None, after, changes, ("the first configuration of this log",))
    return ConfigChange(before, after, changes, _refolds(state, before, after, changes))


def _require_installed(before: Config | None, after: Config) -> None:
    installed = Config()
    for name in INSTALLED:
        here, wanted = getattr(installed, name), getattr(after, name)
        if wanted not in (here, before and getattr(before, name)):
            raise Fatal(
                f"{name.upper()}={wanted} is not what is installed here ({here}), and no worker of "
                "such an installation could follow it; change it from one that has it"
            )


def effect_of(name: str) -> Effect:
    """Return the first stage that a setting (attribute) affects."""
    if name == "candle_gran":
        return "bars"
    if name in _WINDOWS:
        return "windows"
    if name in RUN_PARAMETERS:
        return "runs"
    return "weights" if name in _WEIGHTS else "gates"


def _refolds(
    state: ControlState, before: Config, after: Config, changes: Collection[SettingChange]
) -> tuple[str, ...]:
    effects = {change.effect for change in changes}
    said = []
    if "bars" in effects:
        said.append(
            f"bars of {after.candle_gran} instead of {before.candle_gran}: every instrument begins "
            "anew with the candles of that length, without windows, runs, floors or cooldowns "
            "(129 candles to the first signal); feed and executor begin anew; trades that the "
            "executor has joined are closed"
        )
    if "windows" in effects:
        said.append(
            "windows: manifolds and repetitions of every instrument are computed again from the "
            "candles at hand"
        )
    if "runs" in effects:
        said += _runs(state, before, after)
    if "gates" in effects:
        said.append("gates: decisions and evaluations follow it from the next bar on")
    if "weights" in effects:
        said.append("weights: they follow it from the next epoch on")
    if said:
        said.append(
            "it takes effect at the next watermark of the feed: at the end of the next bar while "
            "the market is open"
        )
    return tuple(said)


def _runs(state: ControlState, before: Config, after: Config) -> list[str]:
    """Describe whose runs restart; a run with parameters of its instrument continues."""
    later = state._replace(config=after)
    names = sorted({*state.universe.members(_EVER), *state.params})
    anew: list[str] = []
    going_on: list[str] = []
    for name in names:
        was, will = state.config_of(name) or before, later.config_of(name) or after
        (going_on if params_id(was) == params_id(will) else anew).append(name)
    said = []
    if anew or not names:
        said.append(
            f"runs: those of {_several(anew) or 'every instrument'} start anew: the last 60 days "
            "of manifolds are folded again under the new parameters; position, floors and latch "
            "are those of a run that had always been so, and a trade that the executor has joined "
            "is closed where that run is not in it"
        )
    for name in going_on:
        own = ", ".join(sorted(each.upper() for each in overrides_of(state.params[name])))
        said.append(f"runs: that of {name} goes on, it has parameters of its own ({own})")
    return said


def _several(names: list[str]) -> str:
    if len(names) <= _NAMED:
        return ", ".join(names)
    return f"{len(names)} instruments ({', '.join(names[:_NAMED])}, ...)"
