"""The same counting with Faust as it comes: an agent, a table, an output; run as a program.

Takes the settings of ``counting_app``, its topics and its changelog, so that one check serves both.
``COMMIT_S`` is Faust's commit interval. ``SEEK_PAUSE_S`` makes the seek of a restart slow, as a
distant or busy broker does.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import faust

from streams.config.runtime import Runtime
from tests.faults.counting_app import STAGES, TOPICS_OF_CHAIN, Fault, mark, pause_after_seek


def make_plain_app(runtime: Runtime, fault: Fault) -> faust.App:
    """Return the application of the first stage, with none of the product's safety."""
    app = faust.App(
        runtime.application,
        broker=f"kafka://{runtime.kafka_bootstrap_servers}",
        store="memory://",
        topic_partitions=runtime.topic_partitions,
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        consumer_group_instance_id=runtime.worker_id,
        consumer_auto_offset_reset="earliest",
        broker_session_timeout=runtime.session_timeout_sec,
        broker_heartbeat_interval=runtime.session_timeout_sec / 4,
        broker_rebalance_timeout=runtime.session_timeout_sec,
        broker_request_timeout=90.0,
        broker_commit_interval=float(os.environ.get("COMMIT_S", "0.3")),
        stream_wait_empty=False,
        web_enabled=False,
    )
    partitions = runtime.topic_partitions
    raw: dict[str, Any] = {
        "key_type": bytes,
        "value_type": bytes,
        "key_serializer": "raw",
        "value_serializer": "raw",
    }
    source, target = (
        app.topic(runtime.topic(name), partitions=partitions, **raw) for name in TOPICS_OF_CHAIN[:2]
    )
    table = app.Table(STAGES[0], partitions=partitions, key_type=bytes, value_type=bytes)

    delay_s = float(os.environ.get("DELAY_S", "0"))

    @app.agent(source)
    async def count(stream: Any) -> None:
        async for event in stream.events():
            message = event.message
            await asyncio.sleep(delay_s)
            total = int(table.get(message.key, b"0")) + 1
            if fault.what == "hang":
                await asyncio.get_running_loop().run_in_executor(None, fault, "step")
            else:
                fault("step")
            table[message.key] = b"%d" % total
            value = b"%d:%d:%d" % (message.partition, message.offset, total)
            await target.send(key=message.key, value=value, partition=message.partition)

    return app


def main() -> None:
    """Run until told to stop."""
    from faust.transport.drivers.aiokafka import Consumer

    pause_after_seek(Consumer)
    app = make_plain_app(Runtime.from_env(os.environ), Fault(os.environ.get("FAULT", "")))

    @app.on_partitions_assigned.connect(weak=False)
    async def assigned(app: Any, assigned: Any, **_: Any) -> None:
        mark("assigned")

    @app.on_rebalance_complete.connect(weak=False)
    async def ready(app: Any, **_: Any) -> None:
        mark("ready")

    faust.Worker(app, loglevel="WARNING", redirect_stdouts=False).execute_from_commandline()


if __name__ == "__main__":
    sys.exit(main())
