"""The WebSocket messages in both directions; the AsyncAPI document is generated from these."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from streams.service.channels import CHANNELS
from streams.service.shapes import AnySpelling

Channel = Literal[
    "market",
    "manifold",
    "signals",
    "gates",
    "weights",
    "orders",
    "ledger",
    "performance",
    "system",
]
EventType = Literal[
    "candle",
    "manifold",
    "signal",
    "gate",
    "weights",
    "order",
    "fill",
    "account",
    "trade",
    "summary",
    "control",
    "dead_letter",
    "status",
]
Instrument = Annotated[str, Field(pattern=r"^[A-Z0-9]{2,12}_[A-Z0-9]{2,12}$"), AnySpelling]
EventId = Annotated[str, Field(pattern=r"^[a-z.]+-[0-9]{1,9}-[0-9]{1,18}$", max_length=64)]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Subscribe(_Message):
    """Subscribe to these channels, replacing the previous subscription.

    With ``last_event_id`` (the id of the last event seen, or one id per topic and partition for an
    exact continuation) everything after it comes first, or a ``reset``.
    """

    type: Literal["subscribe"]
    channels: list[Channel] = Field(min_length=1, max_length=len(CHANNELS))
    instruments: list[Instrument] | None = Field(default=None, max_length=500)
    last_event_id: EventId | list[EventId] | None = None


class Unsubscribe(_Message):
    """Unsubscribe from these channels, by default from all."""

    type: Literal["unsubscribe"]
    channels: list[Channel] | None = Field(default=None, max_length=len(CHANNELS))


class Token(_Message):
    """The API token, where required; sent before any other message."""

    type: Literal["token"]
    token: str = Field(max_length=512)


class Ping(_Message):
    """Requests a ``pong``."""

    type: Literal["ping"]


ClientMessage = Annotated[Subscribe | Unsubscribe | Token | Ping, Field(discriminator="type")]
CLIENT_MESSAGE: TypeAdapter[ClientMessage] = TypeAdapter(ClientMessage)


class Connection(_Message):
    """The first frame."""

    type: Literal["connection"] = "connection"
    available_channels: list[Channel]
    heartbeat_sec: float
    token_required: bool
    version: str


class Subscription(_Message):
    """The current subscription; ``resumed`` events follow before the live ones."""

    type: Literal["subscription"] = "subscription"
    channels: list[Channel]
    instruments: list[str] | None
    resumed: int | None = None


class Authenticated(_Message):
    """The token is accepted."""

    type: Literal["authenticated"] = "authenticated"


class Heartbeat(_Message):
    """Sent every ``heartbeat_sec`` seconds."""

    type: Literal["heartbeat"] = "heartbeat"
    ts_ms: int


class Pong(_Message):
    """Answer to ``ping``."""

    type: Literal["pong"] = "pong"
    ts_ms: int


class Lagging(_Message):
    """This client reads too slowly: events were dropped, with their number and first and last
    id."""

    type: Literal["lagging"] = "lagging"
    dropped: int
    channels: dict[str, int]
    first_id: str | None
    last_id: str | None
    detail: str


class Gap(_Message):
    """The service itself has skipped these positions of the log."""

    type: Literal["gap"] = "gap"
    topic: str
    partition: int
    from_offset: int
    to_offset: int
    detail: str


class Reset(_Message):
    """The client cannot resume: reload the state, then continue with live events."""

    type: Literal["reset"] = "reset"
    detail: str


class Failure(_Message):
    """A message was refused; no state has changed."""

    type: Literal["error"] = "error"
    error: str
    detail: str


class EventFrame(_Message):
    """One event. ``id`` is its position in the log; null for ``status``, which is not stored."""

    type: EventType
    channel: Channel
    id: str | None
    ts_ms: int
    instrument: str | None = None
    data: dict[str, Any]


SERVER_MESSAGES: tuple[type[BaseModel], ...] = (
    Connection,
    Subscription,
    Authenticated,
    Heartbeat,
    Pong,
    Lagging,
    Gap,
    Reset,
    Failure,
    EventFrame,
)
CLIENT_MESSAGES: tuple[type[BaseModel], ...] = (Subscribe, Unsubscribe, Token, Ping)
