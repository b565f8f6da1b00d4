"""A worker of the stage ``signals`` alone, for the benchmark next to a plain Faust agent.

python -m tests.perf.signals_worker
"""

from __future__ import annotations

import asyncio
import time

import faust
import uvloop

from streams.app import make_app
from streams.chain import open_chain
from streams.collector import settle_collector
from streams.control_log import seed_config
from streams.engine.loader import warm_up
from streams.metrics import WorkerMetrics
from streams.safety.logs import quiet_logs
from streams.settings import Config, Runtime


def main() -> None:
    """Run the stage until the process is stopped; set up as ``manifold worker`` is."""
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    runtime = Runtime.from_env()
    chain = asyncio.run(open_chain(runtime))
    seed_config(runtime, chain.codec, Config.from_env(), chain.control, int(time.time() * 1000))
    app = make_app(runtime, chain.stages[:1], WorkerMetrics())
    quiet_logs()
    warm_up()
    settle_collector()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    faust.Worker(app, loglevel="INFO", loop=loop, redirect_stdouts=False).execute_from_commandline()


if __name__ == "__main__":
    main()
