"""Hanging transactions (KIP-664): ended for the coordinator, but without markers in the log.

Fencing aborts transactions that the coordinator knows to be open. Kafka 4.3 and 4.4 skip the
markers of a partition that has no leader at that moment, as if its topic were deleted; after a
kill, a single node has no leader for any partition for a moment. Such a transaction stays open
forever: read_committed readers block in front of it, its offsets cannot be read, and the next
commit of the same producer would make its records visible in addition to the records derived again.
The same producer aborts it before that.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence

from confluent_kafka import KafkaException, Producer, TopicPartition

from streams.config.runtime import Runtime
from streams.errors import Fatal, Recoverable
from streams.kafka.ends import partition_ends
from streams.pipeline.stage import Stage
from streams.pipeline.worker.changelog import POSITION_ROW, Restored
from streams.pipeline.worker.last_output import output_partitions
from streams.pipeline.worker.transaction import GroupState
from streams.records.topics import TOPICS

log = logging.getLogger("manifold.worker")

STAMP_MS = 1
SETTLE_S = 2.0
POLL_S = 0.1


def abort_hanging_transactions(
    runtime: Runtime, group: GroupState, stage: Stage, producers: Mapping[int, Producer]
) -> None:
    """Abort the hanging transactions of the previous owners.

    Call it after fencing. Every transaction writes to the changelog: one that is open there has no
    committed state, and is aborted everywhere.

    Parameters
    ----------
    producers
        The new producer of each partition taken over.

    Raises
    ------
    Fatal
        The state of a transaction is committed, its outputs are not: an abort would lose them.
    Recoverable
        The broker does not answer.
    """
    open_in = _open(runtime, stage, list(producers))
    changelog = runtime.changelog(stage.name)
    for partition in producers:
        if (changelog, partition) in open_in:
            _abort(runtime, group, stage, partition, producers[partition])
    still_open = _open(runtime, stage, list(producers)) if open_in else []
    if still_open:
        topic, partition = still_open[0]
        raise Fatal(
            f"{stage.name}: the broker left a transaction open in {topic}-{partition} whose state "
            f"in {changelog} is committed: it has lost a part of it; load the candles again under "
            "another APP_ID and TOPIC_PREFIX (manifold load)"
        )


def resolve_unstable_offsets(
    runtime: Runtime,
    group: GroupState,
    stage: Stage,
    producers: Mapping[int, Producer],
    restored: Mapping[int, Restored],
) -> None:
    """Resolve unstable offsets of the group, which cannot be read until then.

    The state of such a transaction has ended: its offset is written again.

    Raises
    ------
    Recoverable
        The broker does not answer.
    """
    source = runtime.topic(stage.source)
    asked = [(source, partition) for partition in producers]
    give_up_at = time.monotonic() + SETTLE_S
    while (open_at := group.unstable_offsets(asked)) and time.monotonic() < give_up_at:
        time.sleep(POLL_S)
    timeout_s = runtime.transaction_timeout_sec
    for _, partition in open_at:
        producer, position = producers[partition], restored[partition].position
        log.warning(
            "%s: the broker left the offset of %s-%d open; it is set to %s, where the state ends",
            stage.name,
            source,
            partition,
            "nothing" if position is None else position,
        )
        try:
            producer.begin_transaction()
            at = TopicPartition(source, partition, position or 0)
            producer.send_offsets_to_transaction([at], group.metadata, timeout_s)
            if position is None:
                producer.abort_transaction(timeout_s)
            else:
                producer.commit_transaction(timeout_s)
        except KafkaException as error:
            raise Recoverable(
                f"{stage.name}: the offset of {source}-{partition}, left open, cannot be set: "
                f"{error.args[0].str()}"
            ) from error


def _open(runtime: Runtime, stage: Stage, partitions: Sequence[int]) -> list[tuple[str, int]]:
    """Return the partitions with an open transaction among those only this stage writes to."""
    names = [runtime.changelog(stage.name)]
    # topics with one partition have other owners too, whose transactions may be open
    names += [runtime.topic(name) for name in stage.outputs if TOPICS[name].partitions != 1]
    asked = [(name, partition) for name in names for partition in partitions]
    give_up_at = time.monotonic() + SETTLE_S
    while True:
        ends = partition_ends(runtime, asked)
        found = [at for at in asked if ends[at].stable < ends[at].written]
        if not found or time.monotonic() > give_up_at:
            return found
        time.sleep(POLL_S)


def _abort(
    runtime: Runtime, group: GroupState, stage: Stage, partition: int, producer: Producer
) -> None:
    changelog, source = runtime.changelog(stage.name), runtime.topic(stage.source)
    log.warning(
        "%s: the broker left a transaction open in %s-%d; it is aborted",
        stage.name,
        changelog,
        partition,
    )
    timeout_s = runtime.transaction_timeout_sec
    try:
        producer.begin_transaction()
        # markers are written only to partitions with records of the transaction; read_committed
        # readers never see these records, and no broker refuses their timestamp, even with a wrong
        # clock here
        producer.produce(changelog, b"", POSITION_ROW, partition=partition, timestamp=STAMP_MS)
        for topic, number in output_partitions(runtime, partition, stage.outputs):
            producer.produce(runtime.topic(topic), b"", partition=number, timestamp=STAMP_MS)
        producer.flush(timeout_s)
        producer.send_offsets_to_transaction(
            [TopicPartition(source, partition, 0)], group.metadata, timeout_s
        )
        producer.abort_transaction(timeout_s)
    except KafkaException as error:
        raise Recoverable(
            f"{stage.name}: a transaction left open in {changelog}-{partition} cannot be "
            f"aborted: {error.args[0].str()}"
        ) from error
