"""Typed immutable events, one per Avro schema in ``schemas/`` (bytes: ``streams.records.codec``).

Field names are those of the schemas, except that a Python keyword has a trailing underscore
(``lambda_`` is ``lambda`` in the schema). Missing optional values are None. Times are epoch
milliseconds UTC; ``as_of_ms`` is the earliest instant at which a record could be known, and its
Kafka timestamp.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from streams.records.trading_events import AccountState, BrokerReport, OrderIntent

WATERMARK_KEY = b"~watermark"
PORTFOLIO_KEY = b"portfolio"

CandleSource = Literal["oanda", "file", "synthetic"]
GateMode = Literal["adaptive", "echo", "static"]
WeightsAction = Literal["published", "held", "cleared"]
ControlKind = Literal[
    "kill_switch",
    "params",
    "universe",
    "config",
    "flatten",
    "reconcile",
    "pause",
    "resume",
    "release",
    "close",
    "order",
    "limits_reset",
    "audit",
]


class Ohlc(NamedTuple):
    """Open, high, low and close of one price side of a candle."""

    open: float
    high: float
    low: float
    close: float


class Candle(NamedTuple):
    """One complete candle, from which everything else is derived (``md.candles``)."""

    instrument: str
    granularity: str
    bar_ms: int
    as_of_ms: int
    mid: Ohlc
    bid: Ohlc | None
    ask: Ohlc | None
    mid_derived: bool
    volume: int | None
    source: CandleSource
    complete: bool = True


class Watermark(NamedTuple):
    """Every candle of ``instruments`` up to ``as_of_ms`` is before this record.

    Epochs up to ``as_of_ms`` no longer wait for ``not_waited_for``; candles of these instruments up
    to ``as_of_ms`` may come after it.
    """

    as_of_ms: int
    granularity: str
    control_offset: int
    instruments: tuple[str, ...]
    not_waited_for: tuple[str, ...] = ()


class CandlePrices(NamedTuple):
    """The candle's numbers, copied into derived records so that no stage needs a join."""

    mid: Ohlc
    bid: Ohlc | None
    ask: Ohlc | None
    volume: int | None


class Signal(NamedTuple):
    """Metrics of the window that ends at this bar (``sep.signals``)."""

    instrument: str
    granularity: str
    bar_ms: int
    as_of_ms: int
    config_id: str
    control_offset: int
    window_start_ms: int
    coherence: float
    stability: float
    entropy: float
    rupture: float
    flip_ratio: float
    lambda_hazard: float
    collapsed: bool
    signature: str
    count_1h: int
    first_seen_ms: int
    ones: int
    price: float
    candle: CandlePrices
    volume_missing: bool
    gap_bars: int


class Manifold(NamedTuple):
    """The manifold snapshot at this bar, the input of the gates stage (``sep.manifolds``)."""

    instrument: str
    granularity: str
    bar_ms: int
    as_of_ms: int
    config_id: str
    control_offset: int
    count: int  # type: ignore[assignment]  # shadows tuple.count, which is not used here
    t0_ms: int
    t1_ms: int
    coherence: float
    stability: float
    entropy: float
    rupture: float
    lambda_hazard: float
    sigma_eff: float
    lambda_: float
    signature: str
    count_1h: int
    first_seen_ms: int
    window_start_ms: int
    price: float
    candle: CandlePrices
    volume_missing: bool
    gap_bars: int
    late: bool


class SimulatedTrade(NamedTuple):
    """One closed trade of the strict rolling backtest (``bt.trades``)."""

    instrument: str
    granularity: str
    bar_ms: int
    as_of_ms: int
    config_id: str
    control_offset: int
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
    params_id: str


class SummarySlice(NamedTuple):
    """The figures of one trailing slice of the rolling backtest."""

    days: int
    trades: int
    win_rate: float | None
    pnl_bps: float
    pnl_total: float
    max_drawdown: float
    calmar: float | None
    calmar_ann: float | None
    sharpe: float | None
    sortino: float | None
    profit_factor: float | None
    exposure: float
    avg_hold_bars: float | None
    cost_bps: float


class Floors(NamedTuple):
    """Minimum results of the rolling backtest for an instrument to be eligible."""

    min_trades: float
    calmar_min: float
    pnl_min: float


class SummaryParams(NamedTuple):
    """The parameters of a run that the profile contains."""

    c_min: float
    direction_lookback: int
    dir_threshold_bps: float


class Summary(NamedTuple):
    """One evaluation of the strict rolling backtest (``bt.summaries``)."""

    instrument: str
    granularity: str
    bar_ms: int
    as_of_ms: int
    config_id: str
    control_offset: int
    params_id: str
    span_days: int
    slices: tuple[SummarySlice, ...]
    floors: Floors
    floor_samples: int
    span_integrity_ok: bool
    params: SummaryParams | None = None
    eligible: bool = False


class GateMetrics(NamedTuple):
    """The metrics a gate decision was made on."""

    coherence: float
    stability: float
    entropy: float
    rupture: float
    lambda_hazard: float
    count_1h: int
    lambda_: float
    sigma_eff: float
    first_seen_ms: int | None = None


class GateEvaluation(NamedTuple):
    """The evaluation of the rolling backtest used for a gate decision."""

    as_of_ms: int
    trades: int
    calmar: float | None
    pnl_total: float
    span_integrity_ok: bool


class ReasonDetail(NamedTuple):
    """One reason of a gate decision: actual value, limit, earliest time of a change."""

    reason: str
    value: float | None
    limit: float | None
    next_change_ms: int | None


class GateDecision(NamedTuple):
    """Whether an instrument may be traded at this bar, and every reason why not (``opt.gates``)."""

    instrument: str
    granularity: str
    bar_ms: int
    as_of_ms: int
    config_id: str
    control_offset: int
    eligible: bool
    reasons: tuple[str, ...]
    metrics: GateMetrics | None
    no_candle: bool
    floors: Floors | None
    buffer: float
    passes: int
    fails: int
    misses: int
    cooldown_until_ms: int | None
    session_open: bool
    near_close: bool
    direction: int
    position: int
    next_change_ms: int | None
    signal_bar_ms: int | None
    score: float | None
    mode: GateMode
    params_id: str = ""
    evaluation: GateEvaluation | None = None
    details: tuple[ReasonDetail, ...] = ()


class WeightEntry(NamedTuple):
    """One selected instrument; ``weight`` sums to 1 over the entries.

    ``target_exposure_pct`` is a fraction of the account.
    """

    instrument: str
    score: float
    weight: float
    target_exposure_pct: float


class EchoGate(NamedTuple):
    """Inputs of an instrument's gate in echo mode; ``hazard`` is its ``lambda_hazard``."""

    count_1h: int
    hazard: float
    first_seen_ms: int | None = None


class WeightGate(NamedTuple):
    """The gate of one member of the universe as the allocator saw it at the epoch."""

    instrument: str
    eligible: bool
    cooldown: bool
    buffer: float
    decided_ms: int
    echo: EchoGate | None = None


class Weights(NamedTuple):
    """The Top-K allocation of one epoch (``risk.weights``)."""

    granularity: str
    bar_ms: int
    as_of_ms: int
    config_id: str
    control_offset: int
    epoch_ms: int
    universe: tuple[str, ...]
    reported: tuple[str, ...]
    entries: tuple[WeightEntry, ...]
    gates: tuple[WeightGate, ...]
    action: WeightsAction
    held_since_ms: int | None
    reason: str
    top_k: int
    mode: str = ""


class Control(NamedTuple):
    """A command of an operator or a feed (``ops.control``); ``value`` is a JSON string.

    Results depend on ``config``, ``universe`` and ``params``. Executors act on ``kill_switch``,
    ``flatten``, ``reconcile``, ``pause``, ``resume``, ``release``, ``close``, ``order`` and
    ``limits_reset``. ``audit`` records an accepted call and has no effect. The key is the kind,
    kind:instrument, or config:<config_id>.
    """

    kind: ControlKind
    instrument: str | None
    value: str
    actor: str
    reason: str
    as_of_ms: int


class DeadLetter(NamedTuple):
    """A rejected record with its bytes, coordinates and reason (``dead.letters``)."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    reason: str
    detail: str
    stage: str


Event = (
    Candle
    | Watermark
    | Signal
    | Manifold
    | SimulatedTrade
    | Summary
    | GateDecision
    | Weights
    | Control
    | OrderIntent
    | BrokerReport
    | AccountState
    | DeadLetter
)
