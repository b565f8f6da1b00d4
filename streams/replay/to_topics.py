"""Write the output of a replay to separate topics, for any Kafka client."""

from __future__ import annotations

from collections.abc import Iterable

from streams.config.runtime import Runtime
from streams.errors import Fatal, Recoverable
from streams.kafka.delivery import Delivery, plain_producer
from streams.kafka.reader import LogReader
from streams.kafka.topics_admin import create_topics
from streams.records.log_record import DerivedRecord

DELIVERY_SECONDS = 60.0


class TopicWriter:
    """Writes derived records under another prefix.

    Parameters
    ----------
    runtime
        The deployment, with the prefix to write under.
    topics
        The topics to write; missing ones are created.

    Raises
    ------
    Fatal
        One of the topics has records already.
    """

    def __init__(self, runtime: Runtime, topics: Iterable[str]) -> None:
        self._runtime = runtime
        wanted = tuple(topics)
        create_topics(runtime)
        with LogReader(runtime) as reader:
            for topic in wanted:
                bounds = reader.all_bounds(topic, reader.partitions(topic))
                if any(high > low for low, high in bounds.values()):
                    raise Fatal(
                        f"{runtime.topic(topic)} has records already: replay into another prefix"
                    )
        self._delivery = Delivery()
        self._producer = plain_producer(runtime, linger_ms=20)
        self.written = 0

    def write(self, derived: Iterable[DerivedRecord]) -> None:
        """Write records, in order.

        Raises
        ------
        Recoverable
            The brokers refuse a record.
        """
        for _, output in derived:
            while True:
                try:
                    self._producer.produce(
                        self._runtime.topic(output.topic),
                        output.value,
                        output.key,
                        partition=output.partition,
                        timestamp=output.timestamp_ms,
                        headers=list(output.headers),
                        on_delivery=self._delivery.report,
                    )
                    break
                except BufferError:
                    self._producer.poll(0.1)
            self._producer.poll(0)
            self.written += 1
        self._raise_failures()

    def flush(self) -> None:
        """Return when all records are acknowledged.

        Raises
        ------
        Recoverable
            The brokers do not acknowledge in time.
        """
        left = self._producer.flush(DELIVERY_SECONDS)
        self._raise_failures()
        if left:
            raise Recoverable(f"{left:,} records are not acknowledged by the brokers")

    def _raise_failures(self) -> None:
        if self._delivery.refused is not None:
            error, message = self._delivery.refused
            raise Recoverable(f"cannot write {message.topic()}: {error.str()}")
