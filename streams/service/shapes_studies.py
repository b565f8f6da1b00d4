"""Shapes of studies and backtests."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from streams.config.settings import Config
from streams.monitoring.executor_status import Shape
from streams.records.events import Summary
from streams.service.shapes import INSTRUMENT_FORM, AnySpelling, Said

LONG_DAYS = 90


class Window(Shape):
    """The span that floors are applied to."""

    days: int
    hours: int


class SeriesItem(Shape):
    """One trailing slice of the same run."""

    days: int
    trades: int
    win_rate: float | None
    pnl_total: float
    max_drawdown: float
    calmar: float | None


class Run(Shape):
    """The last evaluation of a run."""

    run_id: str
    instrument: str
    params_id: str
    as_of_ms: int
    span_days: int
    trades: int
    c_min: float | None
    look: int | None
    thr_bps: float | None
    eligible: bool
    span_integrity_ok: bool


class Results(Run):
    """The figures of a run."""

    slices: list[dict[str, Any]]
    floors: dict[str, float]
    floor_samples: int
    config_id: str


class TradeShape(Shape):
    """A closed trade of the rolling backtest."""

    trade_id: str
    direction: int
    entry_bar_ms: int
    entry_price: float
    exit_bar_ms: int
    exit_price: float
    exit_reason: str
    bars_held: int
    cost_bps: float
    pnl_bps: float
    mae_bps: float
    mfe_bps: float
    cost_assumed: bool


class Trades(Shape):
    """The last closed trades of a run, newest first; ``complete``: there are no others."""

    run_id: str
    complete: bool
    trades: list[TradeShape]


class LongRunRequest(Said):
    """A run with these parameters; a missing one keeps its active value."""

    instrument: Annotated[str, Field(pattern=INSTRUMENT_FORM), AnySpelling]
    days: Annotated[int, Field(ge=1, le=3_650)] = LONG_DAYS
    c_min: Annotated[float, Field(ge=0, le=1)] | None = None
    look: Annotated[int, Field(ge=1, le=120)] | None = None
    thr_bps: Annotated[float, Field(ge=0, le=10_000)] | None = None
    entry_cd: Annotated[int, Field(ge=0, le=31_536_000)] | None = None
    exit_cd: Annotated[int, Field(ge=0, le=31_536_000)] | None = None


class QueuedRun(Shape):
    """A run in the queue, or its result; ``run_id`` when it is done."""

    queued: str
    state: str
    detail: str
    run_id: str | None


class QueuedRuns(Shape):
    """All runs kept in memory, the last requested first."""

    runs: list[QueuedRun]


class Wanted(Shape):
    """Parameters that a run must have; None is any."""

    c_min: float | None
    look: int | None
    thr_bps: float | None
    entry_cd: int | None
    exit_cd: int | None

    def fits(self, summary: Summary, config: Config | None) -> bool:
        """Return whether a run has these parameters.

        Parameters
        ----------
        config
            The instrument's configuration for the current run, else None: a summary does not
            contain cooldowns.
        """
        params = summary.params
        told = (
            (self.c_min, params.c_min if params else None),
            (self.look, params.direction_lookback if params else None),
            (self.thr_bps, params.dir_threshold_bps if params else None),
            (self.entry_cd, config.entry_cooldown_sec if config else None),
            (self.exit_cd, config.exit_cooldown_sec if config else None),
        )
        return all(want is None or want == have for want, have in told)
