"""The WebSocket's channels, their topics, and the frame of an event. Pure.

An event's id is its position in the log, ``<topic>-<partition>-<offset>`` without the deployment's
prefix, so it stays valid after restarts.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from streams.mirror.shapes import Latest, Retention, writes_of
from streams.monitoring.describe import gate_view, order_view, weights_view
from streams.records.control import ControlState
from streams.records.events import (
    Candle,
    Control,
    DeadLetter,
    Event,
    GateDecision,
    Manifold,
    Signal,
    SimulatedTrade,
    Summary,
    Watermark,
    Weights,
)
from streams.records.log_record import RecordCoordinates
from streams.records.plain import plain
from streams.records.topics import (
    CANDLES,
    CONTROL,
    DEAD_LETTERS,
    FILLS,
    GATES,
    MANIFOLDS,
    ORDERS,
    SIGNALS,
    SUMMARIES,
    TRADES,
    WEIGHTS,
)
from streams.records.trading_events import AccountState, BrokerReport, OrderIntent


class Kind(NamedTuple):
    """A kind of event on the WebSocket.

    Attributes
    ----------
    type
        The frame's ``type``.
    channel
        Channel whose subscribers get it.
    topic
        Its topic in the log; None for events that are not stored.
    content
        One line of documentation.
    """

    type: str
    channel: str
    topic: str | None
    content: str


KINDS: dict[type, Kind] = {
    Candle: Kind("candle", "market", CANDLES, "a complete candle, as in md.candles"),
    Manifold: Kind("manifold", "manifold", MANIFOLDS, "the JSON of ws:last:manifold:{INST}"),
    Signal: Kind("signal", "signals", SIGNALS, "the record of sep.signals"),
    GateDecision: Kind("gate", "gates", GATES, "a gate decision with its reasons as text"),
    Weights: Kind("weights", "weights", WEIGHTS, "the allocation of an epoch"),
    OrderIntent: Kind("order", "orders", ORDERS, "an order intent with its guard results"),
    BrokerReport: Kind("fill", "orders", FILLS, "a broker report on an order"),
    AccountState: Kind("account", "orders", FILLS, "highest NAV and the NAV at the day's start"),
    SimulatedTrade: Kind("trade", "ledger", TRADES, "a trade of the rolling backtest, closed"),
    Summary: Kind("summary", "performance", SUMMARIES, "an evaluation of the rolling backtest"),
    Control: Kind(
        "control", "system", CONTROL, "a record of ops.control: command, actor and reason"
    ),
    DeadLetter: Kind("dead_letter", "system", DEAD_LETTERS, "a refused record, and why"),
}
"""Event type -> its WebSocket description. Watermarks are not sent."""

STATUS = Kind("status", "system", None, "a failure signal or the executor has changed its state")

CHANNELS: tuple[str, ...] = tuple(dict.fromkeys(kind.channel for kind in KINDS.values()))
"""Channels a client may subscribe to."""

CHANNEL_TOPICS: dict[str, tuple[str, ...]] = {
    channel: tuple(k.topic for k in KINDS.values() if k.channel == channel and k.topic)
    for channel in CHANNELS
}


class Frame(NamedTuple):
    """One event for all subscribers, serialised once.

    Attributes
    ----------
    instrument
        Its instrument; None for events of all instruments.
    """

    id: str | None
    channel: str
    instrument: str | None
    ts_ms: int
    text: str


def frame_of(
    place: RecordCoordinates,
    ts_ms: int,
    event: Event,
    control: ControlState,
    alloc_interval_sec: int,
) -> Frame | None:
    """Return the frame of a record, None for records that are not sent.

    Parameters
    ----------
    place, ts_ms
        Position of the record, and its time in epoch ms.
    control
        State of ``ops.control``: the limits used in the texts of a gate decision.
    alloc_interval_sec
        Needed for the mirror's shapes.
    """
    if isinstance(event, Watermark):
        return None
    kind = KINDS[type(event)]
    instrument: str | None = getattr(event, "instrument", None)
    head: dict[str, Any] = {"type": kind.type, "channel": kind.channel, "id": place.id}
    head["ts_ms"] = ts_ms
    if instrument is not None:
        head["instrument"] = instrument
    if isinstance(event, Manifold):
        writes = writes_of(event, alloc_interval_sec, Retention(0, 0))
        body = next(write.value for write in writes if isinstance(write, Latest))
    else:
        body = compact_json(_data(event, control))
    text = f'{compact_json(head)[:-1]},"data":{body}}}'
    return Frame(place.id, kind.channel, instrument, ts_ms, text)


def status_frame(ts_ms: int, data: dict[str, Any]) -> Frame:
    """Return the frame of a change without a record in the log; it has no id."""
    head = {"type": STATUS.type, "channel": STATUS.channel, "id": None, "ts_ms": ts_ms}
    return Frame(None, STATUS.channel, None, ts_ms, compact_json({**head, "data": data}))


def compact_json(content: Any) -> str:
    """Return compact JSON.

    Raises
    ------
    ValueError
        A number that JSON does not have.
    """
    return json.dumps(content, separators=(",", ":"), allow_nan=False)


def _data(event: Event, control: ControlState) -> Any:
    if isinstance(event, GateDecision):
        return gate_view(event, control.config_of(event.instrument))
    if isinstance(event, Weights):
        return weights_view(event)
    if isinstance(event, OrderIntent):
        return order_view(event, None)
    found = plain(event)
    if isinstance(event, BrokerReport):
        del found["raw"]  # the broker's raw answer: long, and with account numbers
    elif isinstance(event, Control):
        found["value"] = _parsed(event.value)
    elif isinstance(event, DeadLetter):
        del found["value"]
    return found


def _parsed(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=str)
    except ValueError:
        return text
