"""The state of a deployment, read from the log, for `manifold status`, `why` and the screen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from streams.config.runtime import Runtime
from streams.kafka.control_topic import read_control
from streams.kafka.decoding import event_of
from streams.kafka.lag import LagProbe
from streams.kafka.reader import LogReader
from streams.monitoring.view import LiveView
from streams.pipeline.limits import GUARD_LIMITS
from streams.records.codec import Codec
from streams.records.events import DeadLetter, Event, GateDecision, Weights
from streams.records.log_record import RecordCoordinates
from streams.records.reasons import Reason
from streams.records.topics import DEAD_LETTERS, GATES, TOPICS, WEIGHTS

TAIL = 5_000
GUARDS = (
    Reason.COHERENCE_BELOW_MIN,
    Reason.STABILITY_BELOW_MIN,
    Reason.ENTROPY_ABOVE_MAX,
    Reason.RUPTURE_ABOVE_MAX,
    Reason.HAZARD_ABOVE_MAX,
    Reason.REPETITIONS_SHORT,
    Reason.SESSION_CLOSED,
    Reason.SESSION_NEAR_CLOSE,
)
WINDOW_GUARDS = frozenset(reason for rules in GUARD_LIMITS.values() for reason in rules)
"""The reasons of the guards on the window's metrics."""


@dataclass
class Status:
    """The status of a deployment, read from the log.

    Attributes
    ----------
    view
        The last values: configuration, weights, and the latest decision of every instrument.
    ends
        Topic -> number of offsets, over all partitions.
    lag
        Stage, or ``mirror`` -> lag in offsets over all its sources.
    dead_letters
        Reason -> count among the last dead letters.
    pass_rates
        Guard -> share of the last decisions with metrics that pass it.
    all_guards
        Share of them that pass all guards; the session is not a guard.
    decided
        Number of decisions behind the rates.
    """

    view: LiveView = field(default_factory=LiveView)
    ends: dict[str, int] = field(default_factory=dict)
    lag: dict[str, int] = field(default_factory=dict)
    dead_letters: Counter[str] = field(default_factory=Counter)
    pass_rates: dict[str, float] = field(default_factory=dict)
    all_guards: float | None = None
    decided: int = 0

    @property
    def config_id(self) -> str:
        """Id of the active configuration; empty before the first."""
        return self.view.config.config_id if self.view.config else ""

    @property
    def market_calendar(self) -> str:
        """Active MARKET_CALENDAR; empty before the first configuration."""
        return self.view.config.market_calendar if self.view.config else ""

    @property
    def decisions(self) -> Mapping[str, GateDecision]:
        """Instrument -> its latest decision."""
        return self.view.decisions

    @property
    def weights(self) -> Weights | None:
        """The last epoch; None before the first."""
        return self.view.weights

    def as_dict(self, now_ms: int) -> dict[str, Any]:
        """Return the status for ``--json``; ages count from the record's event time."""
        weights = self.weights
        return {
            "config_id": self.config_id,
            "market_calendar": self.market_calendar,
            "topics": self.ends,
            "lag": self.lag,
            "instruments": {
                name: {
                    "as_of_ms": d.as_of_ms,
                    "eligible": d.eligible,
                    "reasons": list(d.reasons),
                    "signal_bar_ms": d.signal_bar_ms,
                    "score": d.score,
                }
                for name, d in sorted(self.decisions.items())
            },
            "weights": None
            if weights is None
            else {
                "epoch_ms": weights.epoch_ms,
                "age_ms": now_ms - weights.epoch_ms,
                "action": weights.action,
                "reason": weights.reason,
                "entries": [entry._asdict() for entry in weights.entries],
            },
            "dead_letters": dict(self.dead_letters),
            "pass_rates": self.pass_rates,
            "pass_rate_all_guards": self.all_guards,
            "pass_rates_over": self.decided,
        }


def tail_events(
    reader: LogReader, codec: Codec, topic: str, partition: int, count: int = TAIL
) -> Iterator[Event]:
    """Yield the events among the last ``count`` offsets of a partition, oldest first."""
    low, high = reader.bounds(topic, partition)
    yield from events_between(reader, codec, topic, partition, max(low, high - count), high)


def collect(runtime: Runtime, codec: Codec) -> Status:
    """Read the status of a deployment.

    Raises
    ------
    Fatal, Recoverable
        A topic is missing; no broker answers.
    """
    status = Status(LiveView(read_control(runtime, codec)))
    with LogReader(runtime) as reader:
        bounds = {t: reader.all_bounds(t, reader.partitions(t)) for t in TOPICS}
        for topic, spans in bounds.items():
            status.ends[topic] = sum(high - low for low, high in spans.values())
        status.lag, _ = LagProbe(runtime).look(reader, bounds)
        for event in tail_events(reader, codec, WEIGHTS, 0, 10):
            status.view.apply(RecordCoordinates(WEIGHTS, 0, 0), event)
        _decisions(status, reader, codec)
        for event in tail_events(reader, codec, DEAD_LETTERS, 0):
            if isinstance(event, DeadLetter):
                status.dead_letters[event.reason] += 1
    return status


def _decisions(status: Status, reader: LogReader, codec: Codec) -> None:
    wanted = set(status.weights.universe) if status.weights else set()
    failed: Counter[str] = Counter()
    guarded = 0
    for events in backwards(reader, codec, GATES, 0):
        for event in reversed(events):
            if not isinstance(event, GateDecision):
                continue
            if event.instrument not in status.decisions:
                status.view.apply(RecordCoordinates(GATES, 0, 0), event)
            if event.metrics is not None and status.decided < TAIL:
                status.decided += 1
                failed.update(event.reasons)
                guarded += not WINDOW_GUARDS.isdisjoint(event.reasons)
        # after a catch-up the last decision of an instrument may be far back in the log
        if wanted <= set(status.decisions):
            break
    if status.decided:
        status.all_guards = 1 - guarded / status.decided
        status.pass_rates = {
            guard.value: 1 - failed[guard.value] / status.decided for guard in GUARDS
        }


def backwards(
    reader: LogReader, codec: Codec, topic: str, partition: int, end: int | None = None
) -> Iterator[list[Event]]:
    """Yield chunks of a partition's events, the last chunk first, each in log order."""
    low, high = reader.bounds(topic, partition)
    high = high if end is None else min(end, high)
    count = TAIL
    while high > low:
        start = max(low, high - count)
        yield list(events_between(reader, codec, topic, partition, start, high))
        high, count = start, count * 2


def events_between(
    reader: LogReader, codec: Codec, topic: str, partition: int, start: int, end: int
) -> Iterator[Event]:
    """Yield the events at the offsets [start, end) of a partition."""
    for batch in reader.read(topic, partition, start, end):
        for found in batch:
            event = event_of(codec, found.record)
            if event is not None:
                yield event
