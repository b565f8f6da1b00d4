"""The topics a deployment needs, what counts as drift from them, and subjects."""

import pytest
from confluent_kafka import KafkaError, KafkaException

from streams.config.runtime import Runtime
from streams.errors import Fatal, Recoverable
from streams.kafka.cluster_check import session_finding
from streams.kafka.errors import translate_error
from streams.kafka.registry import LockedRegistry
from streams.kafka.topics_admin import ActualTopic, ExpectedTopic, expected_topics, topic_drift
from streams.records import topics

RUNTIME = Runtime.from_env({"TOPIC_PREFIX": "eu1.", "TOPIC_PARTITIONS": "5", "APP_ID": "fx"})
WANTED = {topic.name: topic for topic in expected_topics(RUNTIME)}
CANDLES = WANTED["eu1.md.candles"]


def as_wanted(topic: ExpectedTopic, **config: str) -> ActualTopic:
    return ActualTopic(topic.name, topic.partitions, 1, {**topic.config, **config})


def test_a_deployment_needs_the_table_and_a_changelog_per_stage() -> None:
    changelogs = {f"eu1.fx-{stage}-changelog" for stage in ("signals", "gates", "weights")}
    assert set(WANTED) == {f"eu1.{name}" for name in topics.TOPICS} | changelogs
    assert {name: WANTED[name].partitions for name in changelogs} == {
        "eu1.fx-signals-changelog": 5,
        "eu1.fx-gates-changelog": 5,
        "eu1.fx-weights-changelog": 1,
    }


def test_history_is_kept_and_stamped_by_event_time() -> None:
    for topic in WANTED.values():
        assert topic.config["message.timestamp.type"] == "CreateTime"
        if topic.spec.cleanup == "delete":
            assert topic.config["retention.ms"] == "-1"
        else:
            assert topic.config["cleanup.policy"] == "compact"


def test_subjects_carry_prefix_topic_and_the_second_record() -> None:
    assert topics.subject("md.candles", "Candle") == "md.candles-value"
    assert topics.subject("md.candles", "Watermark", "eu1.") == "eu1.md.candles-Watermark"


@pytest.mark.parametrize(
    ("actual", "aspects"),
    [
        pytest.param(as_wanted(CANDLES), [], id="as wanted"),
        pytest.param(as_wanted(CANDLES)._replace(config={}), [], id="a broker that tells nothing"),
        pytest.param(as_wanted(CANDLES, **{"segment.bytes": "1"}), [], id="a key not in the table"),
        pytest.param(as_wanted(CANDLES, **{"max.message.bytes": "9999999"}), [], id="larger"),
        pytest.param(as_wanted(CANDLES)._replace(partitions=6), ["partitions"], id="partitions"),
        pytest.param(as_wanted(CANDLES)._replace(replicas=0), ["replicas"], id="replicas"),
        pytest.param(
            as_wanted(CANDLES, **{"retention.ms": "604800000"}), ["retention.ms"], id="retention"
        ),
        pytest.param(
            as_wanted(CANDLES, **{"message.timestamp.type": "LogAppendTime"}),
            ["message.timestamp.type"],
            id="record timestamps",
        ),
        pytest.param(
            as_wanted(CANDLES, **{"cleanup.policy": "compact,delete", "max.message.bytes": "10"}),
            ["cleanup.policy", "max.message.bytes"],
            id="two at once",
        ),
    ],
)
def test_what_is_drift(actual: ActualTopic, aspects: list[str]) -> None:
    assert [drift.aspect for drift in topic_drift(CANDLES, actual, replicas=1)] == aspects


def test_a_drift_names_topic_values_and_remedy() -> None:
    [drift] = topic_drift(CANDLES, as_wanted(CANDLES, **{"retention.ms": "1"}), replicas=1)
    assert drift.sentence == (
        "eu1.md.candles: retention.ms is 1, not -1; "
        "rpk topic alter-config eu1.md.candles --set retention.ms=-1"
    )


def test_the_way_out_of_another_partition_count_depends_on_the_topic() -> None:
    [keyed] = topic_drift(CANDLES, as_wanted(CANDLES)._replace(partitions=6), replicas=1)
    assert "new TOPIC_PREFIX and replay" in keyed.remedy
    assert "TOPIC_PARTITIONS=6" in keyed.remedy
    gates = WANTED["eu1.opt.gates"]
    [fixed] = topic_drift(gates, as_wanted(gates)._replace(partitions=6), replicas=1)
    assert "TOPIC_PARTITIONS" not in fixed.remedy


@pytest.mark.parametrize(
    ("code", "complaints", "root", "words"),
    [
        (KafkaError._TRANSPORT, (), Recoverable, "no broker answers at .*=b:9092"),
        (KafkaError._TRANSPORT, (KafkaError._AUTHENTICATION,), Fatal, "KAFKA_SASL_"),
        (KafkaError.CLUSTER_AUTHORIZATION_FAILED, (), Fatal, "ACLs of the brokers"),
        (KafkaError._INVALID_ARG, (), Fatal, "settings.*KAFKA_"),
        (KafkaError.INVALID_REPLICATION_FACTOR, (), Fatal, "b:9092 refuses"),
    ],
)
def test_kafka_errors_are_one_of_the_two_roots(
    code: int, complaints: tuple[int, ...], root: type[Exception], words: str
) -> None:
    problem = translate_error(
        "b:9092", KafkaException(KafkaError(code)), map(KafkaError, complaints)
    )
    with pytest.raises(root, match=words):
        raise problem


def test_the_lock_answers_like_a_registry() -> None:
    registry = LockedRegistry("eu1.")
    assert registry.subjects() == sorted(registry.subjects())
    assert "eu1.opt.gates-Watermark" in registry.subjects()
    assert registry.versions("eu1.md.candles-value")[0] == 1
    schema_id, text = registry.schema("eu1.md.candles-Watermark", 1)
    assert registry.schema("eu1.opt.gates-Watermark", 1) == (schema_id, text)
    assert registry.by_id(schema_id) == text
    assert schema_id in registry.ids()
    assert registry.versions("eu1.nope-value") == []
    with pytest.raises(KeyError):
        registry.by_id(9999)


@pytest.mark.parametrize(
    ("session_sec", "least_ms", "most_ms", "ok"),
    [
        (6.0, "6000", "1800000", True),
        (5.9, "6000", "1800000", False),
        (300.0, "6000", "60000", False),
        (1.0, None, None, True),
    ],
)
def test_a_session_timeout_must_be_inside_the_brokers_bounds(
    session_sec: float, least_ms: str | None, most_ms: str | None, ok: bool
) -> None:
    finding = session_finding(session_sec, least_ms, most_ms)
    assert finding.ok is ok
    assert f"SESSION_TIMEOUT_SEC={session_sec:g}" in finding.detail
