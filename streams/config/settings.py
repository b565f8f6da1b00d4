"""The settings that can change a derived record: name, default, unit and bounds of each.

They are written to ``ops.control``, ``config_id`` is their hash, and a stage reads them from the
log. Settings on which no record depends, such as connections and ports, are in
``streams.config.runtime``. Both are read from the environment once, at start.
"""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass, field
from importlib.metadata import version
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from streams.config.environment import FromEnvironment, setting, setting_fields
from streams.config.holidays import FIRST_HOLIDAYS_VERSION, HOLIDAYS_VERSION, special_hours
from streams.errors import Fatal
from streams.instants import GRANULARITY_MS

MAX_SLICES, MAX_SLICE_DAYS = 4, 60


class UnknownSettings(Fatal):
    """A config record contains settings of another version of this program."""


_RATIO = (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Config(FromEnvironment):
    """The settings that can change a derived record; ``config_id`` is the hash of their text.

    Attributes
    ----------
    source_text
        The text that `from_json` read; None for settings from another source and for changed
        settings.
    """

    candle_gran: str = setting(
        "M1",
        "candle granularity that is processed; other candles are ignored",
        choices=tuple(GRANULARITY_MS),
    )
    candle_count: int = setting(
        1500, "number of candles in a manifold", unit="candles", bounds=(129, 20_000)
    )
    allow_missing_volume: bool = setting(
        False, "accept candles without volume (counted as 0) and flag their signals"
    )
    echo_lookback_minutes: int = setting(
        60, "lookback in which repetitions of a signature are counted", unit="min", bounds=(1, 1440)
    )
    echo_signature_precision: int = setting(2, "decimal places of a signature", bounds=(0, 6))
    gate_mode: str = setting(
        "adaptive",
        "how gates decide: guards and the rolling backtest, the guards alone, or the echo rule",
        choices=("adaptive", "static", "echo"),
    )
    auto_min_coherence: float = setting(
        0.55, "minimum coherence", names=("GUARD_MIN_COHERENCE",), bounds=_RATIO
    )
    guard_min_stability: float = setting(
        0.40, "minimum stability", names=("AUTO_MIN_STABILITY",), bounds=_RATIO
    )
    auto_max_entropy: float = setting(
        0.70, "maximum entropy", names=("GUARD_MAX_ENTROPY",), bounds=_RATIO
    )
    auto_max_rupture: float = setting(
        0.60, "maximum rupture", names=("GUARD_MAX_RUPTURE",), bounds=_RATIO
    )
    auto_max_hazard: float | None = setting(
        None, "maximum hazard; unset = no hazard guard", bounds=_RATIO
    )
    session_pattern_min_occurrences: int = setting(
        2,
        "minimum count_1h of the signature (adaptive and static mode)",
        unit="windows",
        bounds=(1, 10_000),
    )
    echo_min_repetitions: int = setting(
        3,
        "minimum count_1h (echo mode)",
        unit="windows",
        names=("REPETITION_MIN_COUNT",),
        bounds=(1, 10_000),
    )
    echo_hazard_max: float = setting(0.70, "maximum hazard (echo mode)", bounds=_RATIO)
    session_trading_enabled: bool = setting(True, "gate by sessions and by market hours")
    session_exit_minutes: int = setting(
        5, "time before a close that counts as near the close", unit="min", bounds=(0, 720)
    )
    fresh_max_signal_age_sec: int = setting(
        300,
        "how long the last signal's result holds without a new candle",
        unit="s",
        bounds=(0, 86_400),
    )
    hysteresis_default: float = setting(
        0.10, "hysteresis buffer around a floor", unit="fraction", bounds=(0.0, 0.30)
    )
    hysteresis_pair_json: tuple[tuple[str, float], ...] = setting(
        (),
        'hysteresis buffers per instrument, JSON {"EUR_USD": 0.12}, each clamped to 0..0.30',
        unit="fraction",
    )
    auto_direction_mode: str = setting(
        "combined",
        "how the direction is chosen: by the slope while coherence does not fall, or by the slope "
        "alone",
        choices=("combined", "slope"),
    )
    auto_direction_lookback: int = setting(
        12,
        "number of bars over which slope and coherence are compared",
        unit="bars",
        bounds=(1, 120),
    )
    auto_dir_threshold_bps: float = setting(
        2.0, "minimum slope that gives a direction", unit="bps", bounds=(0.0, 10_000.0)
    )
    exit_slope_enabled: bool = setting(True, "close a position when the slope turns against it")
    exit_pnl_enabled: bool = setting(True, "stop and target in percent of the entry price")
    exit_pnl_target_pct: float = setting(
        0.50, "target", unit="% of the entry price", bounds=(0.0001, 100.0)
    )
    exit_pnl_stop_pct: float = setting(
        1.25, "stop", unit="% of the entry price", bounds=(0.0001, 100.0)
    )
    auto_tp_mode: str = setting(
        "pct", "stop and target by percent, or by the average true range", choices=("pct", "atr")
    )
    atr_stop_mult: float = setting(
        1.8, "stop in average true ranges (atr mode)", bounds=(0.01, 100.0)
    )
    atr_bars: int = setting(
        14, "number of bars of the average true range", unit="bars", bounds=(1, 1_000)
    )
    auto_tp_rr: float = setting(
        1.5, "target as a multiple of the stop distance (atr mode)", bounds=(0.01, 100.0)
    )
    pm_default_hold_seconds: int = setting(
        1800, "maximum holding time of a position", unit="s", bounds=(1, 31_536_000)
    )
    entry_cooldown_sec: int = setting(
        60, "minimum time from an entry bar to the next entry", unit="s", bounds=(0, 31_536_000)
    )
    exit_cooldown_sec: int = setting(
        60, "minimum time from an exit bar to the next entry", unit="s", bounds=(0, 31_536_000)
    )
    backtest_cost_bps: float = setting(
        1.5,
        "cost per side of a trade when a candle has no bid and ask",
        unit="bps",
        bounds=(0.0, 1_000.0),
    )
    eval_interval_sec: int = setting(
        900,
        "interval between evaluations of the backtest, in event time",
        unit="s",
        bounds=(1, 86_400),
    )
    eval_slices_days: tuple[int, ...] = setting(
        (14, 30, 60),
        "lengths of the trailing slices of a summary, ascending, at most 4",
        unit="days",
    )
    eval_span_days: int = setting(
        30, "length of the slice that floors are applied to", unit="days", bounds=(1, 60)
    )
    eval_history_hours: int = setting(
        720, "number of hourly samples that floors adapt to", unit="samples", bounds=(1, 2_160)
    )
    eval_min_trades: float = setting(
        10.0, "minimum number of trades, before floors adapt", unit="trades", bounds=(0.0, 1e6)
    )
    eval_calmar_min: float = setting(
        0.15, "minimum Calmar ratio, before floors adapt", bounds=(-1e6, 1e6)
    )
    eval_pnl_min: float = setting(
        0.0, "minimum P&L, before floors adapt", unit="fraction of notional", bounds=(-1e6, 1e6)
    )
    cooldown_sec: int = setting(
        7200, "cooldown after 4 consecutive misses", unit="s", bounds=(0, 31_536_000)
    )
    alloc_interval_sec: int = setting(
        60, "interval between allocation epochs", unit="s", bounds=(1, 86_400)
    )
    alloc_top_k: int = setting(3, "maximum number of instruments with a weight", bounds=(1, 1_000))
    alloc_score_weight_coherence: float = setting(
        0.60,
        "weight of coherence in the score",
        names=("ALLOC_W_C",),
        own_name_wins=True,
        bounds=(0.0, 100.0),
    )
    alloc_score_weight_stability: float = setting(
        0.20,
        "weight of stability",
        names=("ALLOC_W_STAB",),
        own_name_wins=True,
        bounds=(0.0, 100.0),
    )
    alloc_score_weight_rupture: float = setting(
        0.15,
        "weight of 1 - rupture",
        names=("ALLOC_W_RUP",),
        own_name_wins=True,
        bounds=(0.0, 100.0),
    )
    alloc_score_weight_entropy: float = setting(
        0.05,
        "weight of 1 - entropy",
        names=("ALLOC_W_ENT",),
        own_name_wins=True,
        bounds=(0.0, 100.0),
    )
    alloc_score_weight_hazard: float | None = setting(
        None,
        "weight of ALLOC_SCORE_HAZARD, which is subtracted; unset = no such term",
        bounds=(0.0, 1e6),
    )
    alloc_score_hazard: str = setting(
        "lambda",
        "metric weighted by ALLOC_SCORE_WEIGHT_HAZARD: lambda of the manifold (docs/hazard.md), "
        "or the "
        "window's lambda_hazard, which equals rupture",
        choices=("lambda", "lambda_hazard"),
    )
    alloc_max_hold_sec: int = setting(
        900,
        "how long weights are held when no instrument is eligible",
        unit="s",
        bounds=(0, 86_400),
    )
    gates_blob_max_age_sec: int = setting(
        180,
        "maximum age of an instrument's gate decision at an epoch",
        unit="s",
        bounds=(1, 86_400),
    )
    risk_alloc_target_pct: float = setting(
        0.30, "total exposure of all weights", unit="fraction of the account", bounds=_RATIO
    )
    pm_max_per_pos_pct: float = setting(
        0.10, "maximum exposure of one instrument", unit="fraction of the account", bounds=_RATIO
    )
    tzdata_version: str = setting(
        lambda: version("tzdata"), "version of the time zone rules for sessions"
    )
    market_calendar: str = setting(
        "fx",
        "hours of the market: FX week and holidays, or (only for a synthetic market) always open",
        choices=("fx", "continuous"),
    )
    market_holidays: str = setting(
        "oanda",
        "holidays of the fx calendar: oanda, none, or open hours by date as JSON "
        '{"2026-11-27": "00:00-13:00", "12-25": "closed"}',
        unit="New York time",
    )
    market_holidays_version: str = setting(
        HOLIDAYS_VERSION, "version of the table behind MARKET_HOLIDAYS=oanda"
    )
    source_text: str | None = field(default=None, init=False, compare=False, repr=False)

    def check(self) -> None:
        """Raise Fatal for the first value that is out of bounds or inconsistent with another."""
        FromEnvironment.check(self)
        try:
            special_hours(self.market_holidays)
        except ValueError as error:
            raise Fatal(f"MARKET_HOLIDAYS: {error}") from None
        slices = self.eval_slices_days
        within = all(1 <= days <= MAX_SLICE_DAYS for days in slices)
        if not within or not 1 <= len(slices) <= MAX_SLICES or sorted(set(slices)) != [*slices]:
            raise Fatal(
                f"EVAL_SLICES_DAYS={','.join(map(str, slices))} is not 1 to {MAX_SLICES} ascending "
                f"numbers of days from 1 to {MAX_SLICE_DAYS}"
            )
        if self.eval_span_days not in slices:
            raise Fatal(
                f"EVAL_SPAN_DAYS={self.eval_span_days} is none of EVAL_SLICES_DAYS="
                f"{','.join(map(str, slices))}"
            )

    @property
    def granularity_ms(self) -> int:
        """Length of a processed bar in milliseconds."""
        return GRANULARITY_MS[self.candle_gran]

    @property
    def window_shape(self) -> tuple[int, int, int]:
        """Arguments of ``CandleStream``."""
        return self.candle_count, self.echo_lookback_minutes, self.echo_signature_precision

    def buffer(self, instrument: str) -> float:
        """Return the hysteresis buffer of ``instrument``, clamped to 0..0.30."""
        for name, value in self.hysteresis_pair_json:
            if name == instrument:
                return min(max(value, 0.0), 0.30)
        return min(max(self.hysteresis_default, 0.0), 0.30)

    def to_json(self) -> str:
        """Return the settings as canonical JSON: the ``value`` of a ``config`` control record."""
        values = {item.name.upper(): getattr(self, item.name) for item in setting_fields(self)}
        values["HYSTERESIS_PAIR_JSON"] = dict(self.hysteresis_pair_json)
        return json.dumps(values, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Config:
        """Read settings that ``to_json`` of this or an older version wrote.

        A setting missing from the text has its default, or the value that matches the behaviour
        before the setting existed. Unknown settings are refused.

        Raises
        ------
        Fatal
            Unknown names, values out of bounds, or text that is not such JSON.
        """
        try:
            values = {name.lower(): value for name, value in json.loads(text).items()}
        except (ValueError, AttributeError) as error:
            raise Fatal(
                f"a config record in ops.control is not a JSON object: {text[:80]!r}"
            ) from error
        values.setdefault("market_holidays_version", FIRST_HOLIDAYS_VERSION)
        if values.get("alloc_score_weight_hazard"):
            # logs older than this setting were computed with lambda_hazard and must keep their
            # results
            values.setdefault("alloc_score_hazard", "lambda_hazard")
        unknown = sorted(set(values) - {item.name for item in setting_fields(cls)})
        if unknown:
            raise UnknownSettings(
                "a config record in ops.control has settings this version does not know: "
                f"{', '.join(name.upper() for name in unknown)}; run the version that wrote it"
            )
        pairs = values.get("hysteresis_pair_json", {})
        try:
            values["hysteresis_pair_json"] = tuple(sorted((k, float(v)) for k, v in pairs.items()))
            if "eval_slices_days" in values:
                values["eval_slices_days"] = tuple(int(v) for v in values["eval_slices_days"])
            made = cls(**{name: _typed(name, value) for name, value in values.items()})
        except (TypeError, ValueError, AttributeError) as error:
            raise Fatal(
                f"a config record in ops.control has a value of a wrong type: {error}"
            ) from error
        made.check()
        object.__setattr__(made, "source_text", text)
        return made

    @property
    def config_id(self) -> str:
        """First 16 hex digits of the SHA-256 of ``source_text``, or of ``to_json`` without one.

        The hash covers the text as written: a version with one more setting would serialize the
        same record differently, and every derived record would get another id.
        """
        text = self.to_json() if self.source_text is None else self.source_text
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def differing(self, other: Config) -> list[str]:
        """Return the attributes in which the two differ."""
        names = (item.name for item in setting_fields(self))
        return [name for name in names if getattr(self, name) != getattr(other, name)]

    def differences(self, other: Config) -> list[str]:
        """Return ``NAME: mine != theirs`` for every setting in which the two differ."""
        return [
            f"{name.upper()}: {getattr(self, name)} != {getattr(other, name)}"
            for name in self.differing(other)
        ]


@functools.cache
def _hints() -> dict[str, Any]:
    return get_type_hints(Config)


def _typed(name: str, value: Any) -> Any:
    hint = _hints()[name]
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if float in kinds and type(value) is int:
        return float(value)
    if get_origin(hint) is not tuple and type(value) not in kinds:
        raise TypeError(f"{name.upper()}={value!r}")
    return value
