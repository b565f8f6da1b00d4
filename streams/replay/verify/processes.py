"""Verification by several processes, each with a share of the source partitions."""

from __future__ import annotations

import asyncio
import multiprocessing
from concurrent.futures import Future, ProcessPoolExecutor, as_completed

from streams.config.runtime import Runtime
from streams.core.loader import core
from streams.pipeline.chain import Chain, open_chain
from streams.process.children import kill_children_on_error
from streams.process.gc_tuning import tune_gc
from streams.process.interrupts import hold_interrupts
from streams.replay.verify.report import LaterRecords, Report, TaskResult, add
from streams.replay.verify.uncommitted import name_uncommitted
from streams.replay.verify.verify import Progress, Task, Verifier

_verifier: Verifier | None = None


def verify_in_processes(
    runtime: Runtime, chain: Chain, processes: int, progress: Progress
) -> Report:
    """Verify a deployment; the report equals that of one process.

    Parameters
    ----------
    chain
        Its stages and schemas; every process opens its own.
    processes
        Number of processes.
    progress
        Called with a topic and the number of records compared since the last call.

    Raises
    ------
    Fatal, Recoverable
        As for one process.
    """
    # spawned, not forked: clients with threads do not survive a fork
    context = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(processes, context, _open, (runtime,)) as pool,
        kill_children_on_error(),
    ):
        with hold_interrupts():
            for _ in range(processes):
                pool.submit(_load)  # the processes start while this one plans
        report, tasks = Verifier(runtime, chain).plan(processes)
        running: dict[Future[TaskResult], int] = {
            pool.submit(_compare, task): place for place, task in enumerate(tasks)
        }
        outcomes: dict[int, TaskResult] = {}
        for done in as_completed(running):
            outcome = outcomes[running[done]] = done.result()
            for name, topic in outcome.topics.items():
                progress(name, topic.compared)
    later = LaterRecords()
    for place in range(len(tasks)):
        add(report, outcomes[place], later)
    return name_uncommitted(runtime, report, later)


def _open(runtime: Runtime) -> None:
    global _verifier
    chain = asyncio.run(open_chain(runtime))
    _verifier = Verifier(runtime, chain)
    tune_gc()


def _load() -> None:
    core()


def _compare(task: Task) -> TaskResult:
    assert _verifier is not None  # the pool initialiser has opened it
    return _verifier.compare(task)
