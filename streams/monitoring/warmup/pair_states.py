"""Reads the ``PairState`` of every instrument from the end of the log."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from streams.config.runtime import Runtime
from streams.kafka.decoding import event_of
from streams.kafka.partitioner import partition_of
from streams.kafka.reader import LogReader
from streams.monitoring.warmup.warm_state import PairState
from streams.records.codec import Codec
from streams.records.events import Candle, Event, GateDecision, Manifold
from streams.records.topics import CANDLES, GATES, MANIFOLDS

STRETCH = 2_000
FURTHEST = 400_000
AT_ONCE = 8

Found = tuple[Event, str]
"""An event, and the version of the engine that derived it."""


def pair_states(
    runtime: Runtime, codec: Codec, pairs: Sequence[str], granularity: str
) -> list[PairState]:
    """Return the state of each instrument in the log, in the given order.

    Raises
    ------
    Fatal, Recoverable
        A topic is missing; no broker answers.
    """
    states = {pair: PairState(pair) for pair in pairs}
    with LogReader(runtime) as reader:
        count = len(reader.partitions(CANDLES))
    homes: dict[int, set[str]] = {}
    for pair in pairs:
        homes.setdefault(partition_of(pair.encode(), count), set()).add(pair)

    def look(partition: int) -> None:
        with LogReader(runtime) as reader:
            _last_manifolds(reader, codec, partition, homes[partition], states)
            _candles(reader, codec, partition, homes[partition], states, granularity)

    # reading the end of a partition is mostly waiting
    with ThreadPoolExecutor(AT_ONCE) as threads:
        list(threads.map(look, sorted(homes)))
    with LogReader(runtime) as reader:
        _last_decisions(reader, codec, states)
    return [states[pair] for pair in pairs]


def _last_manifolds(
    reader: LogReader, codec: Codec, partition: int, here: set[str], states: dict[str, PairState]
) -> None:
    wanted = set(here)
    for event, engine in _backwards(reader, codec, MANIFOLDS, partition, lambda: not wanted):
        if isinstance(event, Manifold) and event.instrument in wanted:
            wanted.discard(event.instrument)
            states[event.instrument] = states[event.instrument]._replace(
                candles=event.count, manifold_ms=event.as_of_ms, engine=engine
            )


def _candles(
    reader: LogReader,
    codec: Codec,
    partition: int,
    here: set[str],
    states: dict[str, PairState],
    granularity: str,
) -> None:
    unfinished = set(here)
    without = {pair for pair in here if states[pair].manifold_ms is None}
    counted = dict.fromkeys(without, 0)
    # instruments without a manifold have few candles: all of them are counted
    enough: Callable[[], bool] = lambda: not unfinished and not without  # noqa: E731
    for event, _ in _backwards(reader, codec, CANDLES, partition, enough):
        if not isinstance(event, Candle) or event.granularity != granularity:
            continue
        name = event.instrument
        if name in unfinished:
            unfinished.discard(name)
            states[name] = states[name]._replace(candle_ms=event.as_of_ms)
        if name in counted:
            counted[name] += 1
    for name, number in counted.items():
        states[name] = states[name]._replace(candles=number)
    first = here - unfinished
    for batch in reader.read(CANDLES, partition):
        for found in batch:
            event_ = event_of(codec, found.record)
            if isinstance(event_, Candle) and event_.instrument in first:
                first.discard(event_.instrument)
                states[event_.instrument] = states[event_.instrument]._replace(
                    first_bar_ms=event_.bar_ms
                )
        if not first:
            return


def _last_decisions(reader: LogReader, codec: Codec, states: dict[str, PairState]) -> None:
    wanted = {pair for pair, state in states.items() if state.candle_ms is not None}
    for event, _ in _backwards(reader, codec, GATES, 0, lambda: not wanted):
        if isinstance(event, GateDecision) and event.instrument in wanted:
            wanted.discard(event.instrument)
            states[event.instrument] = states[event.instrument]._replace(decided_ms=event.as_of_ms)


def _backwards(
    reader: LogReader, codec: Codec, topic: str, partition: int, enough: Callable[[], bool]
) -> Iterator[Found]:
    """Yield the events of a partition, last one first, until done or the search limit."""
    low, high = reader.bounds(topic, partition)
    end, reach = high, STRETCH
    while end > low and high - end < FURTHEST and not enough():
        start = max(low, end - reach)
        chunk: list[Found] = []
        for batch in reader.read(topic, partition, start, end):
            for found in batch:
                event = event_of(codec, found.record)
                if event is not None:
                    chunk.append((event, found.headers.get("engine", "")))
        yield from reversed(chunk)
        end, reach = start, reach * 4
