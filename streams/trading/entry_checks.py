"""Checks of an entry against its candles, read from ``sep.manifolds`` on demand."""

from __future__ import annotations

from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.kafka.decoding import event_of
from streams.kafka.partitioner import partition_of
from streams.kafka.reader import LogReader
from streams.records.codec import Codec
from streams.records.events import Manifold, Ohlc
from streams.records.topics import MANIFOLDS
from streams.trading.brokers.brackets import average_true_range
from streams.trading.plan import RunCandidate
from streams.trading.runs import SourceSpan

RANGE_BARS = 1_500
"""Number of bars after which the first ones no longer affect an average of at most 60 bars."""

LATE = "a late candle came before it: the run may have entered a bar ago"


def late_entry(runtime: Runtime, codec: Codec, candidate: RunCandidate) -> str:
    """Return why the decision is not at the run's entry; empty when it is.

    After a bar without a candle, a late candle of that bar may already have made the run enter; the
    decision that shows it would be one bar late.

    Raises
    ------
    Recoverable
        No broker answers.
    """
    span = candidate.entry.late_span
    if span is None:
        return ""
    found = _manifolds(runtime, codec, candidate.instrument, span)
    return LATE if found is None or any(manifold.late for manifold in found) else ""


def _manifolds(
    runtime: Runtime, codec: Codec, instrument: str, span: SourceSpan
) -> list[Manifold] | None:
    if span.partition < 0:
        return None
    key, found = instrument.encode(), []
    with LogReader(runtime) as reader:
        for batch in reader.read(MANIFOLDS, span.partition, span.start, span.end + 1):
            for one in batch:
                if one.record.key != key:
                    continue
                event = event_of(codec, one.record)
                if event is None:
                    return None
                if isinstance(event, Manifold):
                    found.append(event)
    return found


def entry_range(
    runtime: Runtime, codec: Codec, config: Config, candidate: RunCandidate
) -> float | None:
    """Return the run's average true range at its entry; None without atr levels or enough bars.

    It is computed over the last bars of the log only; the difference to the whole run is less than
    the last digit of a price.

    Raises
    ------
    Recoverable
        No broker answers.
    """
    if config.auto_tp_mode != "atr":
        return None
    name, bar_ms = candidate.instrument, candidate.entry.decision.bar_ms
    wanted = max(RANGE_BARS, 60 * config.atr_bars)
    with LogReader(runtime) as reader:
        partition = partition_of(name.encode(), len(reader.partitions(MANIFOLDS)))
        low, end = reader.bounds(MANIFOLDS, partition)
    back = 2 * wanted
    while True:
        start = max(low, end - back)
        found = _manifolds(runtime, codec, name, SourceSpan(partition, start, end)) or []
        mids: list[Ohlc] = [
            m.candle.mid
            for m in found
            if m.bar_ms <= bar_ms and m.granularity == config.candle_gran
        ]
        if len(mids) >= wanted or start == low:
            return average_true_range(mids, config.atr_bars)
        back *= 2
