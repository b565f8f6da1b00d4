"""The stage ``signals`` alone on a real Kafka, next to frameworks that do the same work.

Every contender runs our codec, engine and step, and writes both outputs with their headers, so that
what differs is the framework. Each is one process on the cores that the broker is on, too. It is
started, gets bars to warm up on, and then the same candles in lots; a lot begins when its first
candle is written and ends when its last output can be read.
"""

from __future__ import annotations

import itertools
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from confluent_kafka import Producer

from streams.kafka.client import producer_config
from streams.kafka.reader import LogReader
from streams.process.child import Child
from streams.records.log_record import SourceRecord
from streams.records.topics import CANDLES, CONTROL, MANIFOLDS, SIGNALS
from tests.perf.bench_market import BAR_MS, PAIRS, START_MS, Deploy, deployments, fill
from tests.perf.peer_environment import ROOT, PeerFailed, installed
from tests.perf.rows import ROUNDS, Row, row
from tests.perf.topic_watch import TopicWatch, derived_records
from tests.support.deployment import Deployment

SEED_BARS, WARM_UP_BARS, LOT_BARS = 10, 400, 5_000
TIMEOUT_S = 300.0
QUIX_PINS = ("quixstreams==3.28.1",)
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
MEASURE = (
    "candles of a lot / (last output readable - first candle written), median of {lots} lots of "
    "{candles:,} candles after a warm-up, start-up not in it; worker and broker share all cores"
)


class Contender(NamedTuple):
    """A process that derives ``sep.signals`` and ``sep.manifolds``.

    Attributes
    ----------
    key, name
        What rows call it.
    arguments
        Of Python: a module and what it takes.
    note
        What it does and what it does not do.
    exactly_once
        Whether an output may be there only once.
    pins
        What its own environment has; none where it runs in ours.
    ready
        What its log says before candles may come; empty where it takes those that are there.
    """

    key: str
    name: str
    arguments: tuple[str, ...]
    note: str
    exactly_once: bool = True
    pins: tuple[str, ...] = ()
    ready: bytes = b""


FAUST_READY = b"Worker ready"
OURS = Contender(
    "ours",
    "manifold-streams",
    ("tests.perf.signals_worker",),
    "exactly once, a transaction a partition of at most 1,000 records with outputs, state and "
    "offset; fencing, check for lost records, deadlines, metrics",
)
PEERS = (
    *(
        Contender(
            f"confluent{size}",
            f"bare confluent-kafka loop, {size:,} records a transaction",
            ("tests.perf.peer_confluent", str(size)),
            "exactly once while it runs: outputs, state and offsets in one transaction over all "
            "partitions; no restore, no fencing by partition, no check for lost records, no "
            "deadline, no metrics, no handling of errors",
        )
        for size in (1_000, 5_000)
    ),
    *(
        Contender(
            f"quix-{mode}",
            f"Quix Streams {QUIX_PINS[0].partition('==')[2]}, exactly once, {what}",
            ("tests.perf.peer_quix", mode),
            note + "; watermarks go where their key hashes to; with confluent-kafka 2.12, it "
            "excludes newer ones",
            pins=QUIX_PINS,
        )
        for mode, what, note in (
            (
                "stateful",
                "state in its store",
                "changed rows set for every candle (it has no hook for a batch)",
            ),
            (
                "stateless",
                "state in memory alone",
                "what it knows is lost when it ends: cannot be restarted",
            ),
        )
    ),
    Contender(
        "faust-tuned",
        "Faust, tuned",
        ("tests.perf.peer_faust_tuned", "worker", "-l", "info"),
        "at least once: batches of 1,000 in and whole batches out, large buffers, lz4, uvloop, "
        "state by the batch",
        exactly_once=False,
        ready=FAUST_READY,
    ),
    Contender(
        "faust-plain",
        "Faust, its defaults",
        ("tests.perf.peer_faust_plain", "worker", "-l", "info"),
        "at least once: one event at a time, a table, send",
        exactly_once=False,
        ready=FAUST_READY,
    ),
)


class Lots(NamedTuple):
    """Records of ``md.candles`` in the order of their times: to warm up on, and to measure by."""

    warm_up: list[SourceRecord]
    measured: list[list[SourceRecord]]


def rows() -> list[Row]:
    """Measure and return the rows of the table, ours first."""
    with deployments() as (deploy, directory):
        lots = _lots(deploy)
        ours = _measured(OURS, deploy, directory, lots)
        found = [ours]
        for peer in PEERS:
            theirs = _measured(peer, deploy, directory, lots)
            found.append(theirs)
            if theirs["value"] is not None:
                ours["ratios"][peer.name] = ours["value"] / theirs["value"]
        return found


def _lots(deploy: Deploy) -> Lots:
    """Write the whole market once, and take its records from the log."""
    template = deploy("template")
    fill(template, WARM_UP_BARS + ROUNDS * LOT_BARS)
    records: list[SourceRecord] = []
    with LogReader(template.runtime) as reader:
        for partition in reader.partitions(CANDLES):
            for batch in reader.read(CANDLES, partition):
                records += [found.record for found in batch]
    # times ascend within a partition, so its order stays
    records.sort(key=lambda record: (record.timestamp_ms, record.partition, record.offset))
    # a bar is not a minute after the one before it: the market closes at weekends
    times = sorted({r.timestamp_ms for r in records if r.timestamp_ms > START_MS})
    if len(times) != WARM_UP_BARS + ROUNDS * LOT_BARS:
        raise RuntimeError(f"the log holds {len(times):,} bar times")
    ends = [times[bars - 1] for bars in (SEED_BARS, *_lot_ends())]
    parts = [
        [record for record in records if begin < record.timestamp_ms <= end]
        for begin, end in itertools.pairwise(ends)
    ]
    return Lots(parts[0], parts[1:])


def _lot_ends() -> list[int]:
    return [WARM_UP_BARS + LOT_BARS * number for number in range(ROUNDS + 1)]


def _measured(contender: Contender, deploy: Deploy, directory: Path, lots: Lots) -> Row:
    measure = MEASURE.format(lots=ROUNDS, candles=LOT_BARS * PAIRS)
    key, name = f"signals.{contender.key}", f"md.candles to both outputs: {contender.name}"
    try:
        python = sys.executable
        if contender.pins:
            python = str(installed("quixstreams", contender.pins, ours_behind=True))
    except PeerFailed as failed:
        return row(key, name, None, "candles/s", measure, note=f"not measured: {failed}")
    deployment = deploy(contender.key)
    fill(deployment, SEED_BARS)
    child = Child(
        contender.name,
        [python, "-m", *contender.arguments],
        directory / f"{contender.key}.log",
        env=deployment.environment | {"PEER_DATADIR": str(directory / contender.key)},
        cwd=ROOT,
    )
    child.start()
    try:
        if contender.ready:
            child.wait_until(lambda: contender.ready in child.log.read_bytes(), 60.0)
        _through(deployment, child, lots.warm_up, (WARM_UP_BARS - SEED_BARS - 128) * PAIRS)
        done = [_through(deployment, child, lot, LOT_BARS * PAIRS) for lot in lots.measured]
    except RuntimeError as error:
        raise RuntimeError(f"{contender.name}: {error} {child.last_output(20)}") from error
    finally:
        child.kill()
    repeated = _require_all(contender, deployment)
    rate = statistics.median(rate for rate, _ in done)
    cpu_us = statistics.median(cpu_us for _, cpu_us in done)
    note = f"{contender.note}; {cpu_us:.0f} us of CPU a candle in its process"
    if repeated:
        note += f"; {repeated:,} outputs are there twice"
    return row(key, name, rate, "candles/s", measure, note=note)


def _through(
    deployment: Deployment, child: Child, records: Sequence[SourceRecord], candles: int
) -> tuple[float, float]:
    """Write records; return candles/s until the last output is there, and us of CPU a candle."""
    runtime = deployment.runtime
    producer = Producer(producer_config(runtime) | {"queue.buffering.max.messages": 1_000_000})
    name = runtime.topic(CANDLES)
    producer.list_topics(name, 30.0)
    watch = TopicWatch(runtime, (SIGNALS, MANIFOLDS))
    cpu_s, begun = _cpu_s(child.pid), time.monotonic()
    for record in records:
        producer.produce(
            name, record.value, record.key, record.partition, timestamp=record.timestamp_ms
        )
    producer.flush()
    least = {SIGNALS: candles, MANIFOLDS: candles}
    seen = watch.until_quiet(least, TIMEOUT_S, lambda: child.running)
    last = max(topic.last for topic in seen.values())
    return candles / (last - begun), (_cpu_s(child.pid) - cpu_s) / candles * 1e6


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def _require_all(contender: Contender, deployment: Deployment) -> int:
    """Return how many outputs are there more than once; every candle of the lots must have both."""
    with LogReader(deployment.runtime) as reader:
        control = reader.bounds(CONTROL, 0)[1]
    after_ms, repeated = START_MS + BAR_MS * WARM_UP_BARS, 0
    for topic in (SIGNALS, MANIFOLDS):
        count, distinct = derived_records(deployment.runtime, topic, after_ms)
        wanted = ROUNDS * LOT_BARS * PAIRS
        if distinct != wanted or (contender.exactly_once and count != distinct):
            raise RuntimeError(
                f"{contender.name}: {topic} has {count:,} records of {distinct:,} bars, "
                f"{wanted:,} are right; ops.control has {control}"
            )
        repeated += count - distinct
    return repeated


if __name__ == "__main__":
    for measured in rows():
        print(measured)
