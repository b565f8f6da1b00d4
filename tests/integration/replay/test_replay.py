"""``manifold replay`` over a real log: what the worker wrote, what if, and twice the same."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streams.config.runtime import Runtime
from streams.kafka.reader import LogReader
from streams.records.topics import GATES, SIGNALS, SUMMARIES, TRADES, WEIGHTS
from streams.stack.kafka import KafkaBroker
from tests.support.deployment import LIVELY, Deployment

pytestmark = pytest.mark.kafka

MARKET = ("feed", "synthetic", "--start", "2024-03-04T10:00", "--pairs", "EUR_USD,GBP_USD,USD_JPY")
BARS = 600
DERIVED = (SIGNALS, TRADES, SUMMARIES, GATES, WEIGHTS)


@pytest.fixture(scope="module")
def lived(kafka: KafkaBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A market that a worker has derived, with new parameters on the way."""
    deployment = Deployment(
        tmp_path_factory.mktemp("lived"),
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
        TOPIC_PREFIX=f"t{uuid.uuid4().hex[:8]}.",
        TOPIC_PARTITIONS="3",
        **LIVELY,
    )
    try:
        for bars in (BARS // 2, BARS):
            assert deployment.run(*MARKET, "--bars", str(bars)).returncode == 0
            said = ("AUTO_DIRECTION_LOOKBACK=5", "EXIT_PNL_TARGET_PCT=0.05", "--reason", "a try")
            assert deployment.run("params", "set", "EUR_USD", *said).returncode == 0
        deployment.start_worker()
        deployment.settle()
        deployment.require_verified()
        yield deployment
    finally:
        deployment.stop()


def payloads(runtime: Runtime, topic: str) -> dict[bytes, list[tuple[int, bytes]]]:
    """Return (time, value) per key in the order of the log."""
    found: dict[bytes, list[tuple[int, bytes]]] = {}
    with LogReader(runtime) as reader:
        for partition in reader.partitions(topic):
            for batch in reader.read(topic, partition):
                for each in batch:
                    record = each.record
                    mine = found.setdefault(record.key or b"", [])
                    mine.append((record.timestamp_ms, record.value or b""))
    return found


def into(lived: Deployment, *arguments: str) -> Runtime:
    """Replay into topics of a new prefix; return where."""
    prefix = f"w{uuid.uuid4().hex[:8]}."
    done = lived.run("replay", "--to-topics", prefix, *arguments)
    assert done.returncode == 0, done.stderr
    return Runtime.from_env(lived.environment | {"TOPIC_PREFIX": prefix})


def summary(lived: Deployment, *arguments: str) -> dict[str, Any]:
    done = lived.run("replay", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_replay_into_topics_is_what_the_worker_wrote(lived: Deployment) -> None:
    made = into(lived)
    for topic in DERIVED:
        wanted, found = payloads(lived.runtime, topic), payloads(made, topic)
        if topic == GATES:
            # one partition for all: watermarks of several partitions lie in the order of arrival
            wanted, found = ({k: sorted(v) for k, v in side.items()} for side in (wanted, found))
        assert found == wanted, topic
    trades = payloads(made, TRADES)
    assert sum(map(len, trades.values())) > 30


def test_the_columns_count_what_the_records_say(lived: Deployment) -> None:
    found = summary(lived)
    by_name = {}
    for trade in lived.events(TRADES):
        by_name.setdefault(trade.instrument, []).append(trade.pnl_bps)
    rows = found["instruments"]
    assert {n: row["figures"]["trades"] for n, row in rows.items()} == {
        name: len(pnl) for name, pnl in by_name.items()
    }
    for name, pnl in by_name.items():
        assert rows[name]["figures"]["pnl_bps"] == pytest.approx(sum(pnl), abs=1e-3)
    assert found["headline"]["epochs"] == len(lived.events(WEIGHTS))
    assert found["signals"] == len([e for e in lived.events(SIGNALS) if hasattr(e, "coherence")])


def test_any_number_of_processes_gives_the_same_bytes(lived: Deployment, tmp_path: Path) -> None:
    pages = set()
    for number in ("1", "2", "3"):
        page, data = tmp_path / f"{number}.html", tmp_path / f"{number}.json"
        files = ("--report", str(page), "--report-json", str(data))
        assert summary(lived, "--processes", number, *files)["headline"]["decisions"] > 1_000
        pages.add((page.read_bytes(), data.read_bytes()))
    assert len(pages) == 1


def test_what_if_twice_gives_the_same_bytes_and_others_than_live(lived: Deployment) -> None:
    what_if = ("--set", "AUTO_MIN_COHERENCE=0.6", "--instruments", "EUR_USD,USD_JPY")
    one, other = into(lived, *what_if), into(lived, *what_if)
    for topic in DERIVED:
        assert payloads(one, topic) == payloads(other, topic), topic
    assert payloads(one, TRADES) != payloads(lived.runtime, TRADES)
    assert set(payloads(one, SIGNALS)) == {b"EUR_USD", b"USD_JPY", b"~watermark"}
    assert payloads(one, SIGNALS)[b"USD_JPY"] != payloads(lived.runtime, SIGNALS)[b"USD_JPY"]


def test_topics_that_hold_something_are_not_written_again(lived: Deployment) -> None:
    made = into(lived, "--topic", TRADES)
    assert payloads(made, SIGNALS) == {}
    done = lived.run("replay", "--to-topics", made.topic_prefix, "--topic", TRADES)
    assert done.returncode == 2
    assert "has records already" in done.stderr
    done = lived.run("replay", "--to-topics", lived.runtime.topic_prefix)
    assert (done.returncode, "the deployment itself" in done.stderr) == (2, True)


def test_a_range_begins_and_ends_by_time(lived: Deployment) -> None:
    whole = summary(lived)["candles"]
    part = summary(lived, "--from", "2024-03-04T12:00", "--to", "2024-03-04T16:00")
    assert 0 < part["candles"] < whole
    lines = lived.run(
        *("replay", "--topic", GATES, "--from", "2024-03-04T12:00", "--to", "2024-03-04T16:00")
    ).stdout.splitlines()
    times = [json.loads(line)["timestamp"] for line in lines]
    assert min(times) >= 1_709_553_600_000 and max(times) <= 1_709_568_000_000
    again = lived.run(
        *("replay", "--topic", GATES, "--from", "2024-03-04T12:00", "--to", "2024-03-04T16:00")
    ).stdout.splitlines()
    assert lines == again
    done = lived.run("replay", "--from", "2031-01-01")
    assert (done.returncode, "has no candles in this time range" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--set", "NO_SUCH=1"), "NO_SUCH"),
        (("--set", "AUTO_MIN_COHERENCE"), "is not NAME=VALUE"),
        (("--set", "AUTO_MIN_COHERENCE=7"), "AUTO_MIN_COHERENCE=7"),
        (("--set", "EVAL_SLICES_DAYS=30,14"), "EVAL_SLICES_DAYS"),
        (("--topic", "md.candles"), "is not a derived topic"),
        (("--instruments", ","), "--instruments is empty"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    lived: Deployment, arguments: tuple[str, ...], said: str
) -> None:
    done = lived.run("replay", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
