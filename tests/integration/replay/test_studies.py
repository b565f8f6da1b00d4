"""Calibrate and lookahead over a log: history loaded behind, parameters changed on the way."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from streams.records.events import GateDecision, Manifold, Weights
from streams.records.topics import GATES, MANIFOLDS, WEIGHTS
from streams.stack.kafka import KafkaBroker
from tests.support.candle_files import START_MS, market, write_csv
from tests.support.deployment import Deployment

pytestmark = pytest.mark.kafka

PAIRS = ("EUR_USD", "USD_JPY")
BEHIND = "GBP_USD"
BARS = 420
MINUTE_MS = 60_000


@pytest.fixture(scope="module")
def derived(kafka: KafkaBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Two pairs in two loads with a change between them, then a third pair's history."""
    place = tmp_path_factory.mktemp("studies")
    deployment = Deployment(
        place,
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
        TOPIC_PREFIX=f"t{uuid.uuid4().hex[:8]}.",
        TOPIC_PARTITIONS="2",
        ECHO_SIGNATURE_PRECISION="1",
    )
    every = market(PAIRS, BARS)
    half = [one for one in every if one.as_of_ms <= START_MS + BARS // 2 * MINUTE_MS]
    for arguments in (
        ("load", write_csv(place / "half.csv", half)),
        ("params", "set", PAIRS[0], "AUTO_MIN_COHERENCE=0.4", "--reason", "test"),
        ("load", write_csv(place / "every.csv", every)),
        ("load", write_csv(place / "behind.csv", market((BEHIND,), BARS))),
    ):
        done = deployment.run(*arguments)
        assert done.returncode == 0, done.stderr
    deployment.start_worker()
    try:
        deployment.settle()
    finally:
        deployment.stop()
    yield deployment


def asked(deployment: Deployment, *arguments: str, **settings: str) -> Any:
    done = deployment.run(*arguments, "--json", **settings)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_log_knows_nothing_of_what_comes(derived: Deployment) -> None:
    found = asked(derived, "lookahead", "--cuts", "6")
    assert found["passed"]
    assert found["difference"] is None
    assert not found["stepwise"], "history lies behind newer candles"
    for topic, kind in ((GATES, GateDecision), (WEIGHTS, Weights)):
        written = [one for one in derived.events(topic) if isinstance(one, kind)]
        assert len(written) <= found["records"][topic]
    assert len(found["cuts"]) == found["chosen"] > 10
    params = {one.params_id for one in derived.events(GATES) if isinstance(one, GateDecision)}
    assert len(params) == 2, "the change has started a run anew"


def test_windows_of_the_log_are_those_of_the_files(derived: Deployment) -> None:
    found = asked(derived, "calibrate")
    written = Counter(e.instrument for e in derived.events(MANIFOLDS) if isinstance(e, Manifold))
    assert {name: one["windows"] for name, one in found["instruments"].items()} == written
    files = [str(derived.directory / name) for name in ("every.csv", "behind.csv")]
    of_files = asked(derived, "calibrate", *files)
    assert found["suggested"] == of_files["suggested"]
    for name in (PAIRS[1], BEHIND):
        assert found["instruments"][name] == of_files["instruments"][name]
    # one has parameters of its own
    mine, theirs = (each["instruments"][PAIRS[0]] for each in (found, of_files))
    assert mine["quantiles"] == theirs["quantiles"]
    assert mine["guards"]["coherence_below_min"] > theirs["guards"]["coherence_below_min"]


def test_a_stretch_of_the_log_and_an_instrument(derived: Deployment) -> None:
    from_ms, to_ms = START_MS + 300 * MINUTE_MS, START_MS + 350 * MINUTE_MS
    arguments = ("--from", f"@{from_ms}", "--to", f"@{to_ms}", "--instruments", BEHIND)
    found = asked(derived, "calibrate", *arguments)
    bars = [
        e.as_of_ms
        for e in derived.events(MANIFOLDS)
        if isinstance(e, Manifold) and e.instrument == BEHIND and from_ms <= e.as_of_ms <= to_ms
    ]
    assert list(found["instruments"]) == [BEHIND]
    assert (found["windows"], found["from_ms"], found["to_ms"]) == (len(bars), bars[0], bars[-1])
    nobody = derived.run("calibrate", "--instruments", "EUR_CHF")
    assert nobody.returncode == 2
    assert BEHIND in nobody.stderr.splitlines()[-1]


def test_status_says_how_many_pass_all_guards_together(derived: Deployment) -> None:
    rate = asked(derived, "status")["pass_rate_all_guards"]
    metric = {"coherence_below_min", "stability_below_min", "entropy_above_max"}
    metric |= {"rupture_above_max", "hazard_above_max", "repetitions_short"}
    decided = [
        metric.isdisjoint(e.reasons)
        for e in derived.events(GATES)
        if isinstance(e, GateDecision) and e.metrics is not None
    ]
    assert rate == pytest.approx(sum(decided) / len(decided))
    shown = derived.run("status").stdout
    assert "all guards together" in shown
    assert ("manifold calibrate" in shown) == (rate < 0.02)
