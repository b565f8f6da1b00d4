"""What-if control log: overrides settings and instruments of ``ops.control``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from streams.config.settings import Config
from streams.records.config_change import attributes, with_named
from streams.records.control import ControlLog, UniverseChange
from streams.records.events import Control


def overlaid(
    control: ControlLog, settings: Mapping[str, str], instruments: Sequence[str] = ()
) -> ControlLog:
    """Return ``control`` with other settings and instruments.

    Parameters
    ----------
    settings
        Environment names -> texts that override every configuration.
    instruments
        Only these; empty for all.

    Raises
    ------
    Fatal
        A setting cannot change a result, or a value is invalid.
    """
    if not settings and not instruments:
        return control
    # checked even if the log has no configuration to change
    attributes(settings)
    Config.values_in(settings)
    made = ControlLog()
    for offset, record in control.records:
        made.append(offset, _changed(record, settings, instruments))
    made.advance(control.end)
    made.refused_watermarks |= control.refused_watermarks
    return made


def with_settings(config: Config, settings: Mapping[str, str]) -> Config:
    """Return ``config`` with other settings, by environment names and texts.

    Raises
    ------
    Fatal
        As ``overlaid``.
    """
    return replace(with_named(config, settings))  # no record in the log has this text


def _changed(record: Control, settings: Mapping[str, str], instruments: Sequence[str]) -> Control:
    if record.kind == "config" and settings:
        made = with_settings(Config.from_json(record.value), settings)
        return record._replace(value=made.to_json())
    if record.kind == "universe" and instruments:
        change = UniverseChange.from_json(record.value)
        kept = tuple(name for name in change.instruments if name in instruments)
        return record._replace(value=change._replace(instruments=kept).to_json())
    return record
