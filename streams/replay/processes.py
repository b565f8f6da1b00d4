"""A range of ``md.candles`` as columns, by several processes, each with some of the partitions.

The processes send their output to this one, which sums it up and closes the epochs. Neither depends
on the order of arrival, so the result is the same for any number of processes.
"""

from __future__ import annotations

import asyncio
import multiprocessing
from collections import Counter
from collections.abc import Iterator, Sequence
from multiprocessing.queues import Queue
from queue import Empty
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.config.runtime import Runtime
from streams.errors import Fatal, Recoverable
from streams.kafka.ranges import Span
from streams.kafka.registry import open_codec
from streams.pipeline.columns import ColumnarReplay, Sink
from streams.pipeline.epochs import ClosedEpochs, Epochs
from streams.pipeline.gate_records import Scope
from streams.pipeline.instrument_fold import GateOutput
from streams.pipeline.not_waited_for import NotWaitedFor
from streams.pipeline.weights import Timeline
from streams.process.interrupts import hold_interrupts
from streams.records.control import ControlLog
from streams.records.events import Watermark
from streams.replay.log_columns import replay_log

AHEAD = 256
"""Maximum number of queued messages per process; then the process waits."""
DECISION_FIELDS = ["as_of_ms", "cooldown_until_ms", "score", "reasons", "has_signal"]


class Share(NamedTuple):
    """The share of one process."""

    runtime: Runtime
    control: ControlLog
    spans: tuple[Span, ...]
    instruments: tuple[str, ...]


class Count(NamedTuple):
    """Progress of a process since its last message."""

    offsets: int
    candles: int
    signals: int
    refused: Counter[str]


class _Sender:
    """Sink and epochs of a process: sends everything to the parent."""

    def __init__(self, queue: Queue[Any]) -> None:
        self._queue = queue
        self._timeline = Timeline([])
        self._not_waited_for = NotWaitedFor()

    def derived(self, scope: Scope, found: GateOutput) -> None:
        decisions = np.empty(
            len(found.decisions), [(n, found.decisions.dtype[n]) for n in DECISION_FIELDS]
        )
        for name in DECISION_FIELDS:
            decisions[name] = found.decisions[name]
        slim = found._replace(
            metrics=found.metrics[:0],
            evaluations=found.evaluations[-1:].copy(),
            decisions=decisions,
        )
        self._queue.put(("derived", (scope, slim)))

    def closed(self, epochs: ClosedEpochs) -> None:
        raise AssertionError("epochs are closed elsewhere")

    def on_watermark(self, watermark: Watermark) -> None:
        for name in watermark.not_waited_for:
            self._not_waited_for.add(name, watermark.as_of_ms, -1)
        since_ms = self._not_waited_for.effective_ms(watermark)
        if self._timeline.add(since_ms, watermark.control_offset) or watermark.not_waited_for:
            self._queue.put(("watermark", watermark))

    def add(self, instrument: str, decisions: NDArray[Any]) -> None:
        """Do nothing: decisions are sent with the derived output."""

    def close(self, upto_ms: int) -> list[ClosedEpochs]:
        self._queue.put(("reached", upto_ms))
        return []


def replay_log_in_processes(
    shares: Sequence[Share], control: ControlLog, sink: Sink
) -> Iterator[Count]:
    """Replay shares of a range in parallel.

    Yields
    ------
    Count
        Progress of a process since its last message.

    Raises
    ------
    Fatal, Recoverable
        As in one process; the other processes are then ended.
    """
    # spawned, not forked: clients with threads do not survive a fork
    context = multiprocessing.get_context("spawn")
    queues = [context.Queue(AHEAD) for _ in shares]
    children = [
        context.Process(target=_work, args=(share, queue), daemon=True)
        for share, queue in zip(shares, queues, strict=True)
    ]
    with hold_interrupts():
        for child in children:
            child.start()
    epochs = Epochs(control)
    reached = dict.fromkeys(range(len(shares)), -1)
    try:
        while reached:
            number = min(reached, key=lambda p: (reached[p], p))
            kind, content = _next(children[number], queues[number])
            if kind == "derived":
                scope, found = content
                epochs.add(scope.instrument, found.decisions)
                sink.derived(scope, found)
            elif kind == "watermark":
                epochs.on_watermark(content)
            elif kind == "count":
                yield content
            elif kind == "error":
                raise content
            else:
                reached[number] = content
                if kind == "done":
                    del reached[number]
                for closed in epochs.close(min(reached.values(), default=1 << 62)):
                    sink.closed(closed)
    finally:
        for child in children:
            child.terminate()
            child.join()


def _next(child: Any, queue: Queue[Any]) -> tuple[str, Any]:
    while True:
        try:
            found: tuple[str, Any] = queue.get(timeout=1.0)
            return found
        except Empty as error:
            if not child.is_alive() and queue.empty():
                said = f"a process of the replay ended with code {child.exitcode}"
                raise Recoverable(said) from error


def _work(share: Share, queue: Queue[Any]) -> None:
    sender = _Sender(queue)
    replay = ColumnarReplay(share.control, sender, sender)
    candles = signals = 0
    refused: Counter[str] = Counter()
    try:
        codec = asyncio.run(open_codec(share.runtime))
        for offsets in replay_log(
            share.runtime, codec, share.control, replay, share.spans, share.instruments
        ):
            more = replay.refused - refused
            done = Count(offsets, replay.candles - candles, replay.signals - signals, more)
            queue.put(("count", done))
            candles, signals, refused = replay.candles, replay.signals, replay.refused
    except (Fatal, Recoverable) as error:
        queue.put(("error", error))
    queue.put(("done", 1 << 62))
    queue.close()
    queue.join_thread()
