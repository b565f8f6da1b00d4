"""Loading files into a real Kafka: only what is newer, once; what is wrong is named."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path
from typing import Any

import pytest
from aiokafka.partitioner import DefaultPartitioner
from confluent_kafka import Producer

from streams.config.settings import Config
from streams.feeds.oanda_instrument import Resume
from streams.feeds.oanda_resume import resumes
from streams.feeds.plan import FeedPlan
from streams.feeds.writer import FactWriter, bars_of, write_feed
from streams.kafka.client import producer_config
from streams.kafka.control_topic import read_control
from streams.kafka.partitioner import partition_of
from streams.kafka.reader import LogReader
from streams.process.child import free_port
from streams.records.control import ControlLog
from streams.records.events import WATERMARK_KEY, Candle, Ohlc, Watermark
from streams.records.topics import CANDLES, CONTROL
from streams.stack.kafka import KafkaBroker
from tests.support.candle_files import csv_line, market, write_csv
from tests.support.deployment import Deployment
from tests.support.waiting import PATIENCE_S

pytestmark = pytest.mark.kafka

PAIRS = ("AUD_USD", "EUR_USD", "GBP_USD", "NZD_USD", "USD_JPY")
BARS = 200


@pytest.fixture
def deployment(kafka: KafkaBroker, topic_prefix: str, tmp_path: Path) -> Deployment:
    return Deployment(
        tmp_path,
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
        TOPIC_PREFIX=topic_prefix,
        TOPIC_PARTITIONS="3",
    )


def load(deployment: Deployment, *arguments: str, code: int = 0) -> dict[str, Any]:
    done = deployment.run("load", "--json", *arguments)
    assert done.returncode == code, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def ends(deployment: Deployment) -> dict[str, list[int]]:
    with LogReader(deployment.runtime) as reader:
        return {
            topic: [reader.bounds(topic, p)[1] for p in reader.partitions(topic)]
            for topic in (CANDLES, CONTROL)
        }


def candles(deployment: Deployment) -> list[Candle]:
    return [event for event in deployment.events(CANDLES) if isinstance(event, Candle)]


def test_the_same_file_again_writes_nothing_and_a_longer_one_only_what_is_newer(
    deployment: Deployment, tmp_path: Path
) -> None:
    every = market(PAIRS, BARS)
    path = write_csv(tmp_path / "a.csv", every[:600])
    first = load(deployment, path)
    assert (first["written"], first["already_there"], first["refused"]) == (600, 0, 0)
    before = ends(deployment)
    assert load(deployment, path) == first | {
        "written": 0,
        "already_there": 600,
        "watermarks": 0,
    }
    assert ends(deployment) == before, "candles, watermarks or the universe were written again"

    longer = load(deployment, write_csv(tmp_path / "b.csv", every))
    assert (longer["written"], longer["already_there"]) == (len(every) - 600, 600)
    assert sorted(c._replace(source="synthetic") for c in candles(deployment)) == sorted(every)


def test_rows_in_any_order_of_any_files_come_into_each_partition_by_time(
    deployment: Deployment, tmp_path: Path
) -> None:
    every = market(PAIRS, 50)
    one = write_csv(tmp_path / "a.csv", every[::-2])
    other = write_csv(tmp_path / "b.csv", every[-2::-2])
    assert load(deployment, one, other)["written"] == len(every)
    with LogReader(deployment.runtime) as reader:
        for partition in reader.partitions(CANDLES):
            stamps = [
                item.record.timestamp_ms
                for batch in reader.read(CANDLES, partition)
                for item in batch
            ]
            assert stamps == sorted(stamps)


def test_every_key_is_where_other_clients_look_for_it_and_every_record_is_stamped_with_its_end(
    deployment: Deployment, tmp_path: Path
) -> None:
    load(deployment, write_csv(tmp_path / "a.csv", market(PAIRS, 5)))
    seen = set()
    with LogReader(deployment.runtime) as reader:
        partitions = reader.partitions(CANDLES)
        for partition in partitions:
            for batch in reader.read(CANDLES, partition):
                for item in batch:
                    key, event = item.record.key, item.record.value
                    decoded: Any = deployment.codec.decode(CANDLES, event)
                    assert item.record.timestamp_ms == decoded.as_of_ms
                    if isinstance(decoded, Watermark):
                        continue
                    assert key is not None
                    assert key.decode() == decoded.instrument
                    assert partition == DefaultPartitioner()(key, partitions, partitions)
                    seen.add(decoded.instrument)
    assert seen == set(PAIRS)


def test_bad_lines_are_named_and_the_good_ones_go_in(
    deployment: Deployment, tmp_path: Path
) -> None:
    every = market(("EUR_USD",), 20)
    path = write_csv(
        tmp_path / "a.csv",
        every,
        csv_line(every[0]),
        csv_line(every[1]._replace(volume=12_345)),
        csv_line(every[2]).replace("EUR_USD,M1,1", "EUR_USD,M1,x", 1),
        "1,2",
    )
    listed = tmp_path / "refused.jsonl"
    done = deployment.run("load", path, "--refused", str(listed))
    assert done.returncode == 3
    at = len(every) + 1
    refused = [json.loads(line) for line in listed.read_text().splitlines()]
    assert sorted((r["line"], r["reason"]) for r in refused) == [
        (at + 2, "conflict"),
        (at + 3, "bad_number"),
        (at + 4, "bad_csv"),
    ]
    for found in refused:
        assert f"{path}:{found['line']}: refused: {found['reason']}" in done.stderr
    assert "1 duplicates, 3 refused" in done.stdout
    assert "Traceback" not in done.stderr
    assert len(candles(deployment)) == len(every)


def test_what_the_log_is_past_is_refused_as_conflict_or_out_of_order(
    deployment: Deployment, tmp_path: Path
) -> None:
    every = market(("EUR_USD",), 20)
    load(deployment, write_csv(tmp_path / "a.csv", [*every[:5], *every[6:]]))
    before = ends(deployment)
    again = [every[4]._replace(volume=12_345), every[5], every[7]]
    found = load(deployment, write_csv(tmp_path / "b.csv", again), code=3)
    assert (found["written"], found["already_there"]) == (0, 1)
    assert found["refused_by_reason"] == {"conflict": 1, "out_of_order": 1}
    assert ends(deployment) == before


def test_the_candles_of_an_older_engine_are_there_already(
    deployment: Deployment, tmp_path: Path
) -> None:
    every = market(("EUR_USD",), 20)
    # what (bid + ask) / 2 made of them in binary
    old = [
        c._replace(mid=Ohlc(*((b + a) / 2 for b, a in zip(c.bid, c.ask, strict=True))))
        for c in every
        if c.bid and c.ask
    ]
    assert old != every
    config = Config.from_env(deployment.environment)
    writer = FactWriter(deployment.runtime, deployment.codec, config, old[0].bar_ms)
    plan = FeedPlan(("EUR_USD",), "M1", writer.partitions)
    write_feed(writer, plan, bars_of(old[:15]), old[0].bar_ms)
    found = load(deployment, write_csv(tmp_path / "a.csv", every))
    assert (found["already_there"], found["written"], found["refused"]) == (15, len(every) - 15, 0)


def test_crossed_quotes_are_named_and_the_rest_goes_in(
    deployment: Deployment, tmp_path: Path
) -> None:
    every = market(("EUR_USD",), 20)
    crossed = [c._replace(bid=c.ask, ask=c.bid) for c in every[5:8]]
    path = write_csv(tmp_path / "a.csv", [*every[:5], *crossed, *every[8:]])
    done = deployment.run("load", path)
    assert done.returncode == 3
    assert [line for line in done.stderr.splitlines() if "refused: crossed_quote: open: " in line]
    assert len(candles(deployment)) == len(every) - 3


def test_a_dry_run_writes_nothing_and_needs_no_broker(
    deployment: Deployment, tmp_path: Path
) -> None:
    path = write_csv(tmp_path / "a.csv", market(PAIRS, 5))
    done = deployment.run(
        "load", "--dry-run", path, KAFKA_BOOTSTRAP_SERVERS=f"127.0.0.1:{free_port()}"
    )
    assert done.returncode == 0, done.stderr
    assert "checked" in done.stdout
    assert ends(deployment)[CANDLES] == [0, 0, 0]


def test_a_damaged_or_missing_file_stops_the_load_before_anything_is_written(
    deployment: Deployment, tmp_path: Path
) -> None:
    good = write_csv(tmp_path / "a.csv", market(PAIRS, 40))
    torn = tmp_path / "torn.csv.gz"
    torn.write_bytes(gzip.compress(Path(good).read_bytes())[:2_000])
    for path, said in ((torn, "truncated gzip"), (tmp_path / "no.csv", "No such file")):
        done = deployment.run("load", good, str(path))
        assert done.returncode == 2
        (sentence,) = [line for line in done.stderr.splitlines() if line.startswith("manifold: ")]
        assert str(path) in sentence
        assert said in sentence
        assert "Traceback" not in done.stderr
    assert ends(deployment)[CANDLES] == [0, 0, 0]


def test_a_load_that_was_cut_off_is_completed_by_the_same_command(
    deployment: Deployment, tmp_path: Path
) -> None:
    every = market(PAIRS, 60)
    whole = write_csv(tmp_path / "whole.csv", every)
    load(deployment, write_csv(tmp_path / "part.csv", every[:97]))
    rest = load(deployment, whole)
    assert (rest["already_there"], rest["written"]) == (97, len(every) - 97)
    assert load(deployment, whole)["watermarks"] == 0


def test_what_the_stages_refuse_and_a_watermark_of_the_future_move_no_feed(
    deployment: Deployment, tmp_path: Path
) -> None:
    """Whoever may write to ``md.candles`` cannot make a feed believe that the log is complete."""
    now_ms = int(time.time() * 1000)
    bar_ms = now_ms // 60_000 * 60_000 - 3_600_000
    whole = [
        one._replace(bar_ms=bar_ms + at * 60_000) for at, one in enumerate(market(PAIRS[1:2], 30))
    ]
    load(deployment, write_csv(tmp_path / "part.csv", whole[:20]))
    name = PAIRS[1]
    control = read_control(deployment.runtime, deployment.codec)
    before = resume(deployment, control, now_ms)
    assert before.frontier_ms == bar_ms + 20 * 60_000

    partition = partition_of(name.encode(), 3)
    far_ms, late = now_ms + 3_400_000, whole[-1]
    mark = Watermark(far_ms, "M1", control.end, (name,))
    producer = Producer(producer_config(deployment.runtime))
    for event, stamp_ms, under in (
        (mark, far_ms, WATERMARK_KEY),
        (mark._replace(as_of_ms=now_ms, control_offset=10**9), now_ms, WATERMARK_KEY),
        (mark._replace(as_of_ms=now_ms), now_ms, name.encode()),
        (mark._replace(as_of_ms=now_ms), now_ms - 120_000, WATERMARK_KEY),
        (late, now_ms, b"GBP_USD"),
        (late, bar_ms, name.encode()),
    ):
        producer.produce(
            deployment.runtime.topic(CANDLES),
            deployment.codec.encode(CANDLES, event),
            under,
            partition,
            timestamp=stamp_ms,
        )
    assert producer.flush(PATIENCE_S) == 0
    assert resume(deployment, control, now_ms) == before
    # when that time has come, it is a watermark like any other
    assert resume(deployment, control, far_ms).frontier_ms == far_ms

    path = write_csv(tmp_path / "whole.csv", whole)
    rest = load(deployment, path)
    assert (rest["already_there"], rest["written"], rest["refused"]) == (20, 10, 0)
    again = load(deployment, path)
    assert (again["already_there"], again["written"], again["watermarks"]) == (30, 0, 0)


def resume(deployment: Deployment, control: ControlLog, now_ms: int) -> Resume:
    name = PAIRS[1]
    found = resumes(deployment.runtime, deployment.codec, [name], "M1", 3, 0, now_ms, control)
    return found[name]
