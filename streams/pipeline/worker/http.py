"""``/metrics`` and ``/healthz`` of a worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from aiohttp import web
from prometheus_client import generate_latest

from streams.config.runtime import Runtime
from streams.config.status_ports import status_access
from streams.errors import Fatal, Recoverable
from streams.kafka.lag import StallDetector, remaining
from streams.kafka.reader import LogReader
from streams.pipeline.worker.metrics import WorkerMetrics
from streams.process.metrics import METRICS_TYPE
from streams.process.status_access import open_status_port
from streams.records.topics import STAGE_SOURCES

LAG_EVERY_S = 5.0
STUCK_AFTER_S = 30.0

StagePartitionKey = tuple[str, int]
"""A stage and a partition of its source."""


class LagWatch:
    """Reads the ends of the source topics; detects stages that make no progress despite lag.

    Parameters
    ----------
    runtime, metrics
        The deployment; source of the positions and target of the lag.
    clock
        Monotonic seconds.
    """

    def __init__(
        self,
        runtime: Runtime,
        metrics: WorkerMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runtime, self._metrics = runtime, metrics
        self._stalls = StallDetector[StagePartitionKey](clock)
        self._lags: dict[StagePartitionKey, int] = {}
        self._trouble: str | None = None

    async def run(self) -> None:
        """Refresh the lag while the worker runs."""
        while True:
            try:
                await asyncio.to_thread(self.refresh)
                self._trouble = None
            except (Fatal, Recoverable) as error:
                self._trouble = str(error)
            await asyncio.sleep(LAG_EVERY_S)

    def refresh(self) -> None:
        """Ask once."""
        with LogReader(self._runtime) as reader:
            for stage, partition in sorted(owned := self._metrics.positions()):
                position, topic = owned[stage, partition], STAGE_SOURCES[stage]
                end = reader.bounds(topic, partition)[1]
                (lag,) = remaining(reader, {(topic, partition): (position, end)}).values()
                self._metrics.lag.labels(stage, str(partition)).set(lag)
                self._stalls.note((stage, partition), position, lag)
                self._lags[stage, partition] = lag

    def stuck(self) -> dict[str, str]:
        """Return the stalled stages, with a description of each."""
        found = {}
        for stage, partition in sorted(self._lags.keys() & self._metrics.positions().keys()):
            position, stalled_s = self._stalls.of((stage, partition))
            if stalled_s > STUCK_AFTER_S:
                found[stage] = (
                    f"partition {partition} is stalled at offset {position} for {stalled_s:.0f} s, "
                    f"{self._lags[stage, partition]} offsets behind"
                )
        if self._trouble:
            found["broker"] = self._trouble
        return found


def make_worker_web(metrics: WorkerMetrics, watch: LagWatch) -> web.Application:
    """Return the web application with ``/metrics`` and ``/healthz``."""

    async def show_metrics(_: web.Request) -> web.Response:
        body = generate_latest(metrics.registry)
        return web.Response(body=body, headers={"Content-Type": METRICS_TYPE})

    async def show_health(_: web.Request) -> web.Response:
        stuck = watch.stuck()
        partitions: dict[str, int] = {}
        for stage, _partition in metrics.positions():
            partitions[stage] = partitions.get(stage, 0) + 1
        content = {"healthy": not stuck, "stuck": stuck, "partitions": partitions}
        return web.json_response(content, status=503 if stuck else 200)

    application = web.Application()
    application.router.add_get("/metrics", show_metrics)
    application.router.add_get("/healthz", show_health)
    return application


async def serve_metrics(runtime: Runtime, metrics: WorkerMetrics) -> None:
    """Serve until cancelled.

    Raises
    ------
    Fatal
        The port is in use.
    """
    watch = LagWatch(runtime, metrics)
    access = status_access(runtime.metrics_host)
    port = runtime.metrics_port
    runner = await open_status_port(make_worker_web(metrics, watch), access, port, "METRICS_PORT")
    try:
        await watch.run()
    finally:
        await runner.cleanup()
