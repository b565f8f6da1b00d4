"""The state of the deployment according to the log: last values, in memory.

A fold over the log, like the mirror's last values, but in the service's process: requests need
neither Valkey nor the Kafka broker. A last value is never replaced by an older one (event time).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping
from typing import Any, NamedTuple

from streams.candles.rules import candle_refusal
from streams.config.settings import Config
from streams.records.control import ControlLog, ControlState
from streams.records.events import (
    Candle,
    Control,
    Event,
    GateDecision,
    Manifold,
    Signal,
    Summary,
    Watermark,
    Weights,
)
from streams.records.log_record import RecordCoordinates
from streams.records.trading_events import BrokerReport, OrderIntent

MAX_ORDERS = 200
MAX_INSTRUMENTS = 2_000
RECENT = 16
EPOCHS = 60
END_OF_TIME_MS = 1 << 60


class Origin(NamedTuple):
    """Position of a record, its source and engine version; empty when not recorded."""

    id: str
    source: str
    engine: str


class LiveView:
    """The last values.

    Parameters
    ----------
    control
        ``ops.control`` as far as it has been read; it grows with the view.

    Attributes
    ----------
    candles, manifolds, signals, decisions, summaries
        Instrument -> its last record.
    origins
        Instrument -> origin of its last manifold.
    recent
        Instrument -> times (``as_of_ms``) of its last signals.
    epochs
        The latest epochs, ascending.
    orders, reports
        Order id -> the order, and its last broker report; the newest ones.
    watermark_ms
        Newest watermark of the candles.
    version
        Increases with every record.
    """

    def __init__(self, control: ControlLog | None = None) -> None:
        self.control = ControlLog(lenient=True) if control is None else control
        self.candles: dict[str, Candle] = {}
        self.manifolds: dict[str, Manifold] = {}
        self.signals: dict[str, Signal] = {}
        self.decisions: dict[str, GateDecision] = {}
        self.summaries: dict[str, Summary] = {}
        self.origins: dict[str, Origin] = {}
        self.recent: dict[str, deque[int]] = {}
        self.epochs: deque[Weights] = deque(maxlen=EPOCHS)
        self.orders: OrderedDict[str, OrderIntent] = OrderedDict()
        self.reports: OrderedDict[str, BrokerReport] = OrderedDict()
        self.watermark_ms: int | None = None
        self.version = 0

    def apply(self, place: RecordCoordinates, event: Event, origin: Origin | None = None) -> None:
        """Apply a record."""
        self.version += 1
        if isinstance(event, Candle):
            self._keep_candle(event)
        elif isinstance(event, Manifold):
            if _newer(self.manifolds, event):
                self.manifolds[event.instrument] = event
                self.origins[event.instrument] = origin or Origin(place.id, "", "")
        elif isinstance(event, Signal):
            if _newer(self.signals, event):
                self.signals[event.instrument] = event
                times = self.recent.setdefault(event.instrument, deque(maxlen=RECENT))
                times.append(event.as_of_ms)
        elif isinstance(event, GateDecision):
            if _newer(self.decisions, event):
                self.decisions[event.instrument] = event
        elif isinstance(event, Summary):
            if _newer(self.summaries, event):
                self.summaries[event.instrument] = event
        elif isinstance(event, Weights):
            self._keep_epoch(event)
        elif isinstance(event, Watermark):
            self.watermark_ms = max(self.watermark_ms or 0, event.as_of_ms)
        else:
            self._fact(place, event)

    def _keep_epoch(self, event: Weights) -> None:
        if self.weights is not None and event.epoch_ms <= self.weights.epoch_ms:
            if event.epoch_ms < self.weights.epoch_ms:
                return
            self.epochs.pop()
        self.epochs.append(event)

    def _keep_candle(self, event: Candle) -> None:
        config = self.config
        if config is not None and event.granularity != config.candle_gran:
            return
        if candle_refusal(event, event.instrument.encode()):
            return  # refused by the stages as well
        if _newer(self.candles, event):
            self.candles[event.instrument] = event

    def _fact(self, place: RecordCoordinates, event: Event) -> None:
        if isinstance(event, Control):
            if place.offset >= self.control.end:
                self.control.append(place.offset, event)
        elif isinstance(event, OrderIntent):
            self.orders[event.order_id] = event
            self.orders.move_to_end(event.order_id)
            _shorten(self.orders)
        elif isinstance(event, BrokerReport):
            self.reports[event.order_id] = event
            self.reports.move_to_end(event.order_id)
            _shorten(self.reports)

    @property
    def weights(self) -> Weights | None:
        """The last epoch; None before the first."""
        return self.epochs[-1] if self.epochs else None

    @property
    def state(self) -> ControlState:
        """The state of ``ops.control``."""
        return self.control.state(self.control.end)

    @property
    def config(self) -> Config | None:
        """The active configuration, None before the first."""
        return self.state.config

    @property
    def universe(self) -> tuple[str, ...]:
        """The instruments of the last epoch, or the ones that a feed has declared, sorted."""
        if self.weights is not None:
            now = self.state.universe.members(self.weights.epoch_ms)
            return now or self.weights.universe
        newest = max((c.as_of_ms for c in self.candles.values()), default=END_OF_TIME_MS)
        return self.state.universe.members(newest) or self.state.universe.members(END_OF_TIME_MS)

    @property
    def instruments(self) -> tuple[str, ...]:
        """The universe and all other instruments seen, sorted."""
        return tuple(sorted({*self.universe, *self.candles, *self.decisions}))

    def newest_orders(self, count: int) -> list[tuple[OrderIntent, BrokerReport | None]]:
        """Return orders with their last broker report, newest first."""
        newest = sorted(self.orders.values(), key=_made, reverse=True)
        return [(order, self.reports.get(order.order_id)) for order in newest[:count]]


def _made(order: OrderIntent) -> tuple[int, int, int, str]:
    """Return the sort key of orders; several may follow one decision."""
    return order.as_of_ms, order.placed_ms, order.sequence, order.order_id


def _newer(known: Mapping[str, Any], event: Any) -> bool:
    before = known.get(event.instrument)
    if before is None:
        return len(known) < MAX_INSTRUMENTS
    newer: bool = event.as_of_ms >= before.as_of_ms
    return newer


def _shorten(known: OrderedDict[str, Any]) -> None:
    while len(known) > MAX_ORDERS:
        known.popitem(last=False)
