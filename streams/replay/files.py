"""Run candle files through the whole chain, without a broker."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence

from streams.config.settings import Config
from streams.feeds.plan import Fact, FeedPlan
from streams.pipeline.chain import make_chain
from streams.pipeline.memory import Derivation
from streams.records.codec import Codec, locked_codec
from streams.records.control import ControlLog, UniverseChange
from streams.records.events import Candle, Control
from streams.records.log_record import DerivedRecord, SourceRecord
from streams.records.topics import CANDLES

CHUNK = 2_000

Bars = Iterable[tuple[int, Sequence[Candle]]]


def control_of(
    config: Config, instruments: Sequence[str], from_ms: int, until_ms: int
) -> ControlLog:
    """Return the control log of a load of these candles: configuration and universe."""
    change = UniverseChange("add", tuple(sorted(instruments)), from_ms, until_ms)
    log = ControlLog()
    log.append(0, Control("config", None, config.to_json(), "replay", "replay", from_ms))
    log.append(1, Control("universe", None, change.to_json(), "replay", "replay", from_ms))
    return log


def facts_of(plan: FeedPlan, bars: Bars, from_ms: int, control_offset: int) -> Iterator[Fact]:
    """Yield the records that a load of these bars writes."""
    yield from plan.opening(from_ms, control_offset)
    last_ms = from_ms
    for as_of_ms, candles in bars:
        yield from plan.bar(as_of_ms, candles, control_offset)
        last_ms = as_of_ms
    yield from plan.closing(last_ms, control_offset)


def source_records(
    plan: FeedPlan, bars: Bars, from_ms: int, control_offset: int, codec: Codec
) -> Iterator[SourceRecord]:
    """Yield ``md.candles`` as written by a load of these bars."""
    ends: dict[int, int] = defaultdict(int)
    for fact in facts_of(plan, bars, from_ms, control_offset):
        offset = ends[fact.partition]
        ends[fact.partition] += 1
        value = codec.encode(CANDLES, fact.event)
        yield SourceRecord(CANDLES, fact.partition, offset, fact.timestamp_ms, fact.key, value)


async def derive(
    config: Config,
    bars: Bars,
    instruments: Sequence[str],
    from_ms: int,
    until_ms: int,
    partitions: int,
    codec: Codec | None = None,
) -> AsyncIterator[list[DerivedRecord]]:
    """Yield all records derived from candles, in chunks, in chain order.

    Parameters
    ----------
    config
        The settings in force from the first candle on.
    bars
        (as_of_ms, candles), ascending, of one granularity.
    instruments
        The instruments of the bars: the universe.
    from_ms, until_ms
        Start of the first bar and end of the last.
    partitions
        Number of partitions of the keyed topics.
    """
    codec = codec or locked_codec()
    control = control_of(config, instruments, from_ms, until_ms)
    derivation = Derivation(make_chain(codec, control).stages)
    plan = FeedPlan(instruments, config.candle_gran, partitions)
    records = source_records(plan, bars, from_ms, control.end, codec)
    while True:
        waiting = list(itertools.islice(records, CHUNK))
        yield await derivation.feed(waiting)
        if len(waiting) < CHUNK:
            return
