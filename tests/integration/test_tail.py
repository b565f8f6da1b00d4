"""`manifold tail`: each record in the shape of `rpk topic consume`, and which records."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from streams.events import Candle
from streams.stack.kafka import KafkaBroker
from streams.topics import CANDLES
from tests.candle_files import market, write_csv
from tests.deployment import Deployment

pytestmark = pytest.mark.kafka


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


def tail(deployment: Deployment, *arguments: str) -> list[dict[str, Any]]:
    done = deployment.run("tail", *arguments)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


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
