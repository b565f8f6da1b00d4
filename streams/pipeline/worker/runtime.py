"""Runs stages inside Faust: batches, transactions, rows, and rebalances."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from confluent_kafka import KafkaException, Producer, TopicPartition
from faust.types import TP

from streams.config.runtime import Runtime
from streams.errors import Fatal, Recoverable
from streams.kafka.errors import Denied
from streams.kafka.transactions import exit_for, new_producer
from streams.pipeline.stage import Processor, Stage
from streams.pipeline.worker.changelog import restore_rows
from streams.pipeline.worker.consumer import FetchedBatch
from streams.pipeline.worker.hanging_transactions import (
    abort_hanging_transactions,
    resolve_unstable_offsets,
)
from streams.pipeline.worker.resume import ResumePoint, resume_points
from streams.pipeline.worker.transaction import BatchTransaction, GroupState
from streams.process.exit import exit_now
from streams.records.log_record import Output, SourceRecord

MAX_BATCH = 1_000
COMMIT_PAUSE_S = 0.003
"""Pause after a transaction, seconds. The broker is still writing its markers then; a transaction
that begins immediately is refused and retried 20 ms later."""
IDLE_COMMIT_S = 0.25
"""How long processed records without outputs wait for more, seconds. A transaction for them alone
would only write the position, and the next output would wait for it."""
LINGER_S = 0.1
"""How long outputs wait for more while their bar is not complete, seconds. The candles of a bar
arrive almost at the same time; a transaction for each would delay the one that the next stage waits
for."""
QUEUED_EVENTS = 64
"""Maximum number of fetched batches in a stage's queue; each has many records."""
DEADLINE_TIMEOUTS = 2


class Observer(Protocol):
    """Receives the events of a stage, for metrics."""

    def processed(
        self,
        stage: str,
        partition: int,
        records: Sequence[SourceRecord],
        outputs: Sequence[Output],
        seconds: float,
    ) -> None:
        """Called after a committed batch."""
        ...

    def position_reached(self, stage: str, partition: int, offset: int) -> None:
        """Called with the new position of a stage."""
        ...

    def dropped(self, stage: str, partition: int) -> None:
        """Called when a partition was reassigned to another worker."""
        ...


class StagePartition:
    """A stage opened on a partition of this worker."""

    __slots__ = ("position", "processor", "producer", "start")

    def __init__(self, processor: Processor, producer: Producer, start: ResumePoint) -> None:
        self.processor, self.producer, self.start = processor, producer, start
        self.position = -1


class UnwrittenBatch:
    """Records that are processed but not committed; they are written in one transaction."""

    __slots__ = ("complete", "outputs", "records", "seconds", "since")

    def __init__(self) -> None:
        self.records: list[SourceRecord] = []
        self.outputs: list[Output] = []
        self.seconds = 0.0
        self.complete = False
        self.since = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether it is written immediately."""
        return (self.complete and bool(self.outputs)) or len(self.records) >= MAX_BATCH

    @property
    def due_in_s(self) -> float:
        """How long the batch may wait for more, seconds; negative: not at all."""
        return self.since + (LINGER_S if self.outputs else IDLE_COMMIT_S) - time.monotonic()


class StageRunner:
    """One stage in this worker: processes fetched batches, one transaction per partition at a
    time."""

    def __init__(self, safety: ExactlyOnceRuntime, stage: Stage, table: Any) -> None:
        self.safety, self.stage, self.table = safety, stage, table
        self.source = safety.runtime.topic(stage.source)
        self.changelog = safety.runtime.changelog(stage.name)
        self.partitions: dict[int, StagePartition] = {}
        self._queued: dict[int, list[Any]] = {}
        self._working: dict[int, asyncio.Future[None]] = {}
        self._arrived: dict[int, asyncio.Event] = {}
        self._room = asyncio.Semaphore(QUEUED_EVENTS)

    async def run(self, stream: Any) -> None:
        """Process the stream of fetched batches; the body of a Faust agent.

        Partitions do not wait for each other: records that arrive during a transaction are the next
        batch of their partition. A stop cancels the agent, never a batch in progress.
        """
        async for event in stream.noack().events():
            await self._room.acquire()
            partition = event.message.partition
            self._queued.setdefault(partition, []).append(event)
            if partition in self._arrived:
                self._arrived[partition].set()
            if partition not in self._working:
                self._working[partition] = asyncio.ensure_future(self._work(partition))

    async def idle(self) -> None:
        """Return when no batch is in progress."""
        while self._working:
            await asyncio.wait(self._working.values())

    async def _work(self, partition: int) -> None:
        batch = UnwrittenBatch()
        try:
            while events := self._queued.pop(partition, []):
                for records in self._records(partition, events):
                    await self._process(partition, records, batch)
                    if batch.due:
                        batch = await self._write(partition, batch)
                for event in events:
                    event.ack()
                    self._room.release()
                if batch.records and not await self._more(partition, batch):
                    batch = await self._write(partition, batch)
        except KafkaException as error:
            exit_for(self.stage.name, error.args[0])
        except Denied as error:
            exit_now(f"{self.stage.name}: {error}", error.exit_code)
        except (Fatal, Recoverable) as error:
            exit_now(f"{self.stage.name}: {error}")
        except Exception as error:
            exit_now(f"{self.stage.name}: {error!r}", stacks=True)
        finally:
            del self._working[partition]

    def _records(self, partition: int, events: list[Any]) -> Iterator[list[SourceRecord]]:
        records: list[SourceRecord] = []
        for event in events:
            batch: FetchedBatch = event.message.value
            # otherwise it was fetched before a seek and is fetched again
            if batch.seek == self.safety.seek_number:
                self._take(partition, batch, records)
        for start in range(0, len(records), MAX_BATCH):
            yield records[start : start + MAX_BATCH]

    def _take(self, partition: int, batch: FetchedBatch, taken: list[SourceRecord]) -> None:
        position = taken[-1].offset + 1 if taken else self.partitions[partition].position
        if batch.link != position:
            exit_now(
                f"{self.stage.name}: records of {self.source}-{partition} were lost between "
                f"broker and stage: processed up to {position}, the next batch begins after "
                f"{batch.link}"
            )
        taken.extend(
            SourceRecord(self.stage.source, partition, r.offset, r.timestamp, r.key, r.value)
            for r in batch.records
        )

    async def _process(
        self, partition: int, records: list[SourceRecord], batch: UnwrittenBatch
    ) -> None:
        started = time.perf_counter()
        owned = self.partitions[partition]
        await self.stage.prepare(records, owned.processor)
        derived = owned.processor.process(records)
        owned.position = records[-1].offset + 1
        batch.records += records
        batch.outputs += derived.outputs
        batch.complete = derived.complete
        batch.seconds += time.perf_counter() - started

    async def _more(self, partition: int, batch: UnwrittenBatch) -> bool:
        due_in_s = batch.due_in_s
        if due_in_s <= 0:
            return False
        arrived = self._arrived[partition] = asyncio.Event()
        try:
            if partition not in self._queued:
                await asyncio.wait_for(arrived.wait(), due_in_s)
            return True
        except TimeoutError:
            return False
        finally:
            del self._arrived[partition]

    async def _write(self, partition: int, batch: UnwrittenBatch) -> UnwrittenBatch:
        started = time.perf_counter()
        owned = self.partitions[partition]
        changes = owned.processor.changes()
        transaction = BatchTransaction(
            self.safety.runtime, self.safety.group, owned.producer, self.safety.hook
        )
        last = batch.records[-1]
        source = TopicPartition(self.source, partition, last.offset + 1)
        await self._before_the_deadline(
            self.safety.thread(
                transaction.write,
                batch.outputs,
                self.changelog,
                changes,
                source,
                last.timestamp_ms,
            )
        )
        owned.start = ResumePoint(source.offset, source.offset)
        rows = self.table.data.data
        for key, row in changes.items():
            if row is None:
                rows.pop((partition, key), None)
            else:
                rows[partition, key] = row
        seconds = batch.seconds + time.perf_counter() - started
        self.safety.tell(self.stage.name, partition, batch.records, batch.outputs, seconds)
        await asyncio.sleep(COMMIT_PAUSE_S)
        return UnwrittenBatch()

    async def _before_the_deadline(self, job: Awaitable[None]) -> None:
        deadline_s = DEADLINE_TIMEOUTS * self.safety.runtime.transaction_timeout_sec
        try:
            # after a quick restart of the broker a call of the producer may never return
            await asyncio.wait_for(job, deadline_s)
        except TimeoutError:
            exit_now(
                f"{self.stage.name}: a transaction did not end within {deadline_s:.0f} s",
                stacks=True,
            )


class ExactlyOnceRuntime:
    """The stages of one worker, and their handling of a rebalance.

    Parameters
    ----------
    runtime
        The deployment.
    observer
        Receives the events of the stages.
    hook
        Called with (point, producer) inside transactions; for tests.
    """

    def __init__(
        self,
        runtime: Runtime,
        observer: Observer | None = None,
        hook: Callable[[str, Producer], None] | None = None,
    ) -> None:
        self.runtime, self.observer, self.hook = runtime, observer, hook
        self.group = GroupState(runtime)
        self.seek_number: int | None = None
        self.runners: list[StageRunner] = []
        threads = 8 + 3 * runtime.topic_partitions
        self._pool = ThreadPoolExecutor(threads, "transaction")

    def add(self, stage: Stage, table: Any) -> StageRunner:
        """Register a stage with its table; return its runner."""
        self.runners.append(StageRunner(self, stage, table))
        return self.runners[-1]

    def thread(self, call: Callable[..., Any], *args: Any) -> Any:
        """Run a blocking call in the pool; return an awaitable."""
        return asyncio.get_running_loop().run_in_executor(self._pool, call, *args)

    async def pause(self) -> None:
        """Return when no batch is in flight; records fetched so far are not processed."""
        self.seek_number = None
        for runner in self.runners:
            await runner.idle()

    async def open(self, assignment: Iterable[TP]) -> None:
        """Take over the assigned partitions and drop all others.

        A partition that stays needs neither a new producer nor a restore: if another worker had it
        in the meantime, the producer is fenced and the next transaction ends this process.
        """
        await self.pause()
        assigned = list(assignment)
        try:
            await asyncio.gather(*(self._open_stage(r, assigned) for r in self.runners))
        except Denied as error:
            exit_now(str(error), error.exit_code)
        except (Fatal, Recoverable) as error:
            exit_now(str(error))

    async def _open_stage(self, runner: StageRunner, assignment: list[TP]) -> None:
        wanted = {tp.partition for tp in assignment if tp.topic == runner.source}
        for partition in set(runner.partitions) - wanted:
            del runner.partitions[partition]
            if self.observer is not None:
                self.observer.dropped(runner.stage.name, partition)
            rows = runner.table.data.data
            for key in [key for key in rows if key[0] == partition]:
                del rows[key]
        new = sorted(wanted - set(runner.partitions))
        if not new:
            return
        name = runner.stage.name
        producers = await asyncio.gather(
            *(self.thread(new_producer, self.runtime, name, partition) for partition in new)
        )
        # after fencing: no other process can change these rows and offsets
        deployment = self.runtime, self.group, runner.stage
        owned = dict(zip(new, producers, strict=True))
        await self.thread(abort_hanging_transactions, *deployment, owned)
        restored = await self.thread(restore_rows, self.runtime, runner.changelog, new)
        await self.thread(resolve_unstable_offsets, *deployment, owned, restored)
        begins = await self.thread(resume_points, *deployment, restored)
        for partition, producer in owned.items():
            rows = restored[partition].rows
            runner.table.data.data.update({(partition, k): row for k, row in rows.items()})
            await runner.stage.prepare_rows(rows)
            runner.partitions[partition] = StagePartition(
                runner.stage.open(partition, rows), producer, begins[partition]
            )

    async def positions(self, tps: Sequence[TP]) -> dict[TP, int]:
        """Return the offset to continue from in each partition: the committed offset of its stage.

        If the committed offset is unchanged since the partition was opened, the resume point
        determined then is used.
        """
        asked = [(tp.topic, tp.partition) for tp in tps]
        try:
            found = await self.thread(self.group.committed, asked) if asked else {}
        except Denied as error:
            exit_now(str(error), error.exit_code)
        except (Fatal, Recoverable) as error:
            exit_now(str(error))
        read_on: dict[TP, int] = {}
        for tp in tps:
            committed = found[tp.topic, tp.partition]
            start = self._start(tp)
            if committed is None or committed == start.committed:
                read_on[tp] = start.offset
            else:
                read_on[tp] = committed
        return read_on

    def _start(self, tp: TP) -> ResumePoint:
        return next(r.partitions[tp.partition].start for r in self.runners if r.source == tp.topic)

    def positioned(self, seek_number: int, offsets: Mapping[TP, int]) -> None:
        """Set the positions of a seek: only batches of this seek are processed from now on."""
        for runner in self.runners:
            for tp, offset in offsets.items():
                owned = runner.partitions.get(tp.partition) if tp.topic == runner.source else None
                if owned is None:
                    continue
                if owned.position not in (-1, offset):
                    exit_now(
                        f"{runner.stage.name}: {tp.topic}-{tp.partition} is committed at {offset}, "
                        f"this worker had processed up to {owned.position}: another worker had it"
                    )
                owned.position = offset
                if self.observer is not None:
                    self.observer.position_reached(runner.stage.name, tp.partition, offset)
        self.seek_number = seek_number

    def tell(
        self,
        stage: str,
        partition: int,
        records: Sequence[SourceRecord],
        outputs: Sequence[Output],
        seconds: float,
    ) -> None:
        """Pass a committed batch on to the observer."""
        if self.observer is not None:
            self.observer.processed(stage, partition, records, outputs, seconds)
            self.observer.position_reached(stage, partition, records[-1].offset + 1)
