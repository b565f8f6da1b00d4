"""Checks before and after a copy: no writer under the old prefix, the new one is free.

A worker is visible in its consumer group. Feeds and executors write under transactional ids:
fencing these ends a running one at its next write. Writers without a transactional id (a load, an
operator's command) are detected by growth of the topics. The kill switch must be engaged, so that
no executor can open a position meanwhile; one whose account is not in the order log then has
nothing to write.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from streams.config.runtime import Runtime
from streams.errors import Fatal, Recoverable
from streams.feeds.writer import feed_id
from streams.kafka.committed import group_members
from streams.kafka.decoding import decode_record, event_of
from streams.kafka.ends import partition_ends
from streams.kafka.reader import EMBEDDED_CLUSTER, LogReader
from streams.kafka.topics_admin import TIMEOUT_SEC, Cluster, drifts
from streams.kafka.transactions import transactional_id, transactional_producer
from streams.migration.plan import COPIED, DERIVED
from streams.records.codec import Codec, DecodeError
from streams.records.events import Control
from streams.records.kill_switch import Unreadable, fold_kill_switch
from streams.records.topics import CONTROL, ORDERS
from streams.records.trading_events import OrderIntent
from streams.trading.journal import STAGE

LEAVING_SEC = 5.0
POLL_SEC = 0.2

Ends = dict[tuple[str, int], int]
"""(Topic without prefix, partition) -> end offset."""


def require_source(runtime: Runtime, cluster: Cluster) -> None:
    """Refuse a broker without a log on disk, and a prefix without a deployment.

    Raises
    ------
    Fatal
        Names the broker, or the topic that is missing or has other partitions than the settings.
    """
    if cluster.metadata.cluster_id == EMBEDDED_CLUSTER:
        raise Fatal(
            "the embedded broker keeps its log in memory and has no transactions to copy in: "
            "it cannot be migrated"
        )
    for drift in drifts(runtime, cluster, COPIED):
        if drift.aspect == "missing":
            raise Fatal(
                f"there is no topic {drift.topic}: set TOPIC_PREFIX to the prefix of the "
                "deployment to migrate"
            )
        if drift.aspect == "partitions":
            raise Fatal(
                f"{drift.topic} has {drift.actual} partitions, the copy would have "
                f"{drift.expected}: "
                f"set TOPIC_PARTITIONS={drift.actual}"
            )


def require_target(target: Runtime, cluster: Cluster) -> list[str]:
    """Refuse unsuitable topics under the new prefix; return those that exist.

    Raises
    ------
    Fatal
        A topic has other partitions, or settings under which records would not be kept.
    """
    wrong = [d for d in drifts(target, cluster, COPIED) if d.aspect not in ("missing", "replicas")]
    if wrong:
        raise Fatal(wrong[0].sentence)
    return [name for name in COPIED if target.topic(name) in cluster.metadata.topics]


def derived_records(target: Runtime, cluster: Cluster) -> str | None:
    """Return a derived topic under the new prefix that holds records; None when there is none."""
    topics = cluster.metadata.topics
    asked = [
        (target.topic(name), partition)
        for name in DERIVED
        if target.topic(name) in topics
        for partition in topics[target.topic(name)].partitions
    ]
    if not asked:
        return None
    return next((at[0] for at, ends in partition_ends(target, asked).items() if ends.written), None)


def require_no_worker(runtime: Runtime, cluster: Cluster) -> None:
    """Refuse while the consumer group of the workers has members.

    A stopped worker stays in the group for the session time-out, which is waited for. A worker that
    misses heartbeats leaves the group temporarily, so the group must be empty for as long.

    Raises
    ------
    Fatal
        Names the group and a member.
    """
    started, empty_since = time.monotonic(), None
    while (members := _members(runtime.application, cluster)) is not None:
        now = time.monotonic()
        if members:
            empty_since = None
        elif empty_since is None:
            empty_since = now
        elif now - empty_since > runtime.session_timeout_sec:
            return
        if members and now - started > runtime.session_timeout_sec + LEAVING_SEC:
            raise Fatal(_workers_running(runtime.application, members))
        time.sleep(POLL_SEC)


def require_none_joined(runtime: Runtime, cluster: Cluster) -> None:
    """Refuse to call a copy done when a worker has joined the group while it was made.

    Raises
    ------
    Fatal
        Names the group and a member.
    """
    members = _members(runtime.application, cluster)
    if members:
        raise Fatal(_workers_running(runtime.application, members))


def _workers_running(group: str, members: list[str]) -> str:
    return (
        f"{len(members)} workers run in the consumer group {group} (such as {members[0]}): stop "
        "them, then run the command again"
    )


def _members(group: str, cluster: Cluster) -> list[str] | None:
    """Return the members of a group; None when there is no such group."""
    return cluster.call(lambda: group_members(cluster.client, group, TIMEOUT_SEC))


def require_kill_switch_engaged(runtime: Runtime, codec: Codec, reader: LogReader) -> None:
    """Refuse while the kill switch is off in the log.

    Raises
    ------
    Fatal
        Says how to engage it.
    """
    records: list[tuple[int, Control | Unreadable]] = []
    for batch in reader.read(CONTROL, 0):
        for found in batch:
            record = found.record
            try:
                event = decode_record(codec, record)
            except DecodeError as error:
                detail = Unreadable(record.key, error.reason, record.timestamp_ms)
                records.append((record.offset, detail))
                continue
            if isinstance(event, Control):
                records.append((record.offset, event))
    if not fold_kill_switch(records).engaged:
        raise Fatal(
            f"the kill switch is off in {runtime.topic(CONTROL)}, and an executor could open a "
            "position while the log is copied: run manifold kill on --reason TEXT first; it is "
            "engaged under the new prefix too, until you clear it there"
        )


def accounts_in(codec: Codec, reader: LogReader) -> set[str]:
    """Return the accounts in the order log."""
    found = set()
    for partition in reader.partitions(ORDERS):
        for batch in reader.read(ORDERS, partition):
            for one in batch:
                # an invalid record is copied unchanged; it has no readable account
                event = event_of(codec, one.record)
                if isinstance(event, OrderIntent) and event.account_id:
                    found.add(event.account_id)
    return found


def fence_writers(runtime: Runtime, accounts: Iterable[str]) -> None:
    """Take over the transactional ids of the feed and of the accounts' executors.

    A running one ends at its next write; its open transaction is aborted.

    Raises
    ------
    Fatal, Recoverable
        The broker refuses this client; no broker answers.
    """
    for name in (
        feed_id(runtime),
        *(transactional_id(runtime, STAGE, a) for a in sorted(accounts)),
    ):
        transactional_producer(runtime, name)


def stable_ends(runtime: Runtime, reader: LogReader, topics: Iterable[str]) -> Ends:
    """Return the ends of every partition, as soon as no transaction is open in them.

    Raises
    ------
    Recoverable
        A transaction stays open.
    """
    asked = {
        (runtime.topic(topic), partition): (topic, partition)
        for topic in topics
        for partition in reader.partitions(topic)
    }
    give_up_at = time.monotonic() + runtime.transaction_timeout_sec + LEAVING_SEC
    while True:
        try:
            ends = partition_ends(runtime, list(asked))
        except Recoverable:  # a topic that was just made has no leader for a moment
            if time.monotonic() > give_up_at:
                raise
            time.sleep(POLL_SEC)
            continue
        unsettled = [at for at, end in ends.items() if end.stable < end.written]
        if not unsettled:
            return {asked[at]: end.written for at, end in ends.items()}
        if time.monotonic() > give_up_at:
            topic, partition = unsettled[0]
            raise Recoverable(
                f"a transaction is open in {topic}-{partition}: something still writes there; stop "
                "it, then run the command again"
            )
        time.sleep(POLL_SEC)
