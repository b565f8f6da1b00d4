"""Re-derive every derived topic from its input topic and compare the payload bytes.

The stages are the ones that run live; before them, the fast paths in ``verify.columns`` and
``verify.weights`` may confirm that everything is equal, many records at a time. Derived records are
expected for exactly the input that the stage has committed; of later records only the commit of
their source is checked (``verify.uncommitted``). The header ``source`` of a derived record tells
missing, duplicate and foreign records apart.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

from streams.config.runtime import Runtime
from streams.core import ENGINE_VERSION
from streams.kafka.committed import committed_offsets
from streams.kafka.control_topic import read_refused_watermarks
from streams.kafka.lag import remaining
from streams.kafka.reader import LogReader, LogRecord, log_record
from streams.pipeline.chain import Chain
from streams.pipeline.processor import LogStage
from streams.pipeline.weights import STAGE as WEIGHTS_STAGE
from streams.records.codec import DecodeError, EncodeError, schema_id_of
from streams.records.log_record import Output
from streams.records.topics import CANDLES, GATES, MANIFOLDS, SIGNALS, SUMMARIES, TRADES, WEIGHTS
from streams.replay.verify.columns import (
    PartitionCheck,
    Topics,
    compare_columns,
    coordinates_of,
    is_record,
    source_in,
)
from streams.replay.verify.derived_again import DerivedAgain
from streams.replay.verify.report import (
    LaterRecord,
    LaterRecords,
    Report,
    TaskResult,
    TopicReport,
    add,
)
from streams.replay.verify.rows import FastPathDeclined, PartitionColumns
from streams.replay.verify.uncommitted import name_uncommitted
from streams.replay.verify.weights import compare_weights

Progress = Callable[[str, int], None]
COLUMNAR = ("signals", "gates")
PARTITIONED = (SIGNALS, MANIFOLDS, TRADES, SUMMARIES)
MOST_PARTITIONS = 4


class Task(NamedTuple):
    """Source partitions of some stages to derive again and compare.

    Attributes
    ----------
    stages
        Names of the stages; ``signals`` and ``gates`` together can use the fast path over columns.
    sources
        The partitions.
    known
        All partitions of the source topics.
    done
        Stage -> partition -> position of the stage.
    """

    stages: tuple[str, ...]
    sources: tuple[int, ...]
    known: tuple[int, ...]
    done: dict[str, dict[int, int]]


class Verifier:
    """Compares the derived topics of one deployment with the output re-derived from its input.

    Parameters
    ----------
    runtime
        The deployment.
    chain
        Its stages and schemas, and ``ops.control`` read to its end.
    progress
        Called with a topic and the number of records compared since the last call.
    """

    def __init__(
        self,
        runtime: Runtime,
        chain: Chain,
        progress: Progress = lambda topic, count: None,
    ) -> None:
        self._runtime, self._codec, self._control = runtime, chain.codec, chain.control
        self._stages = {stage.name: stage for stage in chain.stages}
        self._progress = progress
        read_refused_watermarks(runtime, chain.codec, chain.control)

    def run(self) -> Report:
        """Verify every stage in this process; a topic is compared up to its first difference."""
        report, tasks = self.plan(1)
        later = LaterRecords()
        for task in tasks:
            add(report, self.compare(task), later)
        return name_uncommitted(self._runtime, report, later)

    def plan(self, parts: int) -> tuple[Report, list[Task]]:
        """Return an empty report and the tasks, for ``parts`` concurrent workers.

        Long and indivisible tasks come first.
        """
        report, tasks = Report(), []
        partitions: dict[str, list[int]] = {}
        done: dict[str, dict[int, int]] = {}
        with LogReader(self._runtime) as reader:
            for stage in self._stages.values():
                report.topics |= {topic: TopicReport(topic) for topic in stage.outputs}
                numbers = partitions[stage.name] = reader.partitions(stage.source)
                actual = reader.all_bounds(stage.source, numbers)
                done[stage.name] = committed_offsets(self._runtime, stage.source, numbers)
                left = {
                    (stage.source, p): (done[stage.name].get(p, 0), end)
                    for p, (_, end) in actual.items()
                }
                report.unprocessed[stage.name] = sum(remaining(reader, left).values())
                report.inputs[stage.source] = 0
        for names in _together(partitions):
            numbers = partitions[names[0]]
            # more shares than processes, so that all end at about the same time; and small, because
            # every topic of every partition has a client that reads ahead
            least = -(-len(numbers) // MOST_PARTITIONS)
            count = min(max(least, 2 * parts if parts > 1 else 1), len(numbers))
            for part in range(count):
                tasks.append(Task(names, tuple(numbers[part::count]), tuple(numbers), done))
        # the least divisible tasks come first
        return report, sorted(tasks, key=lambda task: -len(task.sources) / len(task.known))

    def compare(self, task: Task) -> TaskResult:
        """Derive the task's source partitions again; compare with the log.

        Must not be called inside an event loop, because decoding may query the registry.
        """
        in_bulk = {COLUMNAR: self._compare_columns, (WEIGHTS_STAGE,): self._compare_weights}
        if task.stages in in_bulk:
            try:
                return in_bulk[task.stages](task)
            except FastPathDeclined:
                pass  # the stages determine the difference
        return asyncio.run(self._compare_stages(task))

    async def _compare_stages(self, task: Task) -> TaskResult:
        outcome = TaskResult({}, {}, LaterRecords())
        for name in task.stages:
            read = await self._compare_stage(self._stages[name], task, outcome)
            outcome.read.update(read)
        return outcome

    def _compare_columns(self, task: Task) -> TaskResult:
        runtime, signals_done, gates_done = self._runtime, *(task.done[n] for n in COLUMNAR)
        with ExitStack() as clients:
            asked = clients.enter_context(LogReader(runtime))
            cluster_id = asked.cluster_id
            ends = {t: asked.all_bounds(t, list(task.sources)) for t in (CANDLES, *PARTITIONED)}
            gates = asked.bounds(GATES, 0)

            def reader() -> LogReader:
                return clients.enter_context(LogReader(runtime, cluster_id))

            decisions = reader().read_messages(GATES, 0, *gates)
            checks = {}
            for p in task.sources:
                low, high = ends[CANDLES][p]
                end = min(high, signals_done.get(p, 0))
                topics = Topics(
                    reader().read_values(CANDLES, p, low, end),
                    {t: reader().read_messages(t, p, *ends[t][p]) for t in PARTITIONED},
                )
                columns = PartitionColumns(p, self._codec, self._control)
                reached = signals_done.get(p, 0), gates_done.get(p, 0)
                checks[p] = PartitionCheck(columns, p, topics, *reached)
            compared = compare_columns(checks, task.known, decisions, self._progress)
        actual = {name: TopicReport(name, count) for name, count in compared.items()}
        read = sum((Counter(check.read) for check in checks.values()), Counter[str]())
        later = LaterRecords()
        for check in checks.values():
            later.add(check.later)
        return TaskResult(actual, dict.fromkeys((CANDLES, MANIFOLDS), 0) | read, later)

    def _compare_weights(self, task: Task) -> TaskResult:
        done, later = task.done[WEIGHTS_STAGE].get(0, 0), LaterRecords()
        with LogReader(self._runtime) as gates, LogReader(self._runtime) as weights:
            low, high = gates.bounds(GATES, 0)
            decisions = gates.read_messages(GATES, 0, low, min(high, done))
            actual = weights.read_messages(WEIGHTS, 0, *weights.bounds(WEIGHTS, 0))
            compared, read = compare_weights(
                *(self._codec, self._control, decisions, actual, done, self._progress, later)
            )
        return TaskResult({WEIGHTS: TopicReport(WEIGHTS, compared)}, {GATES: read}, later)

    async def _compare_stage(
        self, stage: LogStage, task: Task, outcome: TaskResult
    ) -> dict[str, int]:
        done, later = task.done[stage.name], outcome.later
        topics = {topic: TopicReport(topic) for topic in stage.outputs}
        outcome.topics.update(topics)
        with LogReader(self._runtime) as reader:
            funnels = {t: len(reader.partitions(t)) < len(task.known) for t in topics}
            targets = [
                (topic, target)
                for topic, one in funnels.items()
                for target in ((0,) if one else task.sources)
            ]
            inputs = reader.all_bounds(stage.source, list(task.sources))
            spans = {at: reader.bounds(*at) for at in targets}
            cluster_id = reader.cluster_id
        readers = [LogReader(self._runtime, cluster_id) for _ in (*task.sources, *targets)]
        expected = {}
        for p, own in zip(task.sources, readers, strict=False):
            low, high = inputs[p]
            batches = own.read_values(stage.source, p, low, min(high, done.get(p, 0)))
            expected[p] = DerivedAgain(stage, stage.open(p, {}), batches)
        try:
            # alternate between topics: expected records stay in memory until they are compared
            walks = [
                self._walk(
                    *(topics[topic], expected, own.read_messages(topic, target, *span)),
                    *(task, done, later),
                )
                for ((topic, target), span), own in zip(
                    spans.items(), readers[len(task.sources) :], strict=True
                )
            ]
            while walks:
                # Ctrl-C cancels a task only where it waits, and nothing else here waits
                await asyncio.sleep(0)
                walks = [walk for walk in walks if await anext(walk, None) is not None]
            for topic in topics.values():
                await self._missing_at_end(topic, expected, done)
            return {stage.source: sum(each.read for each in expected.values())}
        finally:
            for reader in readers:
                reader.close()

    async def _missing_at_end(
        self, outcome: TopicReport, expected: dict[int, DerivedAgain], done: dict[int, int]
    ) -> None:
        for partition, again in expected.items():
            missing = await again.next(outcome.topic) if outcome.same else None
            if missing is not None:
                outcome.difference = (
                    f"{outcome.topic}: hole: {_name(missing)} from {_source(missing)} is missing, "
                    f"although the input is processed up to {done.get(partition, 0)}"
                )

    async def _walk(
        self,
        outcome: TopicReport,
        expected: dict[int, DerivedAgain],
        batches: Iterator[list[Any]],
        task: Task,
        done: Mapping[int, int],
        later: LaterRecords,
    ) -> AsyncIterator[int]:
        near: deque[Output] = deque()
        for batch in batches:
            if not outcome.same:
                return
            for message in batch:
                # nearly every record is the next one of the same partition as the previous record
                if near and is_record(message, near[0]):
                    near.popleft()
                    outcome.compared += 1
                    continue
                partition = await self._compare_one(
                    *(outcome, expected, message, task, done, later)
                )
                if outcome.difference:
                    return
                if partition in expected:
                    near = expected[partition].queue(outcome.topic)
            self._progress(outcome.topic, len(batch))
            yield len(batch)

    async def _compare_one(
        self,
        outcome: TopicReport,
        expected: dict[int, DerivedAgain],
        message: Any,
        task: Task,
        done: Mapping[int, int],
        later: LaterRecords,
    ) -> int:
        partition, offset = source_in(message)
        if partition in task.known and partition not in expected:
            return partition  # belongs to another task
        actual = log_record(outcome.topic, message)
        if partition not in expected:
            outcome.difference = (
                f"{_at(actual)}: its header source is "
                f"{actual.headers.get('source', '(missing)')!r}: not derived by this stage"
            )
        elif offset < done.get(partition, 0):
            expected_record = await expected[partition].next(outcome.topic)
            outcome.difference = self._difference(outcome, actual, expected_record)
            outcome.compared += outcome.same
        else:
            later.note(outcome.topic, partition, LaterRecord(_at(actual), offset))
        return partition

    def _difference(
        self, outcome: TopicReport, actual: LogRecord, expected: Output | None
    ) -> str | None:
        if expected is None:
            return f"{_at(actual)}: repeat: nothing more is derived from {actual.headers['source']}"
        if actual.headers["source"] != _source(expected):
            kind = "hole" if _later(actual.headers["source"], _source(expected)) else "repeat"
            return (
                f"{_at(actual)}: {kind}: derived from {actual.headers['source']}, "
                f"expected {_name(expected)} from {_source(expected)}"
            )
        if actual.headers.get("engine") != ENGINE_VERSION:
            outcome.other_engine += 1
            return None
        record = actual.record
        same = (
            record.value is not None
            and self._payload(expected, record.value) == record.value
            and (record.key or b"") == expected.key
            and record.timestamp_ms == expected.timestamp_ms
            and actual.headers == {k: v.decode() for k, v in expected.headers}
        )
        return None if same else f"{_at(actual)}: differs: {self._fields(actual, expected)}"

    def _payload(self, expected: Output, recorded: bytes) -> bytes:
        """Encode the expected event with the schema id of the record found."""
        if recorded[:5] == expected.value[:5]:
            return expected.value
        try:
            return self._codec.encode_with_id(schema_id_of(recorded), expected.event)
        except (DecodeError, EncodeError):
            return expected.value

    def _fields(self, actual: LogRecord, expected: Output) -> str:
        texts = []
        record = actual.record
        if (record.key or b"") != expected.key:
            texts.append(f"key {record.key!r} is not {expected.key!r}")
        if record.timestamp_ms != expected.timestamp_ms:
            texts.append(f"timestamp {record.timestamp_ms} is not {expected.timestamp_ms}")
        for name, value in expected.headers:
            if actual.headers.get(name) != value.decode():
                texts.append(
                    f"header {name} {actual.headers.get(name)!r} is not {value.decode()!r}"
                )
        for name in sorted(actual.headers.keys() - dict(expected.headers).keys()):
            texts.append(f"header {name} {actual.headers[name]!r} is not expected")
        try:
            event: Any = self._codec.decode(expected.topic, record.value or b"")
        except DecodeError as error:
            return "; ".join([*texts, f"value cannot be read ({error.reason}: {error.detail})"])
        if type(event) is not type(expected.event):
            texts.append(f"a {type(event).__name__}, expected a {type(expected.event).__name__}")
        else:
            pairs = zip(event._fields, event, expected.event, strict=True)
            texts += [f"{n} {a!r} is not {b!r}" for n, a, b in pairs if a != b]
        return "; ".join(texts) or "same fields, other bytes"


def _together(partitions: Mapping[str, Sequence[int]]) -> list[tuple[str, ...]]:
    """Return the groups of stages that one task compares together."""
    if set(COLUMNAR) <= set(partitions):
        return [COLUMNAR, *((name,) for name in partitions if name not in COLUMNAR)]
    return [(name,) for name in partitions]


def _later(one: str, other: str) -> bool:
    return coordinates_of(one.encode())[1] > coordinates_of(other.encode())[1]


def _source(output: Output) -> str:
    return dict(output.headers)["source"].decode()


def _name(output: Output) -> str:
    return f"a {type(output.event).__name__} of {output.key.decode('utf-8', 'replace')}"


def _at(actual: LogRecord) -> str:
    return f"{actual.record.topic}-{actual.record.partition}-{actual.record.offset}"
