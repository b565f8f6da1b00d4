"""The configuration that every process follows, and changing it for all of them."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal, NamedTuple

from fastapi import APIRouter
from pydantic import Field

from streams.config.environment import setting_fields, setting_text
from streams.config.settings import Config
from streams.errors import Fatal, Recoverable
from streams.kafka.config_writing import undone
from streams.kafka.control_topic import read_control
from streams.kafka.registry import open_codec
from streams.monitoring.alert_rules_config import by_process
from streams.monitoring.executor_status import Shape
from streams.records.codec import Codec
from streams.records.config_change import ConfigChange, Effect, effect_of, named, whole
from streams.records.control import ControlLog
from streams.service.audit import not_recorded
from streams.service.calls import Call, CallDep
from streams.service.errors import ApiError
from streams.service.live import Live, LiveDep
from streams.service.responses import CHANGES, READS, problem
from streams.service.shapes import Said

router = APIRouter(tags=["config"])

CHANGES_CONFIG = CHANGES | {
    409: problem("no configuration is active yet, or another one than the given config_id is")
}
MOST_SETTINGS, LONGEST_VALUE = 200, 20_000

Name = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{0,63}$", examples=["AUTO_MAX_ENTROPY"])]
Value = Annotated[str, Field(max_length=LONGEST_VALUE)] | bool | int | float
"""Value as in an environment variable; an empty text resets to the default."""


class GivenSettings(Said):
    """Settings by name, who changes them and why.

    ``dry_run`` shows the difference and changes nothing. With ``config_id`` the change is made only
    while that configuration is the active one.
    """

    settings: Annotated[dict[Name, Value], Field(max_length=MOST_SETTINGS)]
    dry_run: bool = False
    config_id: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")] | None = None

    @property
    def texts(self) -> dict[str, str]:
        """The settings in the notation of environment variables."""
        return {name: setting_text(value) for name, value in self.settings.items()}


class SettingChangeShape(Shape):
    """A setting that changes; ``effect`` is the first result that it affects."""

    name: str
    before: str
    after: str
    effect: Effect


class ConfigChanged(Shape):
    """The differences and what is derived again; ``offset`` is the record's offset in
    ops.control."""

    config_id: str
    config_id_before: str | None
    changes: list[SettingChangeShape]
    refolds: list[str]
    offset: int | None
    detail: str


class SettingShape(Shape):
    """A setting of the configuration.

    Values are in the notation of environment variables, empty when unset.
    """

    name: str
    other_names: list[str]
    value: str
    default: str
    unit: str
    doc: str
    effect: Effect


class DifferenceShape(Shape):
    """A setting with another value in a process's environment than in the log."""

    name: str
    here: str
    active: str


class ActiveConfig(Shape):
    """The active configuration, who activated it and why, and which processes differ from it."""

    ts_ms: int
    config_id: str | None
    offset: int | None
    actor: str | None
    reason: str | None
    as_of_ms: int | None
    settings: list[SettingShape]
    differs: dict[str, list[DifferenceShape]]


@router.get("/api/config", responses=READS)
async def read_config(live: LiveDep) -> ActiveConfig:
    """The active configuration; that of the service's environment while the log has none."""
    control, facts = live.view.control, live.facts.facts()
    records = [(at, r) for at, r in control.records if r.kind == "config"]
    at, last = records[-1] if records else (None, None)
    differs = by_process(facts) if facts is not None else {}
    return ActiveConfig(
        ts_ms=live.now_ms(),
        config_id=live.view.state.config_id or None,
        offset=at,
        actor=last.actor if last else None,
        reason=last.reason if last else None,
        as_of_ms=last.as_of_ms if last else None,
        settings=_settings(live.config),
        differs={
            who: [DifferenceShape(**one._asdict()) for one in found]
            for who, found in differs.items()
            if found
        },
    )


def _settings(config: Config) -> list[SettingShape]:
    default = Config()
    return [
        SettingShape(
            name=item.name.upper(),
            other_names=list(item.metadata["names"]),
            value=setting_text(getattr(config, item.name)),
            default=setting_text(getattr(default, item.name)),
            unit=item.metadata["unit"],
            doc=item.metadata["doc"],
            effect=effect_of(item.name),
        )
        for item in setting_fields(config)
    ]


@router.post("/api/config/set", responses=CHANGES_CONFIG)
async def set_config(given: GivenSettings, live: LiveDep, call: CallDep) -> ConfigChanged:
    """Change only the named settings, for every process.

    It takes effect at the next watermark, at the same record in every process.
    """
    return await _change(given, "set", live, call)


@router.post("/api/config/apply", responses=CHANGES_CONFIG)
async def apply_config(given: GivenSettings, live: LiveDep, call: CallDep) -> ConfigChanged:
    """Replace the whole configuration: a setting that is not named is reset to its default.

    TZDATA_VERSION and MARKET_HOLIDAYS_VERSION stay as they are unless they are named.
    """
    return await _change(given, "apply", live, call)


class _Plan(NamedTuple):
    codec: Codec
    log: ControlLog
    change: ConfigChange


async def _change(
    given: GivenSettings, what: Literal["set", "apply"], live: Live, call: Call
) -> ConfigChanged:
    # one at a time: each change is planned on the active configuration
    async with live.changing_config:
        plan = await _plan(given, what, live)
        if given.dry_run:
            return _changed(plan.change, None, "nothing was changed (dry_run)")
        if not plan.change.needed:
            offset = await call.record(given)
            return _changed(plan.change, offset, "this configuration is active already")
        start = plan.log.end
        record = plan.change.record(given.actor, given.reason, live.now_ms())
        offset = await call.say(record)
        log = await asyncio.to_thread(read_control, live.runtime, plan.codec, plan.log)
        overtaken = undone(log, start, offset)
        return _changed(plan.change, offset, overtaken or "every process follows it")


async def _plan(given: GivenSettings, what: Literal["set", "apply"], live: Live) -> _Plan:
    """Plan a change of the active configuration.

    Raises
    ------
    ApiError
        400: a setting is wrong; 409: it cannot be changed in this state; 503: no log.
    """
    try:
        codec = await open_codec(live.runtime)
        log = await asyncio.to_thread(read_control, live.runtime, codec)
    except (Recoverable, Fatal) as error:
        raise not_recorded(str(error)) from error
    state = log.state(log.end)
    if what == "set" and state.config is None:
        detail = "the log holds no configuration yet: the first worker or feed writes it"
        raise ApiError(409, "no_configuration", detail)
    if given.config_id is not None and given.config_id != state.config_id:
        detail = f"{state.config_id or 'none'} is active, not {given.config_id}: read it again"
        raise ApiError(409, "config_changed", detail)
    try:
        change = (named if what == "set" else whole)(state, given.texts)
    except Fatal as error:
        raise ApiError(400, "invalid_setting", str(error)) from error
    return _Plan(codec, log, change)


def _changed(change: ConfigChange, offset: int | None, detail: str) -> ConfigChanged:
    return ConfigChanged(**change.as_dict(), offset=offset, detail=detail)
