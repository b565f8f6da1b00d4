"""A worker of the stage ``signals`` alone, for the benchmark next to a plain Faust agent.

python -m tests.perf.signals_worker
"""

from __future__ import annotations

import asyncio
import time

import faust
import uvloop

from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.core.loader import warm_up
from streams.kafka.control_topic import seed_config
from streams.pipeline.chain import open_chain
from streams.pipeline.worker.app import make_worker_app
from streams.pipeline.worker.log_limit import quiet_logs
from streams.pipeline.worker.metrics import WorkerMetrics
from streams.process.gc_tuning import tune_gc


def main() -> None:
    """Run the stage until the process is stopped; set up as ``manifold worker`` is."""
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    runtime = Runtime.from_env()
    chain = asyncio.run(open_chain(runtime))
    seed_config(runtime, chain.codec, Config.from_env(), chain.control, int(time.time() * 1000))
    app = make_worker_app(runtime, chain.stages[:1], WorkerMetrics())
    quiet_logs()
    warm_up()
    tune_gc()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    faust.Worker(app, loglevel="INFO", loop=loop, redirect_stdouts=False).execute_from_commandline()


if __name__ == "__main__":
    main()
