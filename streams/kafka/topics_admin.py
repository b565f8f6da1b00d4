"""The topics of a deployment: required topics, their creation, and configuration drift.

The definition of a topic is in ``streams.records.topics``; prefix, partition count of keyed topics,
replication factor and application id are settings. A partition count is never changed: keys would
move to other partitions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Future
from typing import Final, NamedTuple, TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from streams.config.runtime import Runtime
from streams.errors import Fatal, Recoverable
from streams.kafka.client import SILENT, confluent_config
from streams.kafka.errors import first_answer, translate_error
from streams.records.topics import STAGE_SOURCES, TOPICS, Topic, changelog_topic

T = TypeVar("T")

TIMEOUT_SEC: Final = 15.0
_VISIBLE_SEC: Final = 10.0
_LOOK_AGAIN_SEC: Final = 0.1
# A record's timestamp is its as_of_ms. With LogAppendTime, "from T" would no longer mean "known at
# or after T", and a replay would depend on when the log was loaded.
_EVERY_TOPIC: Final = {"message.timestamp.type": "CreateTime"}


class ExpectedTopic(NamedTuple):
    """A topic as this deployment requires it, with its full name."""

    name: str
    partitions: int
    config: dict[str, str]
    spec: Topic


class ActualTopic(NamedTuple):
    """A topic as it is; ``config`` is what the broker reports."""

    name: str
    partitions: int
    replicas: int
    config: dict[str, str]


class Drift(NamedTuple):
    """One difference between a topic and the table.

    Attributes
    ----------
    topic, aspect
        Full name; ``missing``, ``partitions``, ``replicas`` or the configuration key.
    expected, actual
        Expected value (table) and actual value (broker).
    remedy
        What to do.
    """

    topic: str
    aspect: str
    expected: str
    actual: str
    remedy: str

    @property
    def sentence(self) -> str:
        """The difference and its remedy as a sentence."""
        if self.aspect == "missing":
            return f"{self.topic} is missing; {self.remedy}"
        return f"{self.topic}: {self.aspect} is {self.actual}, not {self.expected}; {self.remedy}"


def expected_topics(runtime: Runtime) -> list[ExpectedTopic]:
    """Return every topic of the deployment, including the changelogs of the stages."""
    expected = [(runtime.topic(t.name), t) for t in TOPICS.values()]
    expected += [(runtime.changelog(stage), changelog_topic(stage)) for stage in STAGE_SOURCES]
    return [
        ExpectedTopic(
            name, t.partition_count(runtime.topic_partitions), {**t.config, **_EVERY_TOPIC}, t
        )
        for name, t in expected
    ]


def answers(servers: str) -> bool:
    """Return whether a broker of this machine answers."""
    try:
        client = AdminClient(SILENT | {"bootstrap.servers": servers})  # type: ignore[arg-type]
        client.list_topics(timeout=2.0)
    except KafkaException:
        return False
    return True


class Cluster:
    """An admin client that raises ``Fatal`` and ``Recoverable``.

    Parameters
    ----------
    runtime
        Broker addresses and login.

    Raises
    ------
    Fatal
        A setting is invalid (TLS file, SASL mechanism), or the login is refused.
    Recoverable
        No broker answers.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._servers = runtime.kafka_bootstrap_servers
        self._complaints: list[KafkaError] = []
        config = confluent_config(runtime) | {
            "error_cb": self._complaints.append,
            **SILENT,
            "reconnect.backoff.ms": 200,
        }
        try:
            self.client = AdminClient(config)
        except KafkaException as error:
            raise self.translate_error(error) from error
        self.metadata = first_answer(self.client, self._servers, self._complaints)

    def call(self, ask: Callable[[], T]) -> T:
        """Return the result of ``ask``; translates Kafka errors to Fatal or Recoverable."""
        try:
            return ask()
        except KafkaException as error:
            raise self.translate_error(error) from error

    def result(self, future: Future[T]) -> T:
        """Return the result of an admin request, errors as in `call`."""
        return self.call(lambda: future.result(timeout=TIMEOUT_SEC + 5.0))

    def translate_error(self, error: KafkaException) -> Fatal | Recoverable:
        """Translate ``error`` to Fatal or Recoverable, with the client's earlier errors.

        The request itself reports a refused login or certificate only as a timeout.
        """
        return translate_error(self._servers, error, self._complaints)

    def actual(self, names: Iterable[str]) -> dict[str, ActualTopic]:
        """Return those of ``names`` that exist, with their configuration."""
        self.metadata = self.call(lambda: self.client.list_topics(timeout=TIMEOUT_SEC))
        found = {n: self.metadata.topics[n] for n in names if n in self.metadata.topics}
        asked = [ConfigResource(ResourceType.TOPIC, name) for name in found]
        futures = self.client.describe_configs(asked, request_timeout=TIMEOUT_SEC) if asked else {}
        configs = {r.name: self.result(future) for r, future in futures.items()}
        return {
            name: ActualTopic(
                name,
                len(topic.partitions),
                min((len(p.replicas) for p in topic.partitions.values()), default=0),
                {key: entry.value for key, entry in configs.get(name, {}).items()},
            )
            for name, topic in found.items()
        }

    def create(self, topic: ExpectedTopic, replicas: int) -> Future[None]:
        """Request the creation of a topic; return the future."""
        new = NewTopic(topic.name, topic.partitions, replicas, config=topic.config)
        made: dict[str, Future[None]] = self.client.create_topics(
            [new], request_timeout=TIMEOUT_SEC, operation_timeout=_VISIBLE_SEC
        )
        return made[topic.name]


def create_topics(
    runtime: Runtime, cluster: Cluster | None = None, only: Collection[str] = ()
) -> dict[str, str]:
    """Create the topics that are missing.

    Parameters
    ----------
    only
        Names without the prefix, as in ``streams.records.topics``; empty for all.

    Returns
    -------
    dict
        Full name -> ``created`` or ``exists``.

    Raises
    ------
    Fatal
        A topic exists with another partition count (no topic is created then, except by a
        concurrent process), or the broker refuses one; the message names the topic.
    Recoverable
        No broker answers.
    """
    cluster = cluster or Cluster(runtime)
    expected = [t for t in expected_topics(runtime) if not only or t.spec.name in only]
    actual = cluster.actual(t.name for t in expected)
    _refuse_other_partitions(expected, actual)
    pending = [
        (t, cluster.create(t, runtime.topic_replication_factor))
        for t in expected
        if t.name not in actual
    ]
    done = {t.name: "exists" for t in expected}
    for topic, future in pending:
        done[topic.name] = _finish(cluster, topic, future)
    # also checks topics that were created meanwhile or that the broker did not list yet
    _refuse_other_partitions(expected, _listed(cluster, [t for t, _ in pending]))
    return done


def _listed(cluster: Cluster, topics: Sequence[ExpectedTopic]) -> dict[str, ActualTopic]:
    """Wait until the broker lists all of these topics, and return them."""
    give_up_at = time.monotonic() + _VISIBLE_SEC
    while True:
        found = cluster.actual(t.name for t in topics)
        missing = [t.name for t in topics if t.name not in found or not found[t.name].partitions]
        if not missing:
            return found
        if time.monotonic() > give_up_at:
            raise Recoverable(
                f"the broker does not list {', '.join(missing)}, which it has created"
            )
        time.sleep(_LOOK_AGAIN_SEC)


def _finish(cluster: Cluster, topic: ExpectedTopic, future: Future[None]) -> str:
    try:
        cluster.result(future)
    except (Fatal, Recoverable) as error:
        cause = error.__cause__.args[0] if error.__cause__ else None
        if isinstance(cause, KafkaError) and cause.code() == KafkaError.TOPIC_ALREADY_EXISTS:
            return "exists"  # another process has created it
        raise type(error)(f"the topic {topic.name} cannot be created: {error}") from error
    return "created"


def _refuse_other_partitions(
    expected: Iterable[ExpectedTopic], actual: dict[str, ActualTopic]
) -> None:
    for topic in expected:
        found = actual.get(topic.name)
        if found is not None and found.partitions != topic.partitions:
            raise Fatal(_partition_drift(topic, found).sentence)


def require_topics(runtime: Runtime, cluster: Cluster | None = None) -> None:
    """Check that every topic exists with the right partition count.

    Raises
    ------
    Fatal
        A topic is missing or has another partition count; the message names it and what to do.
    Recoverable
        No broker answers.
    """
    cluster = cluster or Cluster(runtime)
    expected = expected_topics(runtime)
    actual = cluster.actual(t.name for t in expected)
    missing = [t.name for t in expected if t.name not in actual]
    if missing:
        raise Fatal(f"topics are missing: {', '.join(missing)}; run manifold topics create")
    _refuse_other_partitions(expected, actual)


def drifts(
    runtime: Runtime, cluster: Cluster | None = None, only: Collection[str] = ()
) -> list[Drift]:
    """Return all differences between the topics and the table, in the order of the table.

    ``only`` names topics without the prefix; empty for all.

    A configuration key that the broker does not report is not a drift: some brokers report only
    keys that were set. Raises Fatal and Recoverable as `Cluster`.
    """
    cluster = cluster or Cluster(runtime)
    expected = [t for t in expected_topics(runtime) if not only or t.spec.name in only]
    actual = cluster.actual(t.name for t in expected)
    found: list[Drift] = []
    for topic in expected:
        if topic.name in actual:
            found += topic_drift(topic, actual[topic.name], runtime.topic_replication_factor)
        else:
            found.append(Drift(topic.name, "missing", "", "", "run manifold topics create"))
    return found


def topic_drift(expected: ExpectedTopic, actual: ActualTopic, replicas: int) -> list[Drift]:
    """Return the differences of one topic; more replicas than required are no difference."""
    found = []
    if actual.partitions != expected.partitions:
        found.append(_partition_drift(expected, actual))
    if actual.replicas < replicas:
        remedy = "reassign its partitions, or set TOPIC_REPLICATION_FACTOR"
        found.append(Drift(expected.name, "replicas", str(replicas), str(actual.replicas), remedy))
    for key, value in expected.config.items():
        reported = actual.config.get(key)
        if reported is not None and not _same(key, value, reported):
            remedy = f"rpk topic alter-config {expected.name} --set {key}={value}"
            found.append(Drift(expected.name, key, value, reported, remedy))
    return found


def _same(key: str, expected: str, actual: str) -> bool:
    if key == "cleanup.policy":
        return sorted(expected.split(",")) == sorted(part.strip() for part in actual.split(","))
    if key == "max.message.bytes" and actual.isdigit():
        return int(actual) >= int(expected)
    return expected == actual


def _partition_drift(expected: ExpectedTopic, actual: ActualTopic) -> Drift:
    remedy = "keys would move between partitions: set a new TOPIC_PREFIX and replay into it"
    if expected.spec.partitions == 0:
        remedy += f", or keep TOPIC_PARTITIONS={actual.partitions}"
    return Drift(
        expected.name, "partitions", str(expected.partitions), str(actual.partitions), remedy
    )
