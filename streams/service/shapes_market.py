"""Shapes of candles, metrics, manifolds and the ranking."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from streams.instants import GRANULARITY_MS
from streams.monitoring.executor_status import Shape
from streams.service.shapes import INSTRUMENT_FORM, AnySpelling, ManifoldFigures, Said

GRANULARITY_FORM = f"^({'|'.join(GRANULARITY_MS)})$"


class Prices(Shape):
    """One price side of a candle."""

    o: float
    h: float
    l: float  # noqa: E741  # the profile's name
    c: float


class CandleItem(Shape):
    """A complete candle; ``o``, ``h``, ``l``, ``c`` are those of ``mid``, ``t`` its start (ms)."""

    t: int
    o: float
    h: float
    l: float  # noqa: E741
    c: float
    v: int | None
    mid: Prices
    bid: Prices | None
    ask: Prices | None
    complete: bool


class MarketData(Shape):
    """Candles, ascending."""

    instrument: str
    granularity: str
    candles: list[CandleItem]


class Candles(Shape):
    """Candles, ascending."""

    instrument: str
    granularity: str
    items: list[CandleItem]


class FetchRequest(Said):
    """The candles that the log must hold; without ``instrument`` those of all HOTBAND_PAIRS."""

    instrument: Annotated[str | None, Field(pattern=INSTRUMENT_FORM), AnySpelling] = None
    granularity: Annotated[str, Field(pattern=GRANULARITY_FORM)] = "M1"
    count: Annotated[int, Field(ge=1, le=20_000)] = 1500


class Fetched(Shape):
    """The log holds the candles up to now; ``written`` of them are new."""

    success: bool
    written: int
    detail: str


class Metrics(Shape):
    """The four metrics of a window."""

    coherence: float
    stability: float
    entropy: float
    rupture: float


class CoherencePoint(Metrics):
    """The metrics of an earlier bar."""

    as_of_ms: int
    price: float


class CoherenceStatus(Metrics):
    """The metrics of the last bar."""

    instrument: str
    ts_ms: int
    age_ms: int
    metrics: Metrics
    lambda_hazard: float
    points: list[CoherencePoint] | None


class Coeffs(Shape):
    """The coefficients of the last manifold."""

    instrument: str
    ts_ms: int
    sigma_eff: float
    lambda_: Annotated[float, Field(alias="lambda")]
    lambda_hazard: float


class LatestManifold(ManifoldFigures):
    """The last manifold with its inputs."""

    instrument: str
    price: float
    count: int
    t0_ms: int
    t1_ms: int
    window_start_ms: int
    first_seen_ms: int
    gap_bars: int
    volume_missing: bool
    late: bool
    config_id: str


class HistoryItem(Metrics):
    """A manifold of the last 24 hours."""

    as_of_ms: int
    price: float
    lambda_hazard: float
    sigma_eff: float
    lambda_: Annotated[float, Field(alias="lambda")]
    count_1h: int


class ManifoldHistory(Shape):
    """Manifolds, ascending."""

    instrument: str
    items: list[HistoryItem]


class RankingItem(Shape):
    """An instrument in the ranking; ``flow_m5``: signals of the last five minutes."""

    instrument: str
    is_open: bool
    near_close: bool
    score: float | None
    flow_m5: int
    coherence: float | None
    stability: float | None
    entropy: float | None
    hazard: float | None
    repetitions: int | None
    admit: int
    direction: int
    gate_source: str
    regime_min_reps: int
    regime_hazard_max: float | None


class Ranking(Shape):
    """The instruments, the best score first; those without a score last."""

    now_ms: int
    sessions: list[str]
    items: list[RankingItem]
