"""``manifold worker``."""

from __future__ import annotations

import asyncio
import os
import time

import click

from streams.cli.stopping import stop_when_told
from streams.settings import Config, Runtime


@click.command()
@click.option("--worker-id", help="Stable name of this worker.  [env: WORKER_ID]")
@click.option("--metrics-port", type=int, help="Port of /metrics and /healthz; 0 = off.")
def worker(worker_id: str | None, metrics_port: int | None) -> None:
    """Run the stages: candles to signals and manifolds, gates, weights.

    Every failure ends the process (exit code 70, with the reason on stderr) and the next start goes
    on exactly where it stopped: run it under a supervisor that restarts it. SIGTERM ends the batch
    in hand and leaves with code 0. Start several with different ids to share the partitions.

    \b
    Examples:
      manifold worker
      manifold worker --worker-id worker-2 --metrics-port 9109
    """
    stop_when_told()
    if worker_id:
        os.environ["WORKER_ID"] = worker_id
    if metrics_port is not None:
        os.environ["METRICS_PORT"] = str(metrics_port)
    run(Runtime.from_env(), Config.from_env())


def run(runtime: Runtime, config: Config) -> None:
    """Check the deployment, then run the Faust worker until it is told to stop."""
    import uvloop

    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())

    import faust

    from streams.admin import require_topics
    from streams.app import make_app
    from streams.chain import open_chain
    from streams.cli.lookback import warn_of_lookback
    from streams.clocks.check import warn_of_clock
    from streams.collector import settle_collector
    from streams.config_following import FollowedConfig
    from streams.control_log import seed_config
    from streams.engine.loader import warm_up
    from streams.health import serve
    from streams.metrics import WorkerMetrics
    from streams.safety.leaving import leave
    from streams.safety.logs import quiet_logs
    from streams.stack.child import require_port

    require_topics(runtime)
    warn_of_clock(runtime)
    followed = FollowedConfig(config)
    chain = asyncio.run(open_chain(runtime, followed.look))
    now_ms = int(time.time() * 1000)
    followed.look(seed_config(runtime, chain.codec, config, chain.control, now_ms))
    warn_of_lookback(followed.active)
    metrics = WorkerMetrics(followed, runtime.hotband_pairs)
    app = make_app(runtime, chain.stages, metrics)
    if runtime.metrics_port:
        require_port(runtime.metrics_port, "METRICS_PORT")

        @app.task
        async def show_metrics() -> None:
            await serve(runtime, metrics)

    quiet_logs()
    warm_up()
    settle_collector()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        faust.Worker(
            app, loglevel=runtime.log_level, loop=loop, redirect_stdouts=False
        ).execute_from_commandline()
    except Exception as error:  # a broker that is away at the start comes here as anything
        leave(f"the worker stopped: {error!r}")
