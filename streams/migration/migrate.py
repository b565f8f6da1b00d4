"""Migrates a deployment to another prefix, from the checks to the derived topics.

The derived topics, which every process requires at its start, are created last: no process starts
under the new prefix before the copy is complete.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace

from streams.config.runtime import Runtime
from streams.errors import Fatal, Recoverable
from streams.kafka.reader import LogReader
from streams.kafka.registry import open_codec, subject_ids
from streams.kafka.topics_admin import Cluster, create_topics
from streams.migration.checks import (
    Ends,
    accounts_in,
    derived_records,
    fence_writers,
    require_kill_switch_engaged,
    require_no_worker,
    require_none_joined,
    require_source,
    require_target,
    stable_ends,
)
from streams.migration.copy import Copier, Progress
from streams.migration.plan import COPIED, Migration, TopicCopy, check_prefixes
from streams.migration.translate import id_changes
from streams.records.codec import Codec
from streams.records.topics import CONTROL

TRANSACTION_SEC = 60.0


def migrate(
    runtime: Runtime,
    to_prefix: str,
    accounts: Iterable[str],
    *,
    dry_run: bool = False,
    progress: Progress = lambda topic, count: None,
) -> Migration:
    """Copy the input records to another prefix; a repeated call continues or compares.

    Parameters
    ----------
    runtime
        The deployment under the old prefix.
    to_prefix
        The new one.
    accounts
        Accounts whose executors may run, in addition to those in the order log.
    dry_run
        Check and count only; write nothing and stop no process.
    progress
        Called with a topic and how many of its records were compared or copied since.

    Raises
    ------
    Fatal
        A worker runs, the kill switch is off, or the new prefix holds other records; then nothing
        was copied, or the copied records are intact.
    Recoverable
        No broker answers, or the old prefix has grown meanwhile; a repeated call continues.
    """
    check_prefixes(runtime.topic_prefix, to_prefix)
    # a large batch may take a slow broker long, and no reader waits for it
    within_s = max(TRANSACTION_SEC, runtime.transaction_timeout_sec)
    target = replace(runtime, topic_prefix=to_prefix, transaction_timeout_sec=within_s)
    cluster = Cluster(runtime)
    require_source(runtime, cluster)
    existing = require_target(target, cluster)
    require_no_worker(runtime, cluster)
    derived = derived_records(target, cluster)
    codec, ids = _schemas(runtime, target, registered=bool(existing) or not dry_run)
    found = Migration(runtime.topic_prefix, to_prefix, dry_run)
    with ExitStack() as opened:
        old, new = (opened.enter_context(LogReader(r)) for r in (runtime, target))
        require_kill_switch_engaged(runtime, codec, old)
        everyone = accounts_in(codec, old) | set(accounts)
        if not dry_run:
            fence_writers(runtime, everyone)
        ends = _ends(runtime, old)
        if not dry_run:
            create_topics(target, cluster, COPIED)
        present = existing if dry_run else COPIED
        copier = Copier(runtime, target, codec, ids, ends, progress)
        if not dry_run:
            copier.open()
            stable_ends(target, new, COPIED)
        for topic in COPIED:
            found.topics[topic] = _copy_topic(copier, topic, topic in present, dry_run, derived)
        if dry_run:
            return found
        for topic in COPIED:
            _require_copied(copier, topic, found.topics[topic])
        # a process restarted meanwhile is fenced here; its writes are detected
        fence_writers(runtime, everyone)
        _require_unchanged(runtime, ends, _ends(runtime, old))
        require_none_joined(runtime, cluster)
    create_topics(target, cluster)
    found.complete = True
    return found


def _schemas(
    runtime: Runtime, target: Runtime, *, registered: bool
) -> tuple[Codec, dict[str, dict[int, int]]]:
    """Return a codec with the schemas of both prefixes, and the mapping of schema ids."""

    async def asked() -> tuple[Codec, dict[str, dict[int, int]]]:
        codec = await open_codec(runtime)
        if not registered:  # a dry run registers nothing
            return codec, {topic: {} for topic in COPIED}
        before, _ = await subject_ids(runtime)
        after, texts = await subject_ids(target)
        codec.learn(texts)
        changes = id_changes(COPIED, (runtime.topic_prefix, before), (target.topic_prefix, after))
        return codec, changes

    return asyncio.run(asked())


def _ends(runtime: Runtime, reader: LogReader) -> Ends:
    """Return the end offsets under the old prefix; control last, because others refer to it."""
    others = [topic for topic in COPIED if topic != CONTROL]
    return stable_ends(runtime, reader, others) | stable_ends(runtime, reader, [CONTROL])


def _copy_topic(
    copier: Copier, topic: str, exists: bool, dry_run: bool, derived: str | None
) -> TopicCopy:
    done = TopicCopy()
    for partition in copier.partitions(topic):
        write = not dry_run and derived is None
        there, further = copier.copy_partition(topic, partition, exists=exists, write=write)
        if further and derived is not None:
            raise Fatal(
                f"{derived} has records, so the new prefix is in use, and {further} records of "
                f"{topic}-{partition} are not there: use a prefix without topics"
            )
        done.there, done.records = done.there + there, done.records + there + further
        done.copied += further if write else 0
    return done


def _require_copied(copier: Copier, topic: str, found: TopicCopy) -> None:
    numbers = copier.partitions(topic)
    passes = [copier.copy_partition(topic, number, exists=True, write=False) for number in numbers]
    same = sum(one.there for one in passes)
    if same != found.records or any(one.further for one in passes):
        raise Recoverable(
            f"{same} of {found.records} records of {topic} are under the new prefix; repeat the "
            "command to continue"
        )


def _require_unchanged(runtime: Runtime, before: Ends, now: Ends) -> None:
    grown = sorted(at for at, end in now.items() if end != before[at])
    if grown:
        topic, partition = grown[0]
        raise Recoverable(
            f"{runtime.topic(topic)}-{partition} has grown while it was copied: stop what writes "
            "under the old prefix, then run the command again; it copies the rest"
        )
