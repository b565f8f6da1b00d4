"""Runs of the rolling backtest, read from ``bt.summaries`` and ``bt.trades``.

A run is an instrument under one set of parameters: ``run_id`` is ``<instrument>:<params_id>``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from streams.config.runtime import Runtime
from streams.kafka.partitioner import partition_of
from streams.kafka.reader import LogReader
from streams.monitoring.status import backwards
from streams.records.codec import Codec
from streams.records.events import Event, SimulatedTrade, Summary
from streams.records.topics import SUMMARIES, TRADES

MOST_READ = 200_000
"""Maximum number of records that one query reads, from the end of the log back."""


class RunId(NamedTuple):
    """Identifies a run."""

    instrument: str
    params_id: str

    @property
    def text(self) -> str:
        """The ``run_id``."""
        return f"{self.instrument}:{self.params_id}"

    @classmethod
    def of(cls, text: str) -> RunId:
        """Parse a ``run_id``."""
        instrument, _, params_id = text.partition(":")
        return cls(instrument, params_id)


class RunTrades(NamedTuple):
    """Trades of a run, newest first.

    Attributes
    ----------
    complete
        Whether these are all trades.
    """

    trades: list[SimulatedTrade]
    complete: bool


def last_trades(run: RunId, limit: int) -> Callable[[Runtime, Codec], RunTrades]:
    """Return the query for the last closed trades of a run."""

    def question(runtime: Runtime, codec: Codec) -> RunTrades:
        found: list[SimulatedTrade] = []
        ended = True
        for event in _newest(runtime, codec, TRADES, run.instrument):
            if event is None:
                ended = False
            elif isinstance(event, SimulatedTrade) and event.params_id == run.params_id:
                if len(found) == limit:
                    return RunTrades(found, False)
                found.append(event)
        return RunTrades(found, ended)

    return question


def last_evaluation(run: RunId) -> Callable[[Runtime, Codec], Summary | None]:
    """Return the query for the last evaluation of a run; its answer is None without one."""

    def question(runtime: Runtime, codec: Codec) -> Summary | None:
        for event in _newest(runtime, codec, SUMMARIES, run.instrument):
            if isinstance(event, Summary) and event.params_id == run.params_id:
                return event
        return None

    return question


def last_runs(instrument: str) -> Callable[[Runtime, Codec], list[Summary]]:
    """Return the query for the last evaluation of every run of an instrument, newest first."""

    def question(runtime: Runtime, codec: Codec) -> list[Summary]:
        found: dict[str, Summary] = {}
        for event in _newest(runtime, codec, SUMMARIES, instrument):
            if isinstance(event, Summary):
                found.setdefault(event.params_id, event)
        return list(found.values())

    return question


def _newest(runtime: Runtime, codec: Codec, topic: str, instrument: str) -> Iterator[Event | None]:
    """Yield an instrument's records, newest first; None at the end when there may be more."""
    read = 0
    with LogReader(runtime) as reader:
        partition = partition_of(instrument.encode(), len(reader.partitions(topic)))
        for chunk in backwards(reader, codec, topic, partition):
            for event in reversed(chunk):
                if getattr(event, "instrument", None) == instrument:
                    yield event
            read += len(chunk)
            if read >= MOST_READ:
                yield None
                return
