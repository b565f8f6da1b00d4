"""What goes over the WebSocket in both directions; the AsyncAPI document is made of these."""

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
    """Get these channels from now on, instead of what was subscribed before.

    With ``last_event_id`` (the id of the last event seen, or one id per topic and partition for an
    exact continuation) everything after it comes first, or a ``reset``.
    """

    type: Literal["subscribe"]
    channels: list[Channel] = Field(min_length=1, max_length=len(CHANNELS))
    instruments: list[Instrument] | None = Field(default=None, max_length=500)
    last_event_id: EventId | list[EventId] | None = None


class Unsubscribe(_Message):
    """Stop these channels, all of them by default."""

    type: Literal["unsubscribe"]
    channels: list[Channel] | None = Field(default=None, max_length=len(CHANNELS))


class Token(_Message):
    """The API token, where one is wanted; before anything else."""

    type: Literal["token"]
    token: str = Field(max_length=512)


class Ping(_Message):
    """Asks for a ``pong``."""

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
    """What is subscribed now; ``resumed`` events follow before the live ones."""

    type: Literal["subscription"] = "subscription"
    channels: list[Channel]
    instruments: list[str] | None
    resumed: int | None = None


class Authenticated(_Message):
    """The token is right."""

    type: Literal["authenticated"] = "authenticated"


class Heartbeat(_Message):
    """Comes every ``heartbeat_sec``."""

    type: Literal["heartbeat"] = "heartbeat"
    ts_ms: int


class Pong(_Message):
    """Answer to ``ping``."""

    type: Literal["pong"] = "pong"
    ts_ms: int


class Lagging(_Message):
    """This client reads too slowly: so many events were dropped, from one id to another."""

    type: Literal["lagging"] = "lagging"
    dropped: int
    channels: dict[str, int]
    first_id: str | None
    last_id: str | None
    detail: str


class Gap(_Message):
    """The service itself has passed over these positions of the log."""

    type: Literal["gap"] = "gap"
    topic: str
    partition: int
    from_offset: int
    to_offset: int
    detail: str


class Reset(_Message):
    """Events cannot be continued from where the client was: load the state anew, go on from now."""

    type: Literal["reset"] = "reset"
    detail: str


class Failure(_Message):
    """A message was refused; nothing has changed."""

    type: Literal["error"] = "error"
    error: str
    detail: str


class EventFrame(_Message):
    """One event. ``id`` is its place in the log; null for ``status``, which is not kept."""

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
