"""The Faust application of a worker: creates agents and tables from settings and stages."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import faust
import faust.transport.drivers as drivers

from streams.config.runtime import Runtime
from streams.kafka.client import kafka_tls
from streams.pipeline.stage import Stage
from streams.pipeline.worker.consumer import BatchSchema
from streams.pipeline.worker.runtime import ExactlyOnceRuntime, Observer
from streams.pipeline.worker.versions import require_versions
from streams.records.topics import STAGE_SOURCES, TOPICS

STREAM_BUFFER = 32


class ManifoldApp(faust.App):
    """A Faust app whose stages write, commit and restore through ``streams.pipeline.worker``.

    Attributes
    ----------
    group_topics
        Topic -> number of partitions, for all topics that the group assigns.
    """

    safety: ExactlyOnceRuntime
    group_topics: dict[str, int]

    async def on_stop(self) -> None:
        """Finish the current batches, then stop."""
        await self.safety.pause()
        await super().on_stop()


def make_worker_app(
    runtime: Runtime,
    stages: tuple[Stage, ...],
    observer: Observer | None = None,
    hook: Any = None,
) -> ManifoldApp:
    """Return the application with one agent and one table per stage.

    Raises
    ------
    Fatal
        Another version of Faust or aiokafka is installed.
    """
    require_versions()
    drivers.TRANSPORTS.aliases["kafka"] = "streams.pipeline.worker.consumer:Transport"
    broker, credentials = faust_broker(runtime)
    app = ManifoldApp(
        runtime.application,
        broker=broker,
        broker_credentials=credentials,
        store="memory://",
        TableManager="streams.pipeline.worker.rebalance:ExactlyOnceTableManager",
        topic_partitions=runtime.topic_partitions,
        topic_replication_factor=runtime.topic_replication_factor,
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        consumer_group_instance_id=runtime.worker_id,
        consumer_auto_offset_reset="earliest",
        broker_session_timeout=runtime.session_timeout_sec,
        broker_heartbeat_interval=min(1.5, runtime.session_timeout_sec / 4),
        broker_rebalance_timeout=runtime.session_timeout_sec,
        broker_request_timeout=90.0,
        stream_buffer_maxsize=STREAM_BUFFER,
        stream_wait_empty=False,
        web_enabled=False,
        # unused, but Faust creates the directory
        datadir=str(Path(tempfile.gettempdir()) / f"{runtime.application}-faust"),
        env_prefix="MANIFOLD_FAUST_",
    )
    app.safety = ExactlyOnceRuntime(runtime, observer, hook)
    app.group_topics = {}
    for stage in stages:
        _add_stage(app, runtime, stage)
    return app


def run_app(app: ManifoldApp, log_level: str) -> None:
    """Run the application in a new event loop until it is stopped."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    faust.Worker(
        app, loglevel=log_level, loop=loop, redirect_stdouts=False
    ).execute_from_commandline()


def _add_stage(app: ManifoldApp, runtime: Runtime, stage: Stage) -> None:
    partitions = TOPICS[STAGE_SOURCES.get(stage.name, stage.source)].partition_count(
        runtime.topic_partitions
    )
    source = app.topic(
        runtime.topic(stage.source), schema=BatchSchema(), partitions=partitions, internal=False
    )
    table = app.Table(
        stage.name, partitions=partitions, help=f"State of the {stage.name} stage, row by row."
    )
    runner = app.safety.add(stage, table)
    app.group_topics |= {
        runtime.topic(stage.source): partitions,
        runtime.changelog(stage.name): partitions,
    }

    @app.agent(source, name=f"{stage.name}-agent")
    async def agent(stream: Any) -> None:
        await runner.run(stream)


def faust_broker(runtime: Runtime) -> tuple[list[str], Any]:
    """Return Faust's ``broker`` (URLs) and ``broker_credentials`` (None when there are none)."""
    urls = [f"kafka://{address.strip()}" for address in runtime.kafka_bootstrap_servers.split(",")]
    protocol = runtime.kafka_security_protocol
    context = kafka_tls(runtime) if protocol.endswith("SSL") else None
    if protocol.startswith("SASL"):
        return urls, faust.SASLCredentials(
            username=runtime.kafka_sasl_username,
            password=runtime.kafka_sasl_password,
            mechanism=runtime.kafka_sasl_mechanism,
            ssl_context=context,
        )
    return urls, faust.SSLCredentials(context=context) if context else None
