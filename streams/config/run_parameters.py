"""The parameters of an instrument's backtest run, and their overrides per instrument.

A run has one fixed set of parameters (docs/spec/strict-backtest.md 1); ``params_id`` is its hash,
and a change of it starts a new run (6). They come from the configuration, unless a ``params``
record of ``ops.control`` says otherwise for the instrument.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from streams.config.settings import Config
from streams.errors import Fatal

RUN_PARAMETERS: tuple[str, ...] = (
    "auto_min_coherence",
    "guard_min_stability",
    "auto_max_entropy",
    "auto_max_rupture",
    "auto_max_hazard",
    "session_pattern_min_occurrences",
    "session_trading_enabled",
    "session_exit_minutes",
    "auto_direction_mode",
    "auto_direction_lookback",
    "auto_dir_threshold_bps",
    "exit_slope_enabled",
    "exit_pnl_enabled",
    "exit_pnl_target_pct",
    "exit_pnl_stop_pct",
    "auto_tp_mode",
    "atr_stop_mult",
    "atr_bars",
    "auto_tp_rr",
    "pm_default_hold_seconds",
    "entry_cooldown_sec",
    "exit_cooldown_sec",
    "backtest_cost_bps",
)
"""Names of the settings, as attributes of ``Config``."""

SHORT_NAMES = {
    "c_min": "auto_min_coherence",
    "direction_lookback": "auto_direction_lookback",
    "dir_threshold_bps": "auto_dir_threshold_bps",
    "entry_cooldown": "entry_cooldown_sec",
    "exit_cooldown": "exit_cooldown_sec",
}
"""Setting -> name of the parameter in a profile's ``opt:best_config:{INST}``."""


def parameters(config: Config) -> dict[str, Any]:
    """Return the parameters in force under ``config``, by setting name (upper case)."""
    values = asdict(config)
    return {name.upper(): values[name] for name in RUN_PARAMETERS}


def params_id(config: Config) -> str:
    """Return the first 16 hex digits of the SHA-256 of the parameters' canonical JSON."""
    text = json.dumps(parameters(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def overrides_of(value: str) -> dict[str, Any]:
    """Read the ``value`` of a ``params`` record: the instrument's whole set of overrides.

    Either ``{NAME: value}`` or the profile's ``{"params": {...}, "env": {...}, ...}``.

    Raises
    ------
    Fatal
        The text is not such an object, or a name is not a parameter of a run.
    """
    try:
        raw = json.loads(value)
    except ValueError as error:
        raise Fatal(f"a params record is not JSON: {value[:80]!r}") from error
    if not isinstance(raw, dict):
        raise Fatal(f"a params record is not a JSON object: {value[:80]!r}")
    if isinstance(raw.get("params"), dict) or isinstance(raw.get("env"), dict):
        parts = [raw.get("env", {}), raw.get("params", {})]
        if not all(isinstance(part, dict) for part in parts):
            raise Fatal("params and env of a best config are JSON objects")
        raw = {name: value for part in parts for name, value in part.items()}
    found: dict[str, Any] = {}
    for name, item in raw.items():
        known = SHORT_NAMES.get(name, str(name).lower())
        if known not in RUN_PARAMETERS:
            raise Fatal(
                f"{name} is not a parameter of a run; the parameters are "
                f"{', '.join(each.upper() for each in RUN_PARAMETERS)}"
            )
        found[known] = item
    return found


def overridden(config: Config, overrides: Mapping[str, Any]) -> Config:
    """Return ``config`` with the overrides of an instrument.

    Parameters
    ----------
    overrides
        Setting names (lower case) and values, as numbers, booleans, or the text of an environment.

    Raises
    ------
    Fatal
        A value has the wrong type or is out of bounds.
    """
    if not overrides:
        return config
    texts = {name: value for name, value in overrides.items() if isinstance(value, str)}
    read = Config.from_env({name.upper(): text for name, text in texts.items()})
    merged = json.loads(config.to_json())
    for name, value in overrides.items():
        merged[name.upper()] = getattr(read, name) if name in texts else value
    made = Config.from_json(json.dumps(merged))
    return replace(config, **{name: getattr(made, name) for name in overrides})
