"""Verification by several processes: each folds its share of the source partitions."""

from __future__ import annotations

import asyncio
import multiprocessing
from concurrent.futures import Future, ProcessPoolExecutor, as_completed

from streams.chain import open_chain
from streams.collector import settle_collector
from streams.replay.verify import Outcome, Progress, Report, Task, Verifier, add
from streams.settings import Runtime

_verifier: Verifier | None = None


def verify_in_processes(runtime: Runtime, processes: int, progress: Progress) -> Report:
    """Verify a deployment; the same report as that of one process.

    Parameters
    ----------
    processes
        How many work at once.
    progress
        Called with a topic and the number of records that a share of it had.

    Raises
    ------
    Fatal, Recoverable
        As for one process.
    """
    chain = asyncio.run(open_chain(runtime))
    planner = Verifier(runtime, chain)
    report, tasks = planner.plan(processes)
    # a fresh interpreter each: clients with threads do not survive a fork
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, _open, (runtime,)) as pool:
        running: dict[Future[Outcome], int] = {
            pool.submit(_compare, task): place for place, task in enumerate(tasks)
        }
        outcomes: dict[int, Outcome] = {}
        for done in as_completed(running):
            outcome = outcomes[running[done]] = done.result()
            for name, topic in outcome.topics.items():
                progress(name, topic.compared)
    for place in range(len(tasks)):
        add(report, outcomes[place])
    return report


def _open(runtime: Runtime) -> None:
    global _verifier
    chain = asyncio.run(open_chain(runtime))
    _verifier = Verifier(runtime, chain)
    settle_collector()


def _compare(task: Task) -> Outcome:
    assert _verifier is not None  # the pool has opened it
    return asyncio.run(_verifier.compare(task))
