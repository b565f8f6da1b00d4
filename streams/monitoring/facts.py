"""The facts known of a running deployment at one instant, by source.

A source that could not be queried is None, with the reason in ``LiveFacts.away``; nothing is then
assumed about it. A source that is not part of this deployment is in ``LiveFacts.unused``. Inside a
source, None means that it was queried and the value does not exist. Instants are epoch ms UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from streams.config.difference import Difference
from streams.kafka.decoding import InvalidKind
from streams.mirror.probe import NOTHING, MirrorFacts
from streams.process.clock_skew import Skew

Source = Literal["log", "valkey", "kill_switch", "executor", "feed", "workers"]
SOURCES: Final[tuple[Source, ...]] = (
    *("log", "valkey", "kill_switch", "executor", "feed", "workers"),
)


class EpochFacts(NamedTuple):
    """Counts of one epoch of ``risk.weights``.

    Attributes
    ----------
    members, eligible, cooling
        Number of instruments of the universe; of them eligible and not in cooldown; in cooldown.
    weighted, top_k
        Number of instruments with weight, and the maximum.
    """

    epoch_ms: int
    members: int
    eligible: int
    cooling: int
    weighted: int
    top_k: int
    action: str
    reason: str


class WaitingOrder(NamedTuple):
    """An order that the venue has accepted and that waits for a price since ``since_ms``."""

    order_id: str
    instrument: str
    since_ms: int


class OrderFacts(NamedTuple):
    """Results of the orders of the last ``window_ms``.

    Attributes
    ----------
    sent, rejected, cancelled
        How many.
    unresolved
        Order ids whose result is not known.
    waiting
        Orders that the venue has accepted and not yet filled or rejected.
    last_reason
        Reason of the last rejected or cancelled order.
    """

    window_ms: int
    sent: int = 0
    rejected: int = 0
    cancelled: int = 0
    unresolved: tuple[str, ...] = ()
    last_reason: str = ""
    waiting: tuple[WaitingOrder, ...] = ()


class LogFacts(NamedTuple):
    """The facts read from the log.

    Attributes
    ----------
    candles
        Instrument -> ``as_of_ms`` of its last candle; None when it has none.
    epochs
        The latest epochs, ascending.
    lag
        Stage, or ``mirror`` -> number of records of its sources not yet processed.
    stalled_ms
        Stage -> ms since its lag last decreased; empty before the second probe.
    dead_letters, dead_letters_recent
        Total number; those of the last ``dead_letters_window_ms``, by event time or by arrival.
    """

    candles: Mapping[str, int | None] = NOTHING
    epochs: tuple[EpochFacts, ...] = ()
    lag: Mapping[str, int] = NOTHING
    stalled_ms: Mapping[str, int] = NOTHING
    dead_letters: int = 0
    dead_letters_recent: int = 0
    dead_letters_window_ms: int = 0
    orders: OrderFacts | None = None


class KillFacts(NamedTuple):
    """The kill switch as it applies to the executor.

    Attributes
    ----------
    logged
        The state in ``ops.control`` alone; None when it has no record.
    since_ms
        When it was last switched; None when never.
    """

    engaged: bool
    logged: bool | None
    why: tuple[str, ...] = ()
    since_ms: int | None = None
    actor: str = ""
    reason: str = ""


class CallFacts(NamedTuple):
    """Failures of requests to OANDA.

    Attributes
    ----------
    errors_recent
        Requests that failed in the last ``window_ms``; None at the first probe.
    breaker_open
        Whether the circuit breaker holds requests back after consecutive failures.
    """

    errors_recent: int | None
    window_ms: int
    breaker_open: bool = False
    last_error: str = ""


class ProcessFacts(NamedTuple):
    """What the metrics of a process say about it.

    Attributes
    ----------
    starts
        Name of the process -> when it was started, epoch ms.
    invalid
        The invalid records that it has read.
    """

    starts: Mapping[str, int] = NOTHING
    invalid: tuple[InvalidKind, ...] = ()


class ExecutorFacts(NamedTuple):
    """The executor's own ``/status``.

    Attributes
    ----------
    mode
        ``paper``, ``practice`` or ``live``.
    differences
        Differences between the broker's positions and the log.
    margin_used, margin_available
        Of the account, in its currency; None when not known.
    trouble
        The executor's reason for opening no position.
    cannot_close
        Instruments whose closing is due and fails, each with the reason.
    untraded
        Instruments that the venue does not trade.
    config_differs
        Differences between the settings it was started with and the active ones.
    seen
        What its metrics say of the process.
    refused
        The last decisions and weights that it does not act on, newest first: each as a sentence,
        and when it was refused (epoch ms).
    """

    mode: str
    read_only: bool
    dry_run: bool
    last_cycle_ms: int | None
    reconciled: bool
    differences: tuple[str, ...] = ()
    margin_used: float | None = None
    margin_available: float | None = None
    calls: CallFacts | None = None
    trouble: str = ""
    cannot_close: tuple[str, ...] = ()
    untraded: tuple[str, ...] = ()
    config_differs: tuple[Difference, ...] = ()
    seen: ProcessFacts = ProcessFacts()
    refused: tuple[tuple[str, int], ...] = ()


class FeedFacts(NamedTuple):
    """The OANDA feed's own ``/metrics``.

    Attributes
    ----------
    last_message_ms
        Time of the last price or heartbeat of the price stream.
    skew_ms
        The broker's clock minus this one; None when not measured.
    config_differs, seen
        As in ``ExecutorFacts``.
    """

    last_message_ms: int | None
    skew_ms: int | None = None
    calls: CallFacts | None = None
    config_differs: tuple[Difference, ...] = ()
    seen: ProcessFacts = ProcessFacts()


class WorkerFacts(NamedTuple):
    """The ``/metrics`` of the workers.

    Attributes
    ----------
    config_differs
        Worker (its address) -> as in ``ExecutorFacts``.
    seen
        As in ``ExecutorFacts``, of every worker.
    """

    config_differs: Mapping[str, tuple[Difference, ...]]
    seen: tuple[ProcessFacts, ...] = ()


class LiveFacts(NamedTuple):
    """All facts that ``judge`` uses.

    Attributes
    ----------
    pairs
        The instruments of the deployment (``HOTBAND_PAIRS``).
    away
        Source -> why it could not be queried.
    unused
        Sources that are not part of this deployment.
    clocks
        Difference of this machine's clock to those of the servers that report theirs.
    config_differs
        Differences between the settings of the service itself and the active ones.
    starts
        Process -> its known starts of the last hour, epoch ms, ascending: those recorded in Valkey
        and those seen at the status ports.
    invalid
        The invalid records that any of the processes has read.
    """

    pairs: tuple[str, ...]
    log: LogFacts | None = None
    valkey: MirrorFacts | None = None
    kill_switch: KillFacts | None = None
    executor: ExecutorFacts | None = None
    feed: FeedFacts | None = None
    away: Mapping[str, str] = NOTHING
    unused: frozenset[str] = frozenset()
    clocks: tuple[Skew, ...] = ()
    workers: WorkerFacts | None = None
    config_differs: tuple[Difference, ...] = ()
    starts: Mapping[str, tuple[int, ...]] = NOTHING
    invalid: tuple[InvalidKind, ...] = ()


def nothing_known(pairs: tuple[str, ...], why: str) -> LiveFacts:
    """Return facts in which all sources are unavailable."""
    return LiveFacts(pairs, away=dict.fromkeys(SOURCES, why))
