"""`manifold report`: what the topics hold, counted once, in one page and as JSON."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from streams.config.settings import Config
from streams.kafka.client import producer_config
from streams.kafka.control_topic import append_control
from streams.records.events import Control, Event
from streams.records.topics import GATES, SUMMARIES, TRADES, WEIGHTS
from streams.stack.kafka import KafkaBroker
from tests.support.deployment import Deployment
from tests.support.sample_events import BAR_MS, SAMPLES

pytestmark = pytest.mark.kafka

PAIRS = ("EUR_USD", "NZD_USD")
MINUTE_MS = 60_000
START_MS = BAR_MS - BAR_MS % MINUTE_MS
BARS = 120
HOSTILE = "<script>alert(1)</script>"
CONFIG = Config(auto_max_entropy=0.85)


def deployed(kafka: KafkaBroker, place: Path) -> Deployment:
    return Deployment(
        place,
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
        TOPIC_PREFIX=f"t{uuid.uuid4().hex[:8]}.",
        TOPIC_PARTITIONS="2",
    )


def write(deployment: Deployment, topic: str, events: list[Any], *, commit: bool = True) -> None:
    """Write records as a stage does: in one transaction, with the engine in a header."""
    settings = producer_config(deployment.runtime)
    producer = Producer(settings | {"transactional.id": f"{deployment.runtime.topic_prefix}test"})
    producer.init_transactions(30)
    producer.begin_transaction()
    for event in events:
        producer.produce(
            deployment.runtime.topic(topic),
            deployment.codec.encode(topic, event),
            getattr(event, "instrument", "portfolio").encode(),
            timestamp=event.as_of_ms,
            headers={"engine": b"qfh-test"},
        )
    if commit:
        producer.commit_transaction(30)
    else:
        producer.flush(30)
        producer.abort_transaction(30)


def at(event: Event, bar: int, **other: Any) -> Any:
    known = START_MS + (bar + 1) * MINUTE_MS
    fields: dict[str, Any] = {"bar_ms": known - MINUTE_MS, "as_of_ms": known}
    return event._replace(**(fields | {"config_id": CONFIG.config_id} | other))  # type: ignore[union-attr]


def decisions(pair: str) -> list[Any]:
    """Every third bar is eligible."""
    return [
        at(
            SAMPLES["GateDecision"],
            bar,
            instrument=pair,
            eligible=bar % 3 == 0,
            reasons=() if bar % 3 == 0 else ("coherence_below_min", "session_closed"),
        )
        for bar in range(BARS)
    ]


def epochs() -> list[Any]:
    found = (at(SAMPLES["Weights"], bar) for bar in range(BARS))
    return [event._replace(epoch_ms=event.as_of_ms) for event in found]


@pytest.fixture(scope="module")
def written(kafka: KafkaBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    deployment = deployed(kafka, tmp_path_factory.mktemp("report"))
    control = Control("config", None, CONFIG.to_json(), "test", "first", START_MS)
    append_control(deployment.runtime, deployment.codec, [control])
    # an instrument that was loaded later lies behind another's later times
    write(deployment, GATES, decisions(PAIRS[0]))
    write(deployment, GATES, decisions(PAIRS[1]))
    write(deployment, GATES, decisions("AUD_USD"), commit=False)
    write(deployment, WEIGHTS, epochs())
    trade = SAMPLES["SimulatedTrade"]
    write(
        deployment,
        TRADES,
        [
            at(trade, bar, instrument=PAIRS[bar % 2], pnl_bps=float(pnl), exit_reason=HOSTILE)
            for bar, pnl in ((10, 5), (20, -8), (31, 2), (90, 4))
        ],
    )
    write(deployment, SUMMARIES, [at(SAMPLES["Summary"], bar) for bar in (15, 30)])
    yield deployment


def report(deployment: Deployment, *arguments: str) -> Any:
    done = deployment.run("report", "--json", "-", *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_report_counts_what_was_committed_once(written: Deployment) -> None:
    data = report(written)
    assert data["instruments"] == list(PAIRS)
    for pair in PAIRS:
        assert sum(data["gates"][pair]["decisions"]) == BARS
        assert sum(data["gates"][pair]["eligible"]) == BARS / 3
        assert sum(data["gates"][pair]["reasons"]["session_closed"]) == BARS * 2 / 3
    assert data["headline"]["figures"]["pnl_bps"] == 3
    assert data["headline"]["figures"]["max_drawdown_bps"] == 8
    assert data["headline"]["epochs"] == BARS
    assert [one["instrument"] for one in data["summaries"]] == ["EUR_USD"]
    header = data["header"]
    assert header["config_id"] == CONFIG.config_id
    assert header["config_ids"] == [CONFIG.config_id]
    assert header["engines"] == ["qfh-test"]
    assert (header["from_ms"], header["to_ms"]) == (
        START_MS + MINUTE_MS,
        START_MS + BARS * MINUTE_MS,
    )
    records: dict[str, int] = {}
    for span in header["log"]:
        records[span["topic"]] = records.get(span["topic"], 0) + span["records"]
        assert span["start"] <= span["end"]
    assert records[GATES] == 2 * BARS
    assert (records[TRADES], records[SUMMARIES], records[WEIGHTS]) == (4, 2, BARS)
    entropy = next(row for row in data["config"] if row["name"] == "AUTO_MAX_ENTROPY")
    assert (entropy["value"], entropy["changed"]) == ("0.85", True)


def test_from_and_to_are_both_included_wherever_the_records_lie(written: Deployment) -> None:
    first, last = START_MS + 11 * MINUTE_MS, START_MS + 32 * MINUTE_MS
    data = report(written, "--from", f"@{first}", "--to", f"@{last}")
    for pair in PAIRS:
        assert sum(data["gates"][pair]["decisions"]) == 22
    assert data["headline"]["epochs"] == 22
    assert data["trades"]["columns"]["pnl_bps"] == [5, -8, 2]
    assert (data["header"]["from_ms"], data["header"]["to_ms"]) == (first, last)


def test_instruments_leave_the_others_out(written: Deployment) -> None:
    data = report(written, "--instruments", "nzd/usd")
    assert data["instruments"] == ["NZD_USD"]
    assert list(data["allocation"]["weight"]) == ["NZD_USD"]
    assert data["headline"]["epochs"] == BARS


def test_the_page_is_one_file_with_the_json_inside_and_the_same_every_time(
    written: Deployment, tmp_path: Path
) -> None:
    first, second, text = tmp_path / "a.html", tmp_path / "b.html", tmp_path / "a.json"
    done = written.run("report", "-o", str(first), "--json", str(text))
    assert done.returncode == 0, done.stderr
    assert f"{first}: 4 trades, 240 decisions, 120 epochs" in done.stdout
    assert written.run("report", "-o", str(second)).returncode == 0
    assert first.read_bytes() == second.read_bytes()
    page = first.read_text(encoding="utf-8")
    assert HOSTILE not in page
    assert "EUR_USD" in page
    assert json.loads(text.read_text())["trades"]["exit_reasons"] == [HOSTILE]


def test_topics_without_a_record_give_a_page_that_says_so(
    kafka: KafkaBroker, tmp_path: Path
) -> None:
    deployment, page = deployed(kafka, tmp_path), tmp_path / "empty.html"
    done = deployment.run("report", "-o", str(page))
    assert done.returncode == 0, done.stderr
    assert f"{TRADES} has no records in this time range" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--from", "yesterday"), "--from"),
        (("--to", "-3x"), "--to"),
        (("--from", "2024-02-01", "--to", "2024-01-01"), "is after"),
        (("--instruments", " , "), "--instruments"),
        (("--instruments", "EUR_CHF"), "EUR_USD, NZD_USD"),
        (("-o", "none/there/report.html"), "none/there"),
        (("-o", "-", "--json", "-"), "standard output"),
    ],
)
def test_bad_input_is_one_sentence(
    written: Deployment, arguments: tuple[str, ...], named: str
) -> None:
    done = written.run("report", *arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert named in done.stderr.splitlines()[-1]
