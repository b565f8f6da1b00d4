"""Studies and backtests: figures of the rolling run, read from the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Query

from streams.config.settings import Config
from streams.records.events import Summary
from streams.records.plain import plain
from streams.service.backtests import RunId, RunTrades, last_evaluation, last_runs, last_trades
from streams.service.calls import CallDep
from streams.service.errors import ApiError
from streams.service.live import Live, LiveDep
from streams.service.long_runs import MOST_TRADES, LongRun, Parameters, TooManyRuns
from streams.service.responses import ABOUT_INSTRUMENT, CONFLICTS, FROM_AWAY, READS
from streams.service.routes_market import InstrumentQuery
from streams.service.shapes import INSTRUMENT_FORM
from streams.service.shapes_studies import (
    LongRunRequest,
    QueuedRun,
    QueuedRuns,
    Results,
    Run,
    SeriesItem,
    Trades,
    TradeShape,
    Wanted,
    Window,
)

router = APIRouter(tags=["studies"])

RUN_FORM = INSTRUMENT_FORM[:-1] + ":[0-9a-f]{1,64}$"
RunQuery = Annotated[
    str,
    Query(
        pattern=RUN_FORM,
        description="<instrument>:<params_id>",
        examples=["EUR_USD:0123456789abcdef"],
    ),
]
CMin = Annotated[float | None, Query(ge=0, le=1, description="Minimum coherence.")]
Look = Annotated[int | None, Query(ge=1, le=120, description="Number of bars of the slope.")]
Threshold = Annotated[float | None, Query(ge=0, le=10_000, description="Minimum slope, bps.")]
Cooldown = Annotated[int | None, Query(ge=0, le=31_536_000, description="Seconds.")]


@router.get("/api/studies/default-window", responses=READS)
async def default_window(live: LiveDep) -> Window:
    """The span that the gate uses."""
    days = live.config.eval_span_days
    return Window(days=days, hours=24 * days)


@router.get("/api/studies/series", responses=ABOUT_INSTRUMENT | FROM_AWAY)
async def series(
    live: LiveDep,
    instrument: InstrumentQuery,
    c_min: CMin = None,
    look: Look = None,
    thr_bps: Threshold = None,
    entry_cd: Cooldown = None,
    exit_cd: Cooldown = None,
) -> list[SeriesItem]:
    """The trailing slices of one run; with parameters: of the run with exactly these.

    404 ``no_long_run`` where no run has them. The slices are cut from one run with one end, so a
    longer one never has fewer trades.
    """
    wanted = Wanted(c_min=c_min, look=look, thr_bps=thr_bps, entry_cd=entry_cd, exit_cd=exit_cd)
    counted = live.metrics.studies
    try:
        found = await _run(live, instrument, wanted, 0)
    except ApiError as error:
        counted.labels("no_long_run" if error.error == "no_long_run" else "error").inc()
        raise
    except Exception:
        counted.labels("error").inc()
        raise
    counted.labels("ok").inc()
    return [
        SeriesItem(
            days=one.days,
            trades=one.trades,
            win_rate=one.win_rate,
            pnl_total=one.pnl_total,
            max_drawdown=one.max_drawdown,
            calmar=one.calmar,
        )
        for one in sorted(found.slices, key=lambda one: one.days)
    ]


@router.post("/api/studies/enqueue-long-run", responses=CONFLICTS | ABOUT_INSTRUMENT)
async def enqueue_long_run(wanted: LongRunRequest, live: LiveDep, call: CallDep) -> QueuedRun:
    """Queue a backtest over the log with other parameters; one runs at a time.

    It runs in a separate process with low priority and does not change the deployment. When done,
    /api/studies/series and /api/backtest/* find it by its parameters and its ``run_id`` until the
    service restarts.
    """
    live.require_instrument(wanted.instrument)
    asked = Parameters(**wanted.model_dump(include=set(Parameters._fields)))
    try:
        with live.long_runs.place(asked):
            await call.record(wanted)
            return _queued(live.long_runs.enqueue(asked))
    except TooManyRuns as error:
        raise ApiError(429, "too_many_runs", str(error), retry_after_s=60) from error


@router.get("/api/studies/long-runs", responses=READS)
async def long_runs(live: LiveDep) -> QueuedRuns:
    """The queue, and the last runs with their results."""
    return QueuedRuns(runs=[_queued(one) for one in live.long_runs.runs])


def _queued(run: LongRun) -> QueuedRun:
    return QueuedRun(
        queued=run.parameters.key, state=run.state, detail=run.detail, run_id=run.run_id
    )


@router.get("/api/backtest/latest-run", responses=ABOUT_INSTRUMENT | FROM_AWAY)
async def latest_run(
    live: LiveDep,
    instrument: InstrumentQuery,
    min_trades: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    c_min: CMin = None,
    look: Look = None,
    thr_bps: Threshold = None,
    entry_cd: Cooldown = None,
    exit_cd: Cooldown = None,
) -> Run:
    """The run with the most trades among those with exactly these parameters.

    Without parameters: the run evaluated last. 404 ``no_long_run`` without one.
    """
    wanted = Wanted(c_min=c_min, look=look, thr_bps=thr_bps, entry_cd=entry_cd, exit_cd=exit_cd)
    return _shape(await _run(live, instrument, wanted, min_trades))


@router.get("/api/backtest/results", responses=ABOUT_INSTRUMENT | FROM_AWAY)
async def results(live: LiveDep, run_id: RunQuery) -> Results:
    """The figures of a run at its last evaluation."""
    run = _known(live, run_id)
    present = live.view.summaries.get(run.instrument)
    found = present
    queued = live.long_runs.of_id(run.text)
    if present is None or present.params_id != run.params_id:
        found = queued.summary if queued else await live.history.ask(last_evaluation(run))
    if found is None:
        raise ApiError(404, "no_long_run", f"bt.summaries holds no run {run.text}")
    return Results(
        **_shape(found).model_dump(),
        slices=plain(found.slices),
        floors=plain(found.floors),
        floor_samples=found.floor_samples,
        config_id=found.config_id,
    )


@router.get("/api/backtest/trades", responses=ABOUT_INSTRUMENT | FROM_AWAY)
async def trades(
    live: LiveDep,
    run_id: RunQuery,
    limit: Annotated[int, Query(ge=1, le=5_000, description="Number of newest trades.")] = 500,
) -> Trades:
    """The last closed trades of a run."""
    run = _known(live, run_id)
    queued, present = live.long_runs.of_id(run.text), live.view.summaries.get(run.instrument)
    if queued is not None and (present is None or present.params_id != run.params_id):
        newest = list(queued.trades)
        found = RunTrades(newest[:limit], len(newest) <= limit and len(newest) < MOST_TRADES)
    else:
        found = await live.history.ask(last_trades(run, limit))
    fields = TradeShape.model_fields
    return Trades(
        run_id=run.text,
        complete=found.complete,
        trades=[
            TradeShape(**{name: getattr(one, name) for name in fields}) for one in found.trades
        ],
    )


@router.get("/api/opt/slice", include_in_schema=False)
@router.get("/api/opt/slice/similarity", include_in_schema=False)
@router.get("/api/opt/slice/matches", include_in_schema=False)
async def legacy() -> None:
    """Legacy: removed from the profile."""
    raise ApiError(
        410,
        "gone",
        "the slices of the older generation were removed: see /api/studies/series and "
        "/api/backtest/results",
    )


def _known(live: Live, run_id: str) -> RunId:
    run = RunId.of(run_id)
    live.require_instrument(run.instrument)
    return run


async def _run(live: Live, instrument: str, wanted: Wanted, min_trades: int) -> Summary:
    live.require_instrument(instrument)
    present = live.view.summaries.get(instrument)
    config = live.view.state.config_of(instrument)
    if present is not None and wanted.fits(present, config) and _trades(present) >= min_trades:
        return present
    found: Sequence[Summary] = await live.history.ask(last_runs(instrument))
    queued = [
        one.summary
        for one in live.long_runs.done(instrument)
        if one.summary is not None
        and _trades(one.summary) >= min_trades
        and wanted.fits(one.summary, _asked(one, live.config))
    ]
    fitting = queued + [
        one
        for one in found
        if _trades(one) >= min_trades
        and wanted.fits(one, config if present and one.params_id == present.params_id else None)
    ]
    if not fitting:
        raise ApiError(
            404, "no_long_run", f"bt.summaries holds no run of {instrument} with these parameters"
        )
    return max(fitting, key=_trades)


def _asked(run: LongRun, config: Config) -> Config:
    """Return the configuration that a run had, its cooldowns at least."""
    asked = run.parameters
    entry, leave = asked.entry_cd, asked.exit_cd
    return replace(
        config,
        entry_cooldown_sec=config.entry_cooldown_sec if entry is None else entry,
        exit_cooldown_sec=config.exit_cooldown_sec if leave is None else leave,
    )


def _trades(summary: Summary) -> int:
    return next(one.trades for one in summary.slices if one.days == summary.span_days)


def _shape(summary: Summary) -> Run:
    params = summary.params
    return Run(
        run_id=RunId(summary.instrument, summary.params_id).text,
        instrument=summary.instrument,
        params_id=summary.params_id,
        as_of_ms=summary.as_of_ms,
        span_days=summary.span_days,
        trades=_trades(summary),
        c_min=params.c_min if params else None,
        look=params.direction_lookback if params else None,
        thr_bps=params.dir_threshold_bps if params else None,
        eligible=summary.eligible,
        span_integrity_ok=summary.span_integrity_ok,
    )
