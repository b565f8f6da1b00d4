"""Recorded candles through the whole chain: files, log, worker, mirror, and every question asked.

One deployment on a real Kafka and a real Valkey is filled once; the tests read it.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from streams.events import Candle, GateDecision, Manifold, Signal, Weights
from streams.stack.kafka import KafkaBroker
from streams.topics import CANDLES, DEAD_LETTERS, GATES, MANIFOLDS, SIGNALS, WEIGHTS
from tests.candle_files import market, write_csv
from tests.deployment import WARM_UP_CANDLES, Deployment

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
        assert worker.stop() == 0, worker.child.last_words(8)
        assert mirror.stop() == 0, mirror.child.last_words(8)
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


def test_a_second_worker_has_nothing_to_do_and_leaves_when_told(chain: Deployment) -> None:
    before = chain.status().ends
    second = chain.start_worker("worker-2")
    chain.keep_running(4)
    assert second.stop() == 0, second.child.last_words(8)
    del chain.processes["worker-2"]
    assert chain.status().ends == before
