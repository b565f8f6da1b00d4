"""A worker that counts records per key, through the product's safety; run as a program.

``CHAIN`` is the number of stages. ``FAULT`` says what goes wrong, as ``what:place:count``: at the
given pass through the place (``step``, ``produced``, ``offsets``, ``committed`` or ``fetched``)
the worker kills itself, freezes itself, raises, hangs in the call, or loses what was fetched.
``SEEK_PAUSE_S`` makes the seek of a restart slow.
``MARKS`` is a file that takes one line per notable event.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any

import faust

from streams.config.runtime import Runtime
from streams.pipeline.worker import runtime as safety
from streams.pipeline.worker.app import make_worker_app
from streams.pipeline.worker.consumer import ExactlyOnceConsumer, ExactlyOnceConsumerThread
from streams.pipeline.worker.log_limit import quiet_logs
from streams.records.log_record import Batch, Output, RowChanges, Rows, SourceRecord
from streams.records.topics import CANDLES, MANIFOLDS, SIGNALS, TRADES

TOPICS_OF_CHAIN = (CANDLES, SIGNALS, MANIFOLDS, TRADES)
STAGES = ("first", "second", "third")


def mark(what: str) -> None:
    """Write a line that survives a kill."""
    with open(os.environ["MARKS"], "ab", buffering=0) as file:
        file.write(f"{what}\n".encode())


class Fault:
    """What goes wrong, once, at the given pass through a place."""

    def __init__(self, text: str) -> None:
        what, place, count = (text or "nothing:nowhere:0").split(":")
        self.what, self.place, self.left = what, place, int(count)
        self._lock = threading.Lock()

    def due(self, place: str) -> bool:
        """Return whether it happens now."""
        if place != self.place:
            return False
        with self._lock:
            self.left -= 1
            return self.left == 0

    def __call__(self, place: str, producer: Any = None) -> None:
        """Pass the place; also the hook of the transactions."""
        if not self.due(place):
            return
        mark(f"{self.what} {place}")
        if producer is not None and place == "produced":
            producer.flush(10)  # the aborted records shall really lie in the log
        if self.what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.what == "freeze":
            os.kill(os.getpid(), signal.SIGSTOP)
            mark("awake")
        elif self.what == "hang":
            threading.Event().wait()
        elif self.what == "raise":
            raise ValueError("a bug in the step")


class CountingProcessor:
    """Counts the records of every key of a partition."""

    def __init__(self, target: str, rows: Rows, fault: Fault, delay_s: float) -> None:
        self._target, self._fault, self._delay_s = target, fault, delay_s
        self._counts = {key: int(row) for key, row in rows.items()}
        self._changed: RowChanges = {}

    def process(self, records: Sequence[SourceRecord]) -> Batch:
        """Return one output per record: its coordinates and the count of its key so far."""
        outputs = []
        for record in records:
            self._fault("step")
            key = record.key or b""
            count = self._counts[key] = self._counts.get(key, 0) + 1
            value = b"%d:%d:%d" % (record.partition, record.offset, count)
            source = (("source", record.coordinates.encode()),)
            outputs.append(
                Output(
                    self._target,
                    record.partition,
                    key,
                    value,
                    record.timestamp_ms,
                    source,
                    None,  # type: ignore[arg-type]
                )
            )
            self._changed[key] = b"%d" % count
        time.sleep(self._delay_s * len(records))
        return Batch(outputs)

    def changes(self) -> RowChanges:
        """Return the rows that changed since the last call."""
        changed, self._changed = self._changed, {}
        return changed


class CountingStage:
    """One link of the chain."""

    def __init__(self, number: int, fault: Fault, delay_s: float) -> None:
        self.name, self.source = STAGES[number], TOPICS_OF_CHAIN[number]
        self.outputs = (TOPICS_OF_CHAIN[number + 1],)
        self._fault, self._delay_s = fault, delay_s

    def open(self, partition: int, rows: Rows) -> CountingProcessor:
        """Return the processor of a partition."""
        mark(f"opened {self.name} {partition}")
        return CountingProcessor(self.outputs[0], rows, self._fault, self._delay_s)

    async def prepare_rows(self, rows: Rows) -> None:
        """Need nothing."""

    async def prepare(self, records: Sequence[SourceRecord], processor: Any) -> None:
        """Need nothing."""


class Witness:
    """Notes which partitions were positioned and dropped."""

    def processed(
        self,
        stage: str,
        partition: int,
        records: Sequence[SourceRecord],
        outputs: Sequence[Output],
        seconds: float,
    ) -> None:
        """Take no notice."""

    def position_reached(self, stage: str, partition: int, offset: int) -> None:
        """Take no notice."""

    def dropped(self, stage: str, partition: int) -> None:
        """Note that the partition went away."""
        mark(f"dropped {stage} {partition}")


def watch_takeovers() -> None:
    """Note every new producer and every restore."""
    make, restore = safety.new_producer, safety.restore_rows

    def new_producer(runtime: Runtime, stage: str, partition: int) -> Any:
        mark(f"producer {stage} {partition}")
        return make(runtime, stage, partition)

    def restore_rows(runtime: Runtime, changelog: str, partitions: Iterable[int]) -> Any:
        wanted = list(partitions)
        for partition in wanted:
            mark(f"restored {changelog} {partition}")
        return restore(runtime, changelog, wanted)

    safety.new_producer, safety.restore_rows = new_producer, restore_rows


def lose_what_was_fetched(fault: Fault) -> None:
    """Let the consumer lose a fetched batch on its way to the stage."""
    fetch = ExactlyOnceConsumerThread._fetch_records

    async def lossy(self: Any, *args: Any, **options: Any) -> Any:
        fetched = await fetch(self, *args, **options)
        for tp in list(fetched):
            if fault.due("fetched"):
                mark(f"lost {tp.topic} {tp.partition}")
                del fetched[tp]
        return fetched

    ExactlyOnceConsumerThread._fetch_records = lossy  # type: ignore[method-assign]


def pause_after_seek(consumer: Any) -> None:
    """Make a consumer slow to answer that it has sought the committed positions."""
    seek, pause_s = consumer.perform_seek, float(os.environ.get("SEEK_PAUSE_S", "0"))

    async def perform_seek(self: Any) -> None:
        await seek(self)
        await asyncio.sleep(pause_s)
        mark("sought")

    consumer.perform_seek = perform_seek


def main() -> None:
    """Run until told to stop."""
    pause_after_seek(ExactlyOnceConsumer)
    runtime = Runtime.from_env(os.environ)
    fault = Fault(os.environ.get("FAULT", ""))
    delay_s = float(os.environ.get("DELAY_S", "0"))
    if os.environ.get("DEADLINE_TIMEOUTS"):
        safety.DEADLINE_TIMEOUTS = int(os.environ["DEADLINE_TIMEOUTS"])
    if fault.place == "fetched":
        lose_what_was_fetched(fault)
    watch_takeovers()
    stages = tuple(CountingStage(n, fault, delay_s) for n in range(int(os.environ["CHAIN"])))
    app = make_worker_app(runtime, stages, Witness(), fault)
    quiet_logs()

    @app.on_rebalance_complete.connect(weak=False)
    async def ready(app: Any, **_: Any) -> None:
        mark("ready")

    faust.Worker(app, loglevel="WARNING", redirect_stdouts=False).execute_from_commandline()


if __name__ == "__main__":
    sys.exit(main())
