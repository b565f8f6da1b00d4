"""The settings that can change a derived record: name, default, unit and bounds of each.

They are written to ``ops.control``, ``config_id`` is their hash, and a stage takes them from the
log. What no record depends on, such as connections and ports, is in ``streams.config.runtime``.
Both are read from the environment once, at start.
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
    """A config record names settings of another version of this program."""


_RATIO = (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Config(FromEnvironment):
    """The settings that can change a derived record; ``config_id`` is the hash of their text.

    Attributes
    ----------
    source_text
        The text that `from_json` read; None for settings from elsewhere, changed ones included.
    """

    candle_gran: str = setting(
        "M1",
        "granularity that is processed; other candles stay in the log",
        choices=tuple(GRANULARITY_MS),
    )
    candle_count: int = setting(
        1500, "candles a manifold covers", unit="candles", bounds=(129, 20_000)
    )
    allow_missing_volume: bool = setting(
        False, "accept candles without volume (counted as 0) and flag their signals"
    )
    echo_lookback_minutes: int = setting(
        60, "how far back repetitions count", unit="min", bounds=(1, 1440)
    )
    echo_signature_precision: int = setting(2, "decimals of a signature", bounds=(0, 6))
    gate_mode: str = setting(
        "adaptive",
        "how gates decide: guards and the rolling backtest, the guards alone, or the echo rule",
        choices=("adaptive", "static", "echo"),
    )
    auto_min_coherence: float = setting(
        0.55, "least coherence", names=("GUARD_MIN_COHERENCE",), bounds=_RATIO
    )
    guard_min_stability: float = setting(
        0.40, "least stability", names=("AUTO_MIN_STABILITY",), bounds=_RATIO
    )
    auto_max_entropy: float = setting(
        0.70, "most entropy", names=("GUARD_MAX_ENTROPY",), bounds=_RATIO
    )
    auto_max_rupture: float = setting(
        0.60, "most rupture", names=("GUARD_MAX_RUPTURE",), bounds=_RATIO
    )
    auto_max_hazard: float | None = setting(
        None, "most hazard; unset = no such guard", bounds=_RATIO
    )
    session_pattern_min_occurrences: int = setting(
        2,
        "least count_1h of the signature (adaptive and static mode)",
        unit="windows",
        bounds=(1, 10_000),
    )
    echo_min_repetitions: int = setting(
        3,
        "least count_1h (echo mode)",
        unit="windows",
        names=("REPETITION_MIN_COUNT",),
        bounds=(1, 10_000),
    )
    echo_hazard_max: float = setting(0.70, "most hazard (echo mode)", bounds=_RATIO)
    session_trading_enabled: bool = setting(True, "gate by sessions and by market hours")
    session_exit_minutes: int = setting(
        5, "how long before a close counts as near", unit="min", bounds=(0, 720)
    )
    fresh_max_signal_age_sec: int = setting(
        300,
        "how long the last signal's verdict holds without a candle",
        unit="s",
        bounds=(0, 86_400),
    )
    hysteresis_default: float = setting(
        0.10, "buffer around a floor", unit="fraction", bounds=(0.0, 0.30)
    )
    hysteresis_pair_json: tuple[tuple[str, float], ...] = setting(
        (),
        'buffers per instrument, JSON {"EUR_USD": 0.12}, each clamped to 0..0.30',
        unit="fraction",
    )
    auto_direction_mode: str = setting(
        "combined",
        "what gives a direction: the slope with coherence not falling, or the slope alone",
        choices=("combined", "slope"),
    )
    auto_direction_lookback: int = setting(
        12, "bars that slope and coherence are compared over", unit="bars", bounds=(1, 120)
    )
    auto_dir_threshold_bps: float = setting(
        2.0, "least slope that gives a direction", unit="bps", bounds=(0.0, 10_000.0)
    )
    exit_slope_enabled: bool = setting(True, "a slope against the position ends it")
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
    atr_bars: int = setting(14, "bars of the average true range", unit="bars", bounds=(1, 1_000))
    auto_tp_rr: float = setting(
        1.5, "target in units of the stop's distance (atr mode)", bounds=(0.01, 100.0)
    )
    pm_default_hold_seconds: int = setting(
        1800, "longest hold of a position", unit="s", bounds=(1, 31_536_000)
    )
    entry_cooldown_sec: int = setting(
        60, "least time from an entry's bar to the next entry", unit="s", bounds=(0, 31_536_000)
    )
    exit_cooldown_sec: int = setting(
        60, "least time from an exit's bar to the next entry", unit="s", bounds=(0, 31_536_000)
    )
    backtest_cost_bps: float = setting(
        1.5, "cost per side where a candle has no bid and ask", unit="bps", bounds=(0.0, 1_000.0)
    )
    eval_interval_sec: int = setting(
        900, "event time between evaluations of the backtest", unit="s", bounds=(1, 86_400)
    )
    eval_slices_days: tuple[int, ...] = setting(
        (14, 30, 60), "trailing slices of a summary, ascending, at most 4", unit="days"
    )
    eval_span_days: int = setting(
        30, "the slice that floors are applied to", unit="days", bounds=(1, 60)
    )
    eval_history_hours: int = setting(
        720, "hourly samples that floors adapt to", unit="samples", bounds=(1, 2_160)
    )
    eval_min_trades: float = setting(
        10.0, "least trades, before floors adapt", unit="trades", bounds=(0.0, 1e6)
    )
    eval_calmar_min: float = setting(0.15, "least calmar, before floors adapt", bounds=(-1e6, 1e6))
    eval_pnl_min: float = setting(
        0.0, "least P&L, before floors adapt", unit="fraction of notional", bounds=(-1e6, 1e6)
    )
    cooldown_sec: int = setting(
        7200, "cooldown after 4 misses in a row", unit="s", bounds=(0, 31_536_000)
    )
    alloc_interval_sec: int = setting(
        60, "distance of allocation epochs", unit="s", bounds=(1, 86_400)
    )
    alloc_top_k: int = setting(3, "instruments that get weight", bounds=(1, 1_000))
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
        "what ALLOC_SCORE_WEIGHT_HAZARD weighs: lambda of the manifold (docs/hazard.md), or the "
        "window's lambda_hazard, which equals rupture",
        choices=("lambda", "lambda_hazard"),
    )
    alloc_max_hold_sec: int = setting(
        900, "how long weights are held when none is eligible", unit="s", bounds=(0, 86_400)
    )
    gates_blob_max_age_sec: int = setting(
        180,
        "age at which a member's gate decision no longer counts at an epoch",
        unit="s",
        bounds=(1, 86_400),
    )
    risk_alloc_target_pct: float = setting(
        0.30, "exposure of all weights together", unit="fraction of the account", bounds=_RATIO
    )
    pm_max_per_pos_pct: float = setting(
        0.10, "most exposure of one instrument", unit="fraction of the account", bounds=_RATIO
    )
    tzdata_version: str = setting(
        lambda: version("tzdata"), "time zone rules that sessions are compiled from"
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
        """Raise Fatal for the first value that is out of bounds or does not fit another."""
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
        """What the stream of an instrument's windows is made with."""
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
        """Read back what ``to_json`` of this or an older version wrote.

        A setting that the text does not name has its default, or what was done before there was
        such a setting. Settings this version does not know are refused.

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
            # before there was a choice it weighed lambda_hazard, and such a log stays what it is
            values.setdefault("alloc_score_hazard", "lambda_hazard")
        unknown = sorted(set(values) - {item.name for item in setting_fields(cls)})
        if unknown:
            raise UnknownSettings(
                f"a config record in ops.control has settings this version does not know: "
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
        """First 16 hex digits of the SHA-256 of the text in the log, else of ``to_json``.

        The text as it was written, because a version with one more setting would make another one
        of the same record, and so another id of everything derived under it.
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
