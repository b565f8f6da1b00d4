"""The executor's own ``/status`` (``manifold trade``)."""

from __future__ import annotations

import json
from typing import Any, Literal, NamedTuple

import aiohttp
from pydantic import BaseModel, ConfigDict, Field, StrictBool

from streams.config.difference import Difference
from streams.config.status_ports import status_headers
from streams.monitoring.facts import ExecutorFacts
from streams.process.clock_skew import ADVICE


class Shape(BaseModel):
    """Base of the answer and its parts."""

    model_config = ConfigDict(
        frozen=True, allow_inf_nan=False, extra="forbid", populate_by_name=True
    )


class PositionShape(Shape):
    """A position at the broker."""

    instrument: str
    units: float
    average_price: float | None
    unrealized_pl: float | None


class AccountShape(Shape):
    """The account, in its own currency."""

    currency: str
    balance: float
    nav: float
    margin_used: float
    margin_available: float
    unrealized_pl: float


ANSWER_S = 2.0
MAX_BYTES = 1_000_000


class ExecutorKill(Shape):
    """The kill switch as the executor sees it."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False, extra="ignore")

    engaged: bool
    why: list[str] = Field(default_factory=list)


class Joined(Shape):
    """A backtest run that the executor follows, or an operator position."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False, extra="ignore")

    direction: int
    entry_bar_ms: int
    units: float = 0.0
    by_operator: bool = False


class OrderState(Shape):
    """An operator's order and its result.

    ``status`` is ``waiting`` for the executor, ``refused`` by a guard, ``sent``, or the broker's
    last report: ``filled``, ``rejected``, ``cancelled``, ``unknown``.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False, extra="ignore")

    request_id: str
    instrument: str
    side: str
    units: float
    actor: str
    reason: str
    at_ms: int
    status: str
    detail: str
    kind: str | None = None
    order_id: str | None = None
    filled_units: float | None = None
    price: float | None = None


class RefusedRecord(Shape):
    """A decision or weights that the executor does not act on; ``instrument`` is empty for weights.

    ``reason`` is a code of ``DecisionRefusal``.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False, extra="ignore")

    topic: str
    partition: int
    offset: int
    instrument: str
    as_of_ms: int
    reason: str
    detail: str
    at_ms: int

    @property
    def words(self) -> str:
        """The refusal in one sentence."""
        return (
            f"{self.topic}-{self.partition}-{self.offset} is refused: {self.reason} ({self.detail})"
        )


class Paused(Shape):
    """An instrument that an operator has paused: by whom, why and since when."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False, extra="ignore")

    actor: str
    reason: str
    at_ms: int


class ExecutorShape(Shape):
    """The executor's status."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False, extra="ignore")

    ts_ms: int
    venue: str
    account_id: str
    mode: Literal["paper", "practice", "live"]
    read_only: StrictBool
    dry_run: StrictBool
    kill_switch: ExecutorKill
    account: AccountShape | None = None
    positions: list[PositionShape] = Field(default_factory=list)
    joined: dict[str, Joined] = Field(default_factory=dict)
    last_cycle_ms: int | None = None
    reconciled: StrictBool
    unreconciled: str = ""
    reading: str | None = None
    differences: list[str] = Field(default_factory=list)
    by_hand: dict[str, list[str]] = Field(default_factory=dict)
    paused: dict[str, Paused] = Field(default_factory=dict)
    waiting: dict[str, list[str]] = Field(default_factory=dict)
    operator_orders: str = "reduce"
    orders: list[OrderState] = Field(default_factory=list)
    blocked: dict[str, list[str]] = Field(default_factory=dict)
    cannot_close: dict[str, str] = Field(default_factory=dict)
    untraded: dict[str, str] = Field(default_factory=dict)
    config_differs: list[Difference] = Field(default_factory=list)
    refused_decisions: list[RefusedRecord] = Field(default_factory=list)
    last_transaction_id: str | None = None


class ExecutorState(NamedTuple):
    """The state of the executor as last queried.

    Attributes
    ----------
    state
        ``running``; ``stale``: it answers, but its last cycle is too old or the answer is
        malformed; ``absent``: no answer.
    status
        Its last well-formed answer; else None.
    detail
        The state as a sentence.
    """

    state: Literal["running", "stale", "absent"]
    status: ExecutorShape | None
    detail: str


NOT_ASKED = ExecutorState("absent", None, "the executor was not queried yet")


def agreed_status(answer: bytes | str) -> ExecutorShape:
    """Return an answer of the executor.

    Raises
    ------
    ValueError
        The answer does not have the documented form.
    """
    return ExecutorShape.model_validate(json.loads(answer, parse_constant=_refused))


def executor_facts(status: ExecutorShape) -> ExecutorFacts:
    """Return the facts that the failure signals use."""
    account = status.account
    return ExecutorFacts(
        status.mode,
        status.read_only,
        status.dry_run,
        status.last_cycle_ms if (status.last_cycle_ms or 0) > 0 else None,
        status.reconciled,
        tuple(status.differences),
        None if account is None else account.margin_used,
        None if account is None else account.margin_available,
        trouble="; ".join(one for one in (status.unreconciled, status.reading) if one),
        cannot_close=tuple(f"{name}: {why}" for name, why in status.cannot_close.items()),
        untraded=tuple(status.untraded),
        config_differs=tuple(status.config_differs),
        refused=tuple((one.words, one.at_ms) for one in status.refused_decisions),
    )


def parse_executor(answer: bytes, now_ms: int, stale_ms: int) -> ExecutorState:
    """Parse an answer of the executor.

    Parameters
    ----------
    stale_ms
        Age of the last cycle, in ms, from which the executor is ``stale``.
    """
    try:
        status = agreed_status(answer)
    except ValueError as error:  # pydantic's error is a ValueError
        first = str(error).splitlines()[0]
        return ExecutorState("stale", None, f"the executor's /status is malformed: {first}")
    if not status.last_cycle_ms:
        return ExecutorState(
            "running", status, "the executor has started and not completed a cycle yet"
        )
    age_s = (now_ms - status.last_cycle_ms) / 1000
    if age_s * 1000 < -stale_ms:
        # the executor may have ended long ago
        said = f"the executor's last cycle is {-age_s:.0f} s after this clock's time"
        return ExecutorState("stale", status, f"{said}: the clocks differ; {ADVICE}")
    if age_s * 1000 > stale_ms:
        return ExecutorState("stale", status, f"the executor's last cycle was {age_s:.0f} s ago")
    # its answer may be newer than the time it is compared with
    return ExecutorState(
        "running", status, f"the executor's last cycle was {max(0.0, age_s):.0f} s ago"
    )


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is not a JSON number")


async def read(session: aiohttp.ClientSession, url: str) -> bytes | ExecutorState:
    """Return the executor's state, also when there is no answer; never raises."""
    try:
        async with session.get(
            url,
            timeout=aiohttp.ClientTimeout(total=ANSWER_S),
            allow_redirects=False,
            headers=status_headers(url),
        ) as answer:
            body = await answer.content.read(MAX_BYTES)
            if answer.status != 200:
                return ExecutorState("stale", None, f"the executor answers with {answer.status}")
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
        return ExecutorState(
            "absent", None, "no executor answers at TRADE_STATUS_URL: start manifold trade"
        )
    return body


async def ask(
    session: aiohttp.ClientSession, url: str, now_ms: int, stale_ms: int
) -> ExecutorState:
    """Query the executor; never raises."""
    body = await read(session, url)
    return body if isinstance(body, ExecutorState) else parse_executor(body, now_ms, stale_ms)


async def ask_once(url: str, now_ms: int, stale_ms: int) -> ExecutorState:
    """Query the executor over a new connection; never raises."""
    async with aiohttp.ClientSession() as session:
        return await ask(session, url, now_ms, stale_ms)
