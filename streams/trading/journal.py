"""Writes intents and reports, one transaction each, and fences other executors.

Opening the journal of an account takes the account over: the former executor's next write fails and
ends it. An intent is committed in its own transaction right before the broker is called, which
proves that no other executor had taken over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from streams.config.runtime import Runtime
from streams.core import ENGINE_VERSION
from streams.kafka.error_kinds import ErrorKind, error_kind
from streams.kafka.partitioner import partition_of
from streams.kafka.reader import LogReader
from streams.kafka.transactions import exit_for, new_producer, transaction
from streams.process.exit import exit_now
from streams.records.codec import Codec
from streams.records.topics import FILLS, ORDERS
from streams.records.trading_events import AccountState, BrokerReport, OrderIntent

STAGE = "executor"

Record = OrderIntent | BrokerReport | AccountState


class Journal:
    """The transactional producer for ``exec.orders`` and ``exec.fills``.

    Creating one fences every former executor of the account: its open transaction is aborted.

    Parameters
    ----------
    runtime, codec
        The deployment.
    account_id
        Part of the transactional id, ``<application>-executor-<account>``.
    """

    def __init__(self, runtime: Runtime, codec: Codec, account_id: str) -> None:
        self._runtime, self._codec = runtime, codec
        with LogReader(runtime) as reader:
            self._partitions = {t: len(reader.partitions(t)) for t in (ORDERS, FILLS)}
        self._producer = new_producer(runtime, STAGE, account_id)

    def write(self, records: Sequence[Record]) -> None:
        """Write records as one transaction; return after the commit.

        The process ends if that fails: another executor has taken over, or it is unknown whether
        the records are in the log. The next start reads the log.
        """
        with transaction(self._runtime, self._producer, _leave):
            for record in records:
                self._produce(record)

    def _produce(self, record: Record) -> None:
        topic = ORDERS if isinstance(record, OrderIntent) else FILLS
        name = record.account_id if isinstance(record, AccountState) else record.instrument
        key = name.encode()
        self._producer.produce(
            self._runtime.topic(topic),
            self._codec.encode(topic, record),
            key,
            partition=partition_of(key, self._partitions[topic]),
            timestamp=record.as_of_ms,
            headers=[
                ("config_id", record.config_id.encode()),
                ("engine", ENGINE_VERSION.encode()),
            ],
        )


def _leave(error: Any) -> NoReturn:
    what = "executor: the order log cannot be written"
    if error_kind(error) is ErrorKind.AUTHORIZATION:
        exit_for(what, error)
    exit_now(f"{what}: {error.str()}")
