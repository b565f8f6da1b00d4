"""Recorded candles through the whole chain: files, log, worker, mirror, and every question asked.

One deployment on a real Kafka and a real Valkey is filled once; the tests read it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis

from streams.records.events import Candle, GateDecision, Manifold, Signal, Weights
from streams.records.topics import CANDLES, DEAD_LETTERS, GATES, MANIFOLDS, SIGNALS, WEIGHTS
from streams.stack.kafka import KafkaBroker
from tests.support.candle_files import market, write_csv
from tests.support.deployment import WARM_UP_CANDLES, Deployment

pytestmark = pytest.mark.kafka

MADE = (SIGNALS, MANIFOLDS, GATES, WEIGHTS)
PAIRS = ("EUR_USD", "NZD_USD")


@pytest.fixture(scope="module")
def chain(
    kafka: KafkaBroker,
    new_database: Callable[[], str],
    shared_data: Path | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Deployment]:
    """Everything loaded, derived and mirrored; worker and mirror have been told to stop."""
    place = tmp_path_factory.mktemp("chain")
    deployment = Deployment(
        place,
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
        TOPIC_PREFIX=f"t{uuid.uuid4().hex[:8]}.",
        TOPIC_PARTITIONS="4",
        VALKEY_URL=new_database(),
    )
    worker = deployment.start_worker()
    mirror = deployment.start("mirror", "mirror")
    try:
        done = deployment.run("load", *candle_files(shared_data, place))
        assert done.returncode == 0, done.stderr
        deployment.settle()
        yield deployment
        assert worker.stop() == 0, worker.child.last_output(8)
        assert mirror.stop() == 0, mirror.child.last_output(8)
        assert worker.restarts == mirror.restarts == 0
    finally:
        deployment.stop()


def candle_files(shared_data: Path | None, place: Path) -> list[str]:
    """Return the recorded minutes, or seeded synthetic ones where those are not there."""
    if shared_data is not None:
        return [str(shared_data / f"oanda-{pair}-M1-2014-05.csv.gz") for pair in PAIRS]
    return [write_csv(place / "market.csv", market(PAIRS, 3_000))]


def bars(deployment: Deployment, topic: str, kind: type[Any]) -> dict[str, list[int]]:
    """Return the bars of each instrument in a topic, in the order of the log."""
    found: dict[str, list[int]] = {pair: [] for pair in PAIRS}
    for event in deployment.events(topic):
        if isinstance(event, kind):
            found[event.instrument].append(event.bar_ms)
    return found


def test_a_signal_and_a_manifold_per_candle_from_the_129th_on(chain: Deployment) -> None:
    wanted = {
        pair: starts[WARM_UP_CANDLES - 1 :] for pair, starts in bars(chain, CANDLES, Candle).items()
    }
    assert all(wanted.values())
    assert bars(chain, SIGNALS, Signal) == wanted
    assert bars(chain, MANIFOLDS, Manifold) == wanted


def test_one_decision_an_instrument_at_every_bar_and_one_weights_record_an_epoch(
    chain: Deployment,
) -> None:
    chain.require_exact()
    decisions = [e for e in chain.events(GATES) if isinstance(e, GateDecision)]
    epochs = [e for e in chain.events(WEIGHTS) if isinstance(e, Weights)]
    decided = Counter((d.instrument, d.as_of_ms) for d in decisions)
    for epoch in epochs:
        assert all(decided[pair, epoch.epoch_ms] == 1 for pair in PAIRS)
    assert {epoch.universe for epoch in epochs} == {PAIRS}


def test_good_candles_make_no_dead_letters(chain: Deployment) -> None:
    assert chain.events(DEAD_LETTERS) == []


def test_deriving_everything_again_gives_the_same_bytes(chain: Deployment) -> None:
    done = chain.run("verify", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["passed"]
    assert set(report["unprocessed"].values()) == {0}
    signals = len(chain.events(SIGNALS))
    assert report["topics"][SIGNALS]["compared"] == signals
    assert all(found["compared"] for name, found in report["topics"].items() if name in MADE)


def test_the_followed_mirror_equals_a_rebuilt_one(chain: Deployment, valkey_url: str) -> None:
    chain.require_mirror_equals_rebuild(valkey_url)


def test_status_says_what_the_log_says(chain: Deployment) -> None:
    done = chain.run("status", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found["lag"].values()) == {0}
    assert tuple(found["instruments"]) == PAIRS
    last = {d.instrument: d for d in chain.events(GATES) if isinstance(d, GateDecision)}
    for pair in PAIRS:
        assert found["instruments"][pair]["as_of_ms"] == last[pair].as_of_ms
        assert found["instruments"][pair]["eligible"] == last[pair].eligible
    assert len(found["config_id"]) > 0


def test_why_explains_the_last_decision_and_an_earlier_one(chain: Deployment) -> None:
    decisions = [
        d for d in chain.events(GATES) if isinstance(d, GateDecision) and d.instrument == "EUR_USD"
    ]
    for wanted, at in ((decisions[-1], []), (decisions[200], ["--at"])):
        arguments = [*at, f"@{wanted.as_of_ms}"] if at else []
        done = chain.run("why", "EUR/USD", "--json", *arguments)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found["decision"]["as_of_ms"] == wanted.as_of_ms
        assert found["decision"]["reasons"] == list(wanted.reasons)
        assert found["decision"]["eligible"] == wanted.eligible
        failing = {guard["guard"] for guard in found["guards"] if not guard["passes"]}
        assert failing <= set(wanted.reasons)


def test_why_of_an_instrument_that_is_not_there_names_those_that_are(chain: Deployment) -> None:
    done = chain.run("why", "EUR_XXX")
    assert done.returncode == 2
    (sentence,) = done.stderr.strip().splitlines()
    assert "EUR_USD, NZD_USD" in sentence


def last_manifold(chain: Deployment, pair: str, at: int = -1) -> Manifold:
    """Return a manifold that the worker wrote."""
    every = [m for m in chain.events(MANIFOLDS) if isinstance(m, Manifold) and m.instrument == pair]
    return every[at]


def snapshots(chain: Deployment, *arguments: str, given: str | None = None) -> list[Any]:
    """Return what ``manifold snapshot`` prints."""
    command = [sys.executable, "-m", "streams", "snapshot", *arguments]
    done = subprocess.run(
        command, env=chain.environment, input=given, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("back", [1, 2_000])
def test_a_snapshot_of_the_log_is_what_the_worker_wrote_at_that_time(
    chain: Deployment, back: int
) -> None:
    wanted = [last_manifold(chain, pair, -back) for pair in PAIRS]
    at_ms = max(manifold.as_of_ms for manifold in wanted)
    found = snapshots(chain, "eur/usd", "NZDUSD", "--at", f"@{at_ms}")
    assert [one["instrument"] for one in found] == list(PAIRS)
    for pair, one in zip(PAIRS, found, strict=True):
        every = [m for m in chain.events(MANIFOLDS) if isinstance(m, Manifold)]
        known = [m for m in every if m.instrument == pair and m.as_of_ms <= at_ms]
        same = max(known, key=lambda m: m.as_of_ms)
        assert (one["count"], one["t1_ms"]) == (same.count, same.bar_ms)
        assert one["metrics"] == pytest.approx(
            {name: getattr(same, name) for name in one["metrics"]}, abs=1e-9
        )
        assert one["coeffs"]["sigma_eff"] == pytest.approx(same.sigma_eff, abs=1e-9)
        assert one["coeffs"]["lambda"] == pytest.approx(same.lambda_, abs=1e-9)


def test_a_snapshot_is_the_same_from_log_valkey_and_what_tail_prints(chain: Deployment) -> None:
    (logged,) = snapshots(chain, "EUR_USD", "--candles", "900")
    (mirrored,) = snapshots(chain, "valkey:EUR_USD", "--candles", "900")
    assert mirrored == logged
    tailed = chain.run("tail", CANDLES, "--instrument", "EUR_USD", "--last", "900")
    (piped,) = snapshots(chain, "-", given=tailed.stdout)
    assert piped == logged and piped["count"] == 900


def test_a_snapshot_of_a_day_is_stored_under_its_key_and_read_back(
    chain: Deployment, tmp_path: Path
) -> None:
    bar_ms = last_manifold(chain, "EUR_USD", -1_000).bar_ms
    day = datetime.fromtimestamp(bar_ms / 1000, UTC).date()
    made = snapshots(chain, *PAIRS, "--day", day.isoformat())
    folder = f"{tmp_path}/manifolds/"
    assert (
        snapshots(chain, *PAIRS, "--day", f"{day}", "--output", folder, "--output", "valkey") == []
    )
    keys = [f"manifold:{pair}:{day}" for pair in PAIRS]
    files = [f"{folder}{pair}/{day}.json" for pair in PAIRS]
    assert snapshots(chain, "--read", *keys) == snapshots(chain, "--read", *files) == made
    with redis.Redis.from_url(chain.environment["VALKEY_URL"]) as client:
        for key in keys:
            assert 34 * 86_400 < client.ttl(key) <= 35 * 86_400
        client.unlink(*keys)
    (ranged,) = snapshots(chain, f"valkey:EUR_USD:{day}:{day}")
    assert ranged == made[0]


def test_a_snapshot_of_what_is_not_there_says_so(chain: Deployment) -> None:
    for source, said in (
        ("EUR_GBP", "holds no candle of EUR_GBP"),
        ("valkey:EUR_GBP", "Valkey has no candles in md:candles:EUR_GBP:M1"),
        ("log:EUR_USD:2001-01-01", "no candle"),
    ):
        done = chain.run("snapshot", source)
        assert done.returncode == 2 and said in done.stderr, done.stderr


def test_a_report_is_published_as_the_latest(chain: Deployment, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = chain.run("report", "-o", str(page), "--json", "-", "--publish")
    assert done.returncode == 0, done.stderr
    with redis.Redis.from_url(chain.environment["VALKEY_URL"]) as client:
        found = json.loads(client.get("opt:backtests:report:latest"))
        assert 13 * 86_400 < client.ttl("opt:backtests:report:latest") <= 14 * 86_400
        client.unlink("opt:backtests:report:latest")
    assert found["content"] == json.loads(done.stdout)
    assert (found["filename"], found["instruments"]) == (str(page), list(PAIRS))
    assert found["days"] > 0


def test_a_second_worker_has_nothing_to_do_and_leaves_when_told(chain: Deployment) -> None:
    before = chain.status().ends
    second = chain.start_worker("worker-2")
    chain.keep_running(4)
    assert second.stop() == 0, second.child.last_output(8)
    del chain.processes["worker-2"]
    assert chain.status().ends == before
