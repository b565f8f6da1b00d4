"""The contents of a report as types of its JSON, and the metadata from the caller.

Shares are fractions 0..1, P&L and costs are basis points of one unit of notional, times are epoch
milliseconds. A value that is unknown or not finite is None. Lists "per bucket" have one entry for
each bucket of ``time``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypedDict

from streams.config.settings import Config

FORMAT = 1
WHOLE_BELOW = 1e15
NOT_MODELLED = (
    "Trades are those of the rolling backtest, not of a broker: they fill at the bid and ask of "
    "the candles, with no slippage, no partial fills and no delay.",
    "Size is one unit of notional per trade and P&L is added up, not compounded; the weights are "
    "not applied to it.",
    "Financing (swap) is not modelled.",
    "P&L counts when a trade is closed: a position that is still open is not in it, and drawdown "
    "is that of closed trades.",
)


class LogSpan(TypedDict):
    """The offsets ``[start, end)`` of a partition that were read."""

    topic: str
    partition: int
    start: int
    end: int
    records: int


@dataclass(frozen=True, slots=True)
class ReportMeta:
    """Information that is not in the rows.

    Attributes
    ----------
    title, source
        Title of the page, and origin of the rows, such as ``live topics``.
    config
        The settings in force at the end, None without any.
    instruments
        Instruments to list even without rows.
    asked_from_ms, asked_to_ms
        The requested limits, both inclusive.
    engines
        Versions of the metrics core that wrote the rows.
    params
        (instrument or empty, text) of each parameter record in force.
    log
        The offsets that were read.
    notes
        Notes for the reader, such as a number of undecodable records.
    generated_ms
        Creation time of the report; None omits it, so that the bytes are reproducible.
    """

    title: str = "manifold report"
    source: str = ""
    config: Config | None = None
    instruments: tuple[str, ...] = ()
    asked_from_ms: int | None = None
    asked_to_ms: int | None = None
    engines: tuple[str, ...] = ()
    params: tuple[tuple[str, str], ...] = ()
    log: tuple[LogSpan, ...] = ()
    notes: tuple[str, ...] = ()
    generated_ms: int | None = None


class Header(TypedDict):
    """Origin of the rows, and the versions that produced them."""

    title: str
    source: str
    program: str
    generated_ms: int | None
    from_ms: int | None
    to_ms: int | None
    asked_from_ms: int | None
    asked_to_ms: int | None
    granularities: list[str]
    config_id: str | None
    config_ids: list[str]
    params_ids: list[str]
    params: list[dict[str, str]]
    engines: list[str]
    log: list[LogSpan]
    notes: list[str]
    not_modelled: list[str]


class TimeGrid(TypedDict):
    """The buckets of every list "per bucket"; bucket i is ``(start + i*b, start + (i+1)*b]``."""

    start_ms: int
    bucket_ms: int
    count: int


class TradeFigures(TypedDict):
    """The figures of a set of closed trades."""

    trades: int
    wins: int
    win_rate: float | None
    pnl_bps: float
    gross_bps: float
    cost_bps: float
    cost_per_trade_bps: float | None
    cost_share: float | None
    cost_assumed: int
    max_drawdown_bps: float
    profit_factor: float | None
    avg_hold_bars: float | None
    best_bps: float | None
    worst_bps: float | None


class Curve(TypedDict):
    """Cumulative P&L after each bucket and the maximum drawdown inside it, in bps, per bucket."""

    equity_bps: list[float]
    drawdown_bps: list[float]


class ReasonShare(TypedDict):
    """How often a reason applied."""

    reason: str
    share: float


class InstrumentRow(TypedDict):
    """One row of the table of instruments."""

    instrument: str
    figures: TradeFigures
    exposure: float | None
    exposure_days: int | None
    decisions: int
    eligible_share: float | None
    top_reasons: list[ReasonShare]


class TradeSample(TypedDict):
    """Some or all trades by exit time; one list per column, with codes for names."""

    total: int
    shown: int
    sentence: str
    exit_reasons: list[str]
    params_ids: list[str]
    columns: dict[str, list[Any]]


class GateCounts(TypedDict):
    """Decisions per bucket; ``reasons`` has only the reasons that occurred."""

    decisions: list[int]
    eligible: list[int]
    reasons: dict[str, list[int]]


class GuardRow(TypedDict):
    """How often one guard passed, among decisions with a fresh signal."""

    guard: str
    what: str
    setting: str | None
    limit: str | None
    in_use: bool | None
    kind: str
    passed: int
    share: float | None


class GuardShares(TypedDict):
    """The same for one instrument: number of counted decisions, and how many passed each guard."""

    instrument: str
    judged: int
    passed: dict[str, int]
    together: int


class Guards(TypedDict):
    """Pass rates; ``together``: all signal guards at the same bar, without sessions."""

    judged: int
    rows: list[GuardRow]
    together: int
    together_share: float | None
    sentence: str | None
    instruments: list[GuardShares]


class AllocationSeries(TypedDict):
    """Weights over time: means over the epochs of a bucket, None where it has no epoch."""

    epochs: list[int]
    published: list[int]
    held: list[int]
    cleared: list[int]
    weight: dict[str, list[float | None]]
    exposure: dict[str, list[float | None]]
    mean_weight: dict[str, float]
    mean_exposure: dict[str, float]


class ConfigRow(TypedDict):
    """One setting in force."""

    name: str
    value: str
    default: str
    changed: bool
    unit: str
    doc: str


class Headline(TypedDict):
    """The headline figures."""

    figures: TradeFigures
    decisions: int
    eligible_share: float | None
    guards_together_share: float | None
    epochs: int
    published_share: float | None


class ReportData(TypedDict):
    """The whole report."""

    format: int
    header: Header
    instruments: list[str]
    time: TimeGrid | None
    headline: Headline
    curves: dict[str, Curve]
    curve_all: Curve | None
    table: list[InstrumentRow]
    trades: TradeSample
    reason_docs: dict[str, str]
    gates: dict[str, GateCounts]
    guards: Guards
    allocation: AllocationSeries | None
    summaries: list[dict[str, Any]]
    config: list[ConfigRow]


def finite(value: Any, digits: int | None = None) -> Any:
    """Return ``value`` for JSON: floats rounded, None for NaN and infinities, recursively."""
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return value if digits is None else round(value, digits) + 0.0  # + 0.0: no "-0.0"
    if hasattr(value, "_asdict"):
        return finite(value._asdict(), digits)
    if isinstance(value, dict):
        return {key: finite(item, digits) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item, digits) for item in value]
    return value


def rounded(values: Iterable[float], digits: int) -> list[Any]:
    """Return numbers for JSON: rounded, integers without a fraction, None for NaN."""
    return [_number(float(value), digits) for value in values]


def _number(value: float, digits: int) -> float | int | None:
    if not math.isfinite(value):
        return None
    made = round(value, digits) + 0.0
    return int(made) if abs(made) < WHOLE_BELOW and made == int(made) else made


def share(part: float, whole: float, digits: int = 6) -> float | None:
    """Return ``part / whole``, None if ``whole`` is 0."""
    return round(float(part) / float(whole), digits) if whole else None
