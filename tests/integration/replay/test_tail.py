"""`manifold tail`: each record in the shape of `rpk topic consume`, and which records."""

from __future__ import annotations

import functools
import io
import json
import os
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from confluent_kafka import Producer

from streams.cli import cli
from streams.kafka.client import producer_config
from streams.records.events import Candle, GateDecision, Signal
from streams.records.topics import CANDLES, GATES, MANIFOLDS, SIGNALS, WEIGHTS
from streams.stack.kafka import KafkaBroker
from tests.support.candle_files import market, write_csv
from tests.support.deployment import Deployment
from tests.support.sample_events import SAMPLES
from tests.support.waiting import PATIENCE_S

pytestmark = pytest.mark.kafka

PAIRS = ("EUR_USD", "USD_JPY")
MINUTE_MS = 60_000


@pytest.fixture(scope="module")
def loaded(kafka: KafkaBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    place = tmp_path_factory.mktemp("tail")
    deployment = Deployment(
        place,
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
        TOPIC_PREFIX=f"t{uuid.uuid4().hex[:8]}.",
        TOPIC_PARTITIONS="2",
    )
    done = deployment.run("load", write_csv(place / "a.csv", market(("EUR_USD", "USD_JPY"), 30)))
    assert done.returncode == 0, done.stderr
    yield deployment


@pytest.fixture(scope="module")
def derived(kafka: KafkaBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A market of two pairs, derived to its end by a worker, in its transactions."""
    place = tmp_path_factory.mktemp("derived")
    deployment = Deployment(
        place,
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
        TOPIC_PREFIX=f"t{uuid.uuid4().hex[:8]}.",
        TOPIC_PARTITIONS="2",
    )
    done = deployment.run("load", write_csv(place / "a.csv", market(PAIRS, 150)))
    assert done.returncode == 0, done.stderr
    deployment.start_worker()
    try:
        deployment.settle()
    finally:
        deployment.stop()
    yield deployment


def tail(deployment: Deployment, *arguments: str) -> list[dict[str, Any]]:
    """Run the command in this process, which takes a tenth of the time of one of its own."""
    said = io.StringIO()
    with mock.patch.dict(os.environ, deployment.environment, clear=True), redirect_stdout(said):
        cli.main(["tail", *arguments], prog_name="manifold", standalone_mode=False)
    return [json.loads(line) for line in said.getvalue().splitlines()]


def test_a_process_of_its_own_prints_the_same(loaded: Deployment) -> None:
    done = loaded.run("tail", CANDLES)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == tail(loaded, CANDLES)


def test_a_record_has_the_shape_of_rpk(loaded: Deployment) -> None:
    (shown,) = tail(loaded, CANDLES, "--instrument", "EUR_USD", "-n", "1")
    first = next(
        e for e in loaded.events(CANDLES) if isinstance(e, Candle) and e.instrument == "EUR_USD"
    )
    assert list(shown) == ["topic", "key", "value", "timestamp", "partition", "offset"]
    assert shown["topic"] == loaded.runtime.topic(CANDLES)
    assert (shown["key"], shown["timestamp"]) == ("EUR_USD", first.as_of_ms)
    value = json.loads(shown["value"])
    assert value["bar_ms"] == first.bar_ms
    # an optional value carries the name of its type
    assert value["volume"] == {"long": first.volume}


def test_an_instrument_shows_its_records_only_and_all_of_them_in_order(loaded: Deployment) -> None:
    shown = tail(loaded, CANDLES, "--instrument", "USD_JPY")
    wanted = [
        e.as_of_ms
        for e in loaded.events(CANDLES)
        if isinstance(e, Candle) and e.instrument == "USD_JPY"
    ]
    assert {s["key"] for s in shown} == {"USD_JPY"}
    assert [s["timestamp"] for s in shown] == wanted


def test_partitions_are_merged_by_time(loaded: Deployment) -> None:
    stamps = [s["timestamp"] for s in tail(loaded, CANDLES)]
    assert len(stamps) == len(loaded.events(CANDLES))
    assert stamps == sorted(stamps)


def test_from_an_instant_from_the_end_and_the_last_few(loaded: Deployment) -> None:
    every = tail(loaded, CANDLES)
    middle = every[len(every) // 2]["timestamp"]
    later = [s for s in every if s["timestamp"] >= middle]
    assert tail(loaded, CANDLES, "--from", f"@{middle}") == later
    assert tail(loaded, CANDLES, "--from", "end") == []
    assert tail(loaded, CANDLES, "--last", "3") == every[-3:]
    assert tail(loaded, CANDLES, "-n", "3") == every[:3]


@functools.cache
def whole(deployment: Deployment, topic: str) -> tuple[dict[str, Any], ...]:
    """Return all of a topic that nothing is written to any more."""
    return tuple(tail(deployment, topic))


def by_partition(shown: list[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for item in shown:
        found[item["partition"]].append(item)
    return dict(found)


# -- what a derived record shows -----------------------------------------------------------------


def test_headers_are_a_list_of_key_and_value_between_the_value_and_the_time(
    derived: Deployment,
) -> None:
    (shown,) = tail(derived, SIGNALS, "--instrument", "EUR_USD", "-n", "1")
    assert list(shown) == ["topic", "key", "value", "headers", "timestamp", "partition", "offset"]
    assert [list(header) for header in shown["headers"]] == [["key", "value"]] * 3
    headers = {header["key"]: header["value"] for header in shown["headers"]}
    assert headers.keys() == {"source", "engine", "config_id"}
    assert headers["config_id"] == json.loads(shown["value"])["config_id"]


@pytest.mark.parametrize(("topic", "source"), [(SIGNALS, CANDLES), (GATES, MANIFOLDS)])
def test_the_source_header_names_the_record_it_was_derived_from(
    derived: Deployment, topic: str, source: str
) -> None:
    inputs = {f"{source}-{s['partition']}-{s['offset']}": s for s in whole(derived, source)}
    shown = tail(derived, topic, "--instrument", "EUR_USD", "-n", "3")
    for item in shown:
        (place,) = [h["value"] for h in item["headers"] if h["key"] == "source"]
        assert inputs[place]["timestamp"] == item["timestamp"]


def test_a_fact_without_headers_shows_none(derived: Deployment) -> None:
    assert not any("headers" in shown for shown in whole(derived, CANDLES))


def test_an_optional_number_carries_double_and_a_missing_one_is_null(derived: Deployment) -> None:
    shown = [
        json.loads(s["value"])["score"] for s in tail(derived, GATES, "--instrument", "EUR_USD")
    ]
    wanted = [
        e.score
        for e in derived.events(GATES)
        if isinstance(e, GateDecision) and e.instrument == "EUR_USD"
    ]
    assert shown == [None if score is None else {"double": score} for score in wanted]
    assert None in shown
    assert any(score is not None for score in shown)


def test_an_optional_record_carries_its_full_name(derived: Deployment) -> None:
    (shown,) = tail(derived, SIGNALS, "--instrument", "USD_JPY", "-n", "1")
    first = next(
        e for e in derived.events(SIGNALS) if isinstance(e, Signal) and e.instrument == "USD_JPY"
    )
    assert first.candle.bid is not None
    value = json.loads(shown["value"])
    assert value["candle"]["bid"] == {"manifold.Ohlc": first.candle.bid._asdict()}
    assert value["candle"]["mid"] == first.candle.mid._asdict()


# -- which records -------------------------------------------------------------------------------


@pytest.mark.parametrize("topic", [SIGNALS, MANIFOLDS, GATES])
def test_an_instrument_of_a_derived_topic_is_shown_without_the_watermarks_and_the_other_pair(
    derived: Deployment, topic: str
) -> None:
    every = list(whole(derived, topic))
    assert {s["key"] for s in every} == {*PAIRS, "~watermark"}
    for pair in PAIRS:
        shown = tail(derived, topic, "--instrument", pair)
        assert shown == [s for s in every if s["key"] == pair]
        assert {json.loads(s["value"])["instrument"] for s in shown} == {pair}


def test_the_watermarks_and_an_unknown_instrument_are_no_instrument(derived: Deployment) -> None:
    assert tail(derived, SIGNALS, "--instrument", "~watermark") == []
    assert tail(derived, SIGNALS, "--instrument", "EUR_CHF") == []


def test_n_stops_after_that_many_and_counts_only_what_is_shown(derived: Deployment) -> None:
    every = list(whole(derived, SIGNALS))
    pair = [s for s in every if s["key"] == "USD_JPY"]
    assert len(pair) > 4
    assert tail(derived, SIGNALS, "-n", "1") == every[:1]
    assert tail(derived, SIGNALS, "-n", "5") == every[:5]
    assert tail(derived, SIGNALS, "-n", str(len(every) + 9)) == every
    assert tail(derived, SIGNALS, "--num", "4", "--instrument", "USD_JPY") == pair[:4]
    assert tail(derived, SIGNALS, "--last", "4", "-n", "2") == every[-4:-2]
    middle = every[len(every) // 2]["timestamp"]
    later = [s for s in every if s["timestamp"] >= middle]
    assert tail(derived, SIGNALS, "--from", f"@{middle}", "-n", "2") == later[:2]


@pytest.mark.parametrize("number", ["0", "-1"])
def test_n_of_nothing_is_refused(derived: Deployment, number: str) -> None:
    done = derived.run("tail", SIGNALS, "-n", number)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "-n" in done.stderr


@pytest.mark.parametrize("topic", [CANDLES, SIGNALS, GATES, WEIGHTS])
@pytest.mark.parametrize("count", [1, 5, 10**20])
def test_from_minus_n_begins_n_records_before_the_end_of_each_partition(
    derived: Deployment, topic: str, count: int
) -> None:
    every = by_partition(list(whole(derived, topic)))
    shown = by_partition(tail(derived, topic, "--from", f"-{count}"))
    assert shown == {partition: items[-count:] for partition, items in every.items()}


def test_from_minus_n_of_an_instrument_looks_at_no_more_records_than_that(
    derived: Deployment,
) -> None:
    shown = [s for s in tail(derived, SIGNALS, "--from", "-4") if s["key"] == "EUR_USD"]
    assert shown
    assert tail(derived, SIGNALS, "--from", "-4", "--instrument", "EUR_USD") == shown


@pytest.mark.parametrize(
    ("where", "since_ms"),
    [
        ("2024-03-04", 1_709_510_400_000),
        ("2024-03-04T07:10", 1_709_536_200_000),
        ("2024-03-04T08:10+01:00", 1_709_536_200_000),
        ("2024-03-04T07:10:00.001Z", 1_709_536_200_001),
        ("2024-03-05", 1_709_596_800_000),
    ],
)
def test_from_a_time_is_what_was_known_then_or_later(
    loaded: Deployment, where: str, since_ms: int
) -> None:
    wanted = [s for s in whole(loaded, CANDLES) if s["timestamp"] >= since_ms]
    assert tail(loaded, CANDLES, "--from", where) == wanted


@pytest.mark.parametrize("where", ["-3x", "-", "-1.5h", "yesterday"])
def test_from_nowhere_is_one_line_and_prints_nothing(loaded: Deployment, where: str) -> None:
    done = loaded.run("tail", CANDLES, "--from", where)
    assert (done.returncode, done.stdout) == (2, "")
    (said,) = done.stderr.splitlines()
    assert "--from" in said
    assert where in said


AGES_MIN = (3 * 24 * 60 + 5, 30 * 60 + 5, 5 * 60 + 5, 50, 5)


@pytest.fixture(scope="module")
def recent(kafka: KafkaBroker, tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """Two pairs with a candle at each of ``AGES_MIN`` before now."""
    deployment = Deployment(
        tmp_path_factory.mktemp("recent"),
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
        TOPIC_PREFIX=f"t{uuid.uuid4().hex[:8]}.",
        TOPIC_PARTITIONS="2",
    )
    now = int(time.time() * 1000) // MINUTE_MS * MINUTE_MS
    producer = Producer(producer_config(deployment.runtime))
    for age in AGES_MIN:
        for pair in PAIRS:
            known = now - age * MINUTE_MS
            candle: Any = SAMPLES["Candle"]
            candle = candle._replace(instrument=pair, bar_ms=known - MINUTE_MS, as_of_ms=known)
            value = deployment.codec.encode(CANDLES, candle)
            producer.produce(deployment.runtime.topic(CANDLES), value, pair, timestamp=known)
    assert producer.flush(30) == 0
    return deployment


@pytest.mark.parametrize(
    ("span", "candles"),
    [
        ("-7d", 5),
        ("-2d", 4),
        ("-24h", 3),
        ("-2h", 2),
        ("-90m", 2),
        ("-1800s", 1),
        ("-1m", 0),
        ("-0s", 0),
    ],
)
def test_from_a_span_is_counted_back_from_now(recent: Deployment, span: str, candles: int) -> None:
    every = list(whole(recent, CANDLES))
    assert len(every) == 2 * len(AGES_MIN)
    assert tail(recent, CANDLES, "--from", span) == every[len(every) - 2 * candles :]
    pair = [s for s in every if s["key"] == "USD_JPY"]
    wanted = pair[len(pair) - candles :]
    assert tail(recent, CANDLES, "--from", span, "--instrument", "USD_JPY") == wanted


def test_follow_goes_on_with_what_comes_in_until_n_is_reached(
    kafka: KafkaBroker, topic_prefix: str, tmp_path: Path
) -> None:
    deployment = Deployment(
        tmp_path,
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
        TOPIC_PREFIX=topic_prefix,
        TOPIC_PARTITIONS="2",
    )
    candles = market(PAIRS, 8)

    def load(end: int) -> None:
        done = deployment.run("load", write_csv(tmp_path / f"{end}.csv", candles[:end]))
        assert done.returncode == 0, done.stderr

    load(6)
    first = tail(deployment, CANDLES)
    total = len(first) + 3
    following = deployment.start("tail", "tail", CANDLES, "-f", "-n", str(total), once=True)
    output = tmp_path / "tail.log"

    def lines() -> list[str]:
        return output.read_text().splitlines() if output.exists() else []

    try:
        assert deployment.keep_running(PATIENCE_S, lambda: len(lines()) >= len(first))
        assert not following.done
        load(len(candles))
        assert deployment.keep_running(PATIENCE_S, lambda: following.done)
    finally:
        deployment.stop()
    shown = [json.loads(line) for line in lines()]
    assert len(shown) == total
    assert shown[: len(first)] == first
