"""Base of all response models, and models shared by several endpoints.

Every number is finite: JSON has no NaN. Names are those of the records; times are epoch ms UTC.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from streams.instruments import instrument_name
from streams.monitoring.executor_status import Shape
from streams.printable import says_something

INSTRUMENT_FORM = r"^[A-Z0-9]{2,12}_[A-Z0-9]{2,12}$"


def _respelt(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return ",".join(instrument_name(name) for name in value.split(","))


AnySpelling = BeforeValidator(_respelt)
"""Accepts any notation of one or several comma-separated instruments: nzd/usd, NZDUSD."""


def _visible(text: str) -> str:
    if not says_something(text):
        raise PydanticCustomError("invisible", "it has no visible character")
    return text


class Problem(Shape):
    """An error: a code, and a sentence."""

    error: str
    detail: str | None = None


class Said(BaseModel):
    """Actor and reason of a change; both are recorded in the log, also a missing reason."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[
        str, Field(min_length=1, max_length=500, pattern=r"\S"), AfterValidator(_visible)
    ] = "none given"
    actor: Annotated[
        str, Field(min_length=1, max_length=100, pattern=r"\S"), AfterValidator(_visible)
    ] = "api"


class ReasonShape(Shape):
    """One reason of a gate decision."""

    reason: str
    value: float | None
    limit: float | None
    next_change_ms: int | None
    text: str


class GateShape(Shape):
    """A gate decision."""

    as_of_ms: int
    eligible: bool
    reasons: list[ReasonShape]
    direction: int
    position: int
    cooldown_until_ms: int | None
    next_change_ms: int | None
    score: float | None
    session_open: bool
    near_close: bool


class CandleAge(Shape):
    """Prices at the end of the last candle."""

    as_of_ms: int
    age_ms: int
    mid: float
    bid: float | None
    ask: float | None
    spread_bps: float | None


class ManifoldFigures(Shape):
    """Figures of a manifold."""

    as_of_ms: int
    coherence: float
    stability: float
    entropy: float
    rupture: float
    lambda_hazard: float
    sigma_eff: float
    lambda_: Annotated[float, Field(alias="lambda")]
    count_1h: int
    signature: str


class WeightShape(Shape):
    """One selected instrument; the exposure is a fraction of the account."""

    instrument: str
    score: float
    weight: float
    target_exposure_pct: float


class WeightsShape(Shape):
    """The allocation of an epoch."""

    epoch_ms: int
    action: str
    reason: str
    held_since_ms: int | None
    top_k: int
    entries: list[WeightShape]


class GuardShape(Shape):
    """One guard of an order and its result."""

    guard: str
    passed: bool
    detail: str


class OrderShape(Shape):
    """An order and its result."""

    order_id: str
    instrument: str
    side: str
    units: float
    kind: str
    as_of_ms: int
    submitted: bool
    status: str
    price: float | None
    reason: str | None
    guards: list[GuardShape]


class KillSwitchShape(Shape):
    """The kill switch: engaged for any reason, or when its state is unknown."""

    engaged: bool
    why: list[str]
    since_ms: int | None
    actor: str | None
    reason: str | None


class SignalShape(Shape):
    """A failure signal."""

    name: str
    state: str
    detail: str
    since_ms: int | None
    action: str


class LagShape(Shape):
    """Lag in records; null where the broker could not be queried."""

    signals: int | None
    gates: int | None
    weights: int | None
    mirror: int | None


class VersionsShape(Shape):
    """The running version."""

    manifold: str
    engine: str | None
    config_id: str | None
