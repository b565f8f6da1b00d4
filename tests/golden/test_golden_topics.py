"""The derived topics of one synthetic market, byte for byte, on every machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from streams.records.events import GateDecision, Manifold, Signal, SimulatedTrade, Summary, Weights
from streams.records.log_record import DerivedRecord
from tests.support import golden_topics


@pytest.fixture(scope="module")
def derived() -> list[DerivedRecord]:
    return golden_topics.derived()


@pytest.mark.parametrize("topic", sorted(json.loads(golden_topics.FILE.read_text())))
def test_a_derived_topic_is_what_it_always_was(topic: str, derived: list[DerivedRecord]) -> None:
    wanted = json.loads(golden_topics.FILE.read_text())
    assert golden_topics.hashes(derived)[topic] == wanted[topic]


def test_topics_do_not_depend_on_the_processor_or_on_hashing() -> None:
    settings = {
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-FMA,-AVX2_Usable,-AVX2,-FMA4",
        "PYTHONHASHSEED": "7",
    }
    module = "tests.support.golden_topics"
    said = f"import json; from {module} import *; print(json.dumps(hashes(derived())))"
    done = subprocess.run(
        [sys.executable, "-c", said],
        env=os.environ | settings,
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == json.loads(golden_topics.FILE.read_text())


def test_the_market_brings_every_derived_topic_and_the_unusual(
    derived: list[DerivedRecord],
) -> None:
    events = [output.event for _, output in derived]
    kinds = Counter(type(event).__name__ for event in events)
    assert sorted(golden_topics.hashes(derived)) == sorted(
        json.loads(golden_topics.FILE.read_text())
    )
    assert min(kinds[k.__name__] for k in (Signal, Manifold, GateDecision, Weights)) > 300
    assert kinds[SimulatedTrade.__name__] > 10
    assert kinds[Summary.__name__] > 100
    assert any(isinstance(event, Manifold) and event.late for event in events)
    assert any(isinstance(event, GateDecision) and event.no_candle for event in events)
    assert {e.action for e in events if isinstance(e, Weights)} == {"published", "held", "cleared"}
