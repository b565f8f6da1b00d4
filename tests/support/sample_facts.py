"""Facts of a deployment in good health, for tests that then break one thing."""

from __future__ import annotations

from datetime import UTC, datetime

from streams.config.settings import Config
from streams.mirror.probe import MirroredManifold, MirrorFacts
from streams.monitoring.alerts import failure_signals
from streams.monitoring.facts import (
    CallFacts,
    EpochFacts,
    ExecutorFacts,
    FeedFacts,
    KillFacts,
    LiveFacts,
    LogFacts,
    OrderFacts,
    WorkerFacts,
)
from streams.monitoring.verdict import FailureSignal

MINUTE_MS, HOUR_MS = 60_000, 3_600_000
PAIRS = ("EUR_USD", "GBP_USD", "USD_CHF", "USD_JPY")


def ms(text: str) -> int:
    """Return epoch ms of a UTC time."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


OPEN = ms("2024-03-06T14:30:20")
"""A Wednesday with London and New York open."""


def epoch(at_ms: int, eligible: int = 3, weighted: int = 3, cooling: int = 0) -> EpochFacts:
    """Return an epoch with so many of each."""
    action = "published" if weighted else "cleared"
    return EpochFacts(at_ms, 4, eligible, cooling, weighted, 3, action, "selected")


def healthy(now_ms: int = OPEN, **changed: object) -> LiveFacts:
    """Return the facts of a deployment in which nothing is wrong at ``now_ms``."""
    bar = now_ms - now_ms % MINUTE_MS
    facts = LiveFacts(
        PAIRS,
        log=LogFacts(
            candles=dict.fromkeys(PAIRS, bar),
            epochs=tuple(epoch(bar - n * MINUTE_MS) for n in range(30, -1, -1)),
            lag={"signals": 0, "gates": 0, "weights": 0, "mirror": 0},
            dead_letters_window_ms=HOUR_MS,
            orders=OrderFacts(HOUR_MS, sent=4),
        ),
        valkey=MirrorFacts(
            manifolds={pair: MirroredManifold(bar) for pair in PAIRS},
            signals=dict.fromkeys(PAIRS, bar),
            blob_ms=bar,
            status_ms=bar,
            weighted=3,
            starts={},
        ),
        kill_switch=KillFacts(False, False, (), now_ms - HOUR_MS, "ops", "open"),
        executor=ExecutorFacts(
            "practice", False, False, now_ms - 5_000, True, (), 100.0, 900.0, CallFacts(0, HOUR_MS)
        ),
        feed=FeedFacts(now_ms - 2_000, 15, CallFacts(0, HOUR_MS)),
        workers=WorkerFacts({"127.0.0.1:9108": ()}),
        starts={"worker w-1": (now_ms - HOUR_MS // 2,), "mirror desk": (now_ms - HOUR_MS,)},
    )
    return facts._replace(**changed)


def signal(
    name: str, facts: LiveFacts, now_ms: int = OPEN, config: Config | None = None
) -> FailureSignal:
    """Return one failure signal of the facts."""
    found = failure_signals(facts, now_ms, config or Config())
    return next(one for one in found if one.name == name)
