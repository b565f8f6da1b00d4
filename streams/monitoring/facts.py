"""What is known of a running deployment at one instant, by where it is known from.

A source that could not be asked is None here and its reason stands in ``LiveFacts.away``: nothing
is then known, and nothing is taken as well. A source that this deployment does not have stands in
``LiveFacts.unused``. Inside a source, None means that it was asked and there is no such thing.
Instants are epoch ms UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from streams.config.difference import Difference
from streams.mirror.probe import NOTHING, MirrorFacts
from streams.process.clock_skew import Skew

Source = Literal["log", "valkey", "kill_switch", "executor", "feed", "workers"]
SOURCES: Final[tuple[Source, ...]] = (
    *("log", "valkey", "kill_switch", "executor", "feed", "workers"),
)


class EpochFacts(NamedTuple):
    """One epoch of ``risk.weights`` in numbers.

    Attributes
    ----------
    members, eligible, cooling
        Instruments of the universe; of them eligible and not cooling; cooling down.
    weighted, top_k
        Instruments with weight; how many may have.
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
    """What came of the orders of the last ``window_ms``.

    Attributes
    ----------
    sent, rejected, cancelled
        How many.
    unresolved
        Order ids whose outcome is not known.
    waiting
        Orders that the venue has accepted and not decided.
    last_reason
        What the broker said last of one that it rejected or cancelled.
    """

    window_ms: int
    sent: int = 0
    rejected: int = 0
    cancelled: int = 0
    unresolved: tuple[str, ...] = ()
    last_reason: str = ""
    waiting: tuple[WaitingOrder, ...] = ()


class LogFacts(NamedTuple):
    """What stands in the log.

    Attributes
    ----------
    candles
        Instrument -> ``as_of_ms`` of its last candle; None when it has none.
    epochs
        The latest epochs, ascending.
    lag
        Stage, or ``mirror`` -> records of its sources that it has not taken in.
    standing_ms
        Stage -> how long its lag has not gone down; empty before it was looked at twice.
    dead_letters, dead_letters_recent
        All of them; those of the last ``dead_letters_window_ms``, by event time or by arrival.
    """

    candles: Mapping[str, int | None] = NOTHING
    epochs: tuple[EpochFacts, ...] = ()
    lag: Mapping[str, int] = NOTHING
    standing_ms: Mapping[str, int] = NOTHING
    dead_letters: int = 0
    dead_letters_recent: int = 0
    dead_letters_window_ms: int = 0
    orders: OrderFacts | None = None


class KillFacts(NamedTuple):
    """The kill switch as the executor has to take it.

    Attributes
    ----------
    logged
        What ``ops.control`` alone says; None when it has no record.
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
    """How requests to OANDA fare.

    Attributes
    ----------
    errors_recent
        Requests that failed in the last ``window_ms``; None when it was looked at once.
    breaker_open
        Whether requests are held back after failures in a row.
    """

    errors_recent: int | None
    window_ms: int
    breaker_open: bool = False
    last_error: str = ""


class ExecutorFacts(NamedTuple):
    """The executor's own ``/status``.

    Attributes
    ----------
    mode
        ``paper``, ``practice`` or ``live``.
    differences
        Where the broker's books are not ours.
    margin_used, margin_available
        Of the account, in its currency; None when the broker has not told.
    trouble
        Why nothing is opened, in the executor's own words.
    cannot_close
        Instruments whose closing is due and does not work, each with its reason.
    untraded
        Instruments that the venue does not trade.
    config_differs
        Where the settings that it was started with are not the active ones.
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


class FeedFacts(NamedTuple):
    """The OANDA feed's own ``/metrics``.

    Attributes
    ----------
    last_message_ms
        When the price stream last brought a price or a heartbeat.
    skew_ms
        The broker's clock less this one; None when it was not measured.
    config_differs
        As of ``ExecutorFacts``.
    """

    last_message_ms: int | None
    skew_ms: int | None = None
    calls: CallFacts | None = None
    config_differs: tuple[Difference, ...] = ()


class WorkerFacts(NamedTuple):
    """The ``/metrics`` of the workers.

    Attributes
    ----------
    config_differs
        Worker (its address) -> as of ``ExecutorFacts``.
    """

    config_differs: Mapping[str, tuple[Difference, ...]]


class LiveFacts(NamedTuple):
    """Everything ``judge`` goes by.

    Attributes
    ----------
    pairs
        The instruments of the deployment (``HOTBAND_PAIRS``).
    away
        Source -> why it could not be asked.
    unused
        Sources that this deployment does not have.
    clocks
        How far this machine's clock is from those of the servers that tell theirs.
    config_differs
        Where the settings of the service itself are not the active ones.
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


def nothing_known(pairs: tuple[str, ...], why: str) -> LiveFacts:
    """Return the facts of somebody who could not look at anything."""
    return LiveFacts(pairs, away=dict.fromkeys(SOURCES, why))
