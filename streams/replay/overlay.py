"""What-if control: other settings, fewer instruments, over what ``ops.control`` really says."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from streams.control import ControlLog, UniverseChange
from streams.errors import Fatal
from streams.events import Control
from streams.settings import Config


def overlaid(
    control: ControlLog, settings: Mapping[str, str], instruments: Sequence[str] = ()
) -> ControlLog:
    """Return ``control`` as it would be with other settings and instruments.

    Parameters
    ----------
    settings
        Environment names and texts that hold in every configuration, whatever it says.
    instruments
        Only these; empty for all.

    Raises
    ------
    Fatal
        A setting that cannot change a result, or a value that it cannot have.
    """
    if not settings and not instruments:
        return control
    wanted = _wanted(settings)
    made = ControlLog()
    for offset, record in control.records:
        made.append(offset, _changed(record, wanted, instruments))
    made.advance(control.end)
    return made


def with_settings(config: Config, settings: Mapping[str, str]) -> Config:
    """Return ``config`` with other settings, by environment names and texts.

    Raises
    ------
    Fatal
        As ``overlaid``.
    """
    return _with(config, _wanted(settings))


def _wanted(settings: Mapping[str, str]) -> dict[str, object]:
    if not settings:
        return {}
    read = Config.from_env(settings)
    known = json.loads(read.to_json())
    found: dict[str, object] = {}
    for name in settings:
        field = Config.setting_of(name)
        if field is None:
            raise Fatal(
                f"--set {name}: no setting of this name can change a result; "
                "manifold config show lists those that can"
            )
        found[field.upper()] = known[field.upper()]
    return found


def _with(config: Config, wanted: Mapping[str, object]) -> Config:
    made = Config.from_json(json.dumps(json.loads(config.to_json()) | dict(wanted)))
    return replace(made)  # no record of the log has this text


def _changed(record: Control, wanted: Mapping[str, object], instruments: Sequence[str]) -> Control:
    if record.kind == "config" and wanted:
        config = Config.from_json(record.value)
        return record._replace(value=_with(config, wanted).to_json())
    if record.kind == "universe" and instruments:
        change = UniverseChange.from_json(record.value)
        kept = tuple(name for name in change.instruments if name in instruments)
        return record._replace(value=change._replace(instruments=kept).to_json())
    return record
