"""``/metrics`` and ``/healthz`` of a worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from aiohttp import web
from prometheus_client import generate_latest

from streams.config.runtime import Runtime
from streams.errors import Fatal, Recoverable
from streams.kafka.reader import LogReader, remaining
from streams.pipeline.worker.metrics import WorkerMetrics
from streams.process.metrics import METRICS_TYPE
from streams.records.topics import STAGE_SOURCES

LAG_EVERY_S = 5.0
STUCK_AFTER_S = 30.0


class LagWatch:
    """Asks the broker how far the sources reach; knows which stage stands still with work to do.

    Parameters
    ----------
    runtime, metrics
        The deployment; where positions come from and lag goes to.
    clock
        Monotonic seconds.
    """

    def __init__(
        self,
        runtime: Runtime,
        metrics: WorkerMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runtime, self._metrics, self._clock = runtime, metrics, clock
        self._seen: dict[tuple[str, int], tuple[int, float]] = {}
        self._lags: dict[tuple[str, int], int] = {}
        self._asked_at: float | None = None
        self._trouble: str | None = None

    async def run(self) -> None:
        """Refresh the lag for as long as the worker lives."""
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
            for (stage, partition), position in sorted(self._metrics.positions().items()):
                end = reader.bounds(STAGE_SOURCES[stage], partition)[1]
                lag = remaining(reader, STAGE_SOURCES[stage], {partition: (position, end)})
                self._metrics.lag.labels(stage, str(partition)).set(lag)
                self._note(stage, partition, position, lag)
        self._asked_at = self._clock()

    def _note(self, stage: str, partition: int, position: int, lag: int) -> None:
        now, before = self._clock(), self._seen.get((stage, partition))
        if before is None or before[0] != position or not lag:
            self._seen[stage, partition] = (position, now)
        self._lags[stage, partition] = lag

    def stuck(self) -> dict[str, str]:
        """Return the stages that have work and do none, with what is known of them."""
        now, found = self._clock(), {}
        owned = self._metrics.positions()
        for (stage, partition), (position, since) in sorted(self._seen.items()):
            if (stage, partition) in owned and now - since > STUCK_AFTER_S:
                found[stage] = (
                    f"partition {partition} stands at offset {position} for {now - since:.0f} s, "
                    f"{self._lags.get((stage, partition), 0)} offsets behind"
                )
        if self._trouble:
            found["broker"] = self._trouble
        return found


def make_web(metrics: WorkerMetrics, watch: LagWatch) -> web.Application:
    """Return the web application with the two addresses."""

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


async def serve(runtime: Runtime, metrics: WorkerMetrics) -> None:
    """Serve until cancelled.

    Raises
    ------
    Fatal
        The port is in use.
    """
    watch = LagWatch(runtime, metrics)
    runner = web.AppRunner(make_web(metrics, watch), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, runtime.metrics_host, runtime.metrics_port).start()
    except OSError as error:
        await runner.cleanup()
        raise Fatal(
            f"METRICS_PORT={runtime.metrics_port} cannot be used on {runtime.metrics_host} "
            f"({error.strerror}); choose another, or 0 for none"
        ) from error
    try:
        await watch.run()
    finally:
        await runner.cleanup()
