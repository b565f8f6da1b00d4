"""``manifold worker``."""

from __future__ import annotations

import asyncio
import os
import time

import click

from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.process.sigterm import exit_on_sigterm


@click.command()
@click.option(
    "--worker-id",
    help="Set the stable name of this worker.  [env: WORKER_ID; default: the host name]",
)
@click.option(
    "--metrics-port",
    type=int,
    help="Set the port of /metrics and /healthz; 0 = no HTTP server.  [env: METRICS_PORT; "
    "default: 9108]",
)
def worker(worker_id: str | None, metrics_port: int | None) -> None:
    """Run the stages: candles to signals and manifolds, gates, weights.

    Every failure ends the process (exit code 70, with the reason on stderr), and the next start
    continues exactly where it stopped: run it under a supervisor that restarts it. On SIGTERM it
    finishes the current batch and exits with code 0. Start several with different ids to share the
    partitions.

    \b
    Examples:
      manifold worker
      manifold worker --worker-id worker-2 --metrics-port 9109
    """
    exit_on_sigterm()
    if worker_id:
        os.environ["WORKER_ID"] = worker_id
    if metrics_port is not None:
        os.environ["METRICS_PORT"] = str(metrics_port)
    run_worker(Runtime.from_env(), Config.from_env())


def run_worker(runtime: Runtime, config: Config) -> None:
    """Check the deployment, then run the Faust worker until it is stopped."""
    import uvloop

    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())

    from streams.cli.beginning import begin_process
    from streams.cli.lookback import warn_of_lookback
    from streams.core.loader import warm_up
    from streams.kafka.control_topic import seed_config
    from streams.kafka.topics_admin import require_topics
    from streams.monitoring.clock_check import warn_of_clock
    from streams.pipeline.chain import open_chain
    from streams.pipeline.worker.app import make_worker_app, run_app
    from streams.pipeline.worker.http import serve_metrics
    from streams.pipeline.worker.log_limit import quiet_logs
    from streams.pipeline.worker.metrics import WorkerMetrics
    from streams.process.child import require_port
    from streams.process.exit import exit_now
    from streams.process.gc_tuning import tune_gc
    from streams.process.open_files import out_of_files
    from streams.records.config_following import FollowedConfig

    # the client of its group does not recover from that, and a restart continues exactly
    begin_process(runtime, "worker", runtime.worker_id, without_files=exit_now)
    require_topics(runtime)
    warn_of_clock(runtime)
    followed = FollowedConfig(config)
    chain = asyncio.run(open_chain(runtime, followed.look))
    now_ms = int(time.time() * 1000)
    followed.look(seed_config(runtime, chain.codec, config, chain.control, now_ms))
    warn_of_lookback(followed.active)
    metrics = WorkerMetrics(followed, runtime.hotband_pairs)
    app = make_worker_app(runtime, chain.stages, metrics)
    if runtime.metrics_port:
        require_port(runtime.metrics_port, "METRICS_PORT")

        @app.task
        async def show_metrics() -> None:
            await serve_metrics(runtime, metrics)

    quiet_logs()
    warm_up()
    tune_gc()
    try:
        run_app(app, runtime.log_level)
    except Exception as error:  # an unavailable broker at the start can raise any exception type
        exit_now(f"the worker stopped: {out_of_files(error) or repr(error)}")
