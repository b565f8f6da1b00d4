"""The whole chain on a real Kafka: one worker with all stages, from a full log to the last weights.

The broker, the worker and what watches them share the cores.
"""

from __future__ import annotations

import time

from streams.records.topics import SIGNALS, WEIGHTS
from tests.perf.bench_market import PAIRS, deployments, fill
from tests.perf.rows import Row, row
from tests.perf.topic_watch import TopicWatch, derived_records

BARS, TIMEOUT_S = 6_000, 300.0


def rows() -> list[Row]:
    """Measure and return the rows of the table."""
    with deployments() as (deploy, _):
        deployment = deploy("chain")
        fill(deployment, BARS)
        watch = TopicWatch(deployment.runtime, (SIGNALS, WEIGHTS))
        begun = time.monotonic()
        worker = deployment.start_worker()
        try:
            least = {SIGNALS: PAIRS * (BARS - 128), WEIGHTS: BARS}
            seen = watch.until_quiet(least, TIMEOUT_S, lambda: worker.child.running)
        except RuntimeError as error:
            raise RuntimeError(f"{error}: {deployment.last_output()}") from error
        worker.stop()
        _, epochs = derived_records(deployment.runtime, WEIGHTS, 0)
    if epochs != BARS:
        raise RuntimeError(f"{epochs:,} epochs have weights, {BARS:,} are right")
    candles = BARS * PAIRS
    first, last = seen[SIGNALS].first, seen[WEIGHTS].last
    note = f"{candles:,} candles of {PAIRS} instruments, all in the log before the worker starts"
    return [
        row(
            "chain.rate",
            "md.candles to risk.weights, three stages in one worker, exactly once",
            candles / (last - first),
            "candles/s",
            "all candles / (last weights - first signal), one run; no peer does the same work",
            note=note,
        ),
        row(
            "chain.catch_up",
            f"catch-up of {candles:,} candles to their last weights",
            last - begun,
            "s",
            "last weights - start of the worker's process, one run",
            note=note,
        ),
        row(
            "chain.first_signals",
            "worker start to first signals",
            first - begun,
            "s",
            "first signals - start of the worker's process, one run",
            note=note,
        ),
    ]


if __name__ == "__main__":
    for measured in rows():
        print(measured)
