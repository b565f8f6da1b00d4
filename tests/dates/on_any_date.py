"""What `make demo` and `make up` run, at whatever date the run has: `make dates` names this file.

Not collected with the other tests: `test_stack.py` tries the same commands closer.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.dates.wallclock import moved_by
from tests.integration.stack.test_stack import Up

BARS_GO_ON = {"CANDLE_GRAN": "S5", "ALLOC_INTERVAL_SEC": "5"}
"""Bars of five seconds, so that a test need not wait for minutes."""
PATIENCE_S = 400.0


@pytest.fixture
def ups(tmp_path: Path) -> Iterator[list[Up]]:
    """Stacks that are ended with the test."""
    made: list[Up] = []
    yield made
    for one in made:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()
        one.log.unlink()


def test_demo(tmp_path: Path, ups: list[Up]) -> None:
    ups.append(up := Up(tmp_path / "stack", "--demo"))
    assert up.process.wait(PATIENCE_S) == 0, up.output
    for said in ("gates: the latest decisions", "weights of", "replay equals live"):
        assert said in up.output
    assert not up.children()


def test_embedded(tmp_path: Path, ups: list[Up]) -> None:
    for _ in range(2):
        ups.append(up := Up(tmp_path / "stack", "--bars", "300", **BARS_GO_ON))
        _require_bars_go_on(up)
        assert up.end() == 0, up.output
        assert not up.children()


def test_durable(tmp_path: Path, ups: list[Up]) -> None:
    seen = 0
    for last in (False, True):
        ups.append(up := Up(tmp_path / "stack", "--broker", "kafka", "--bars", "300", **BARS_GO_ON))
        count = _require_bars_go_on(up)
        assert count > seen, "the log of the stack before is gone"
        seen = count
        if last:
            done = up.run("verify")
            assert done.returncode == 0, done.stdout + done.stderr
        assert up.end() == 0, up.output
        assert not up.children()


def _require_bars_go_on(up: Up) -> int:
    """Wait for weights of two epochs that begin after now; return how many epochs there are."""
    begun_ms = int(time.time() * 1000)
    up.wait_for("risk.weights", PATIENCE_S)
    epochs: set[int] = set()
    end = time.monotonic() + PATIENCE_S
    while len([epoch for epoch in epochs if epoch > begun_ms]) < 2:
        assert up.process.poll() is None, up.output
        assert time.monotonic() < end, f"no bar goes on: {epochs}, now {begun_ms}: {up.output}"
        found: dict[str, Any] = json.loads(up.run("status", "--json").stdout or "{}")
        if found.get("weights"):
            epochs.add(found["weights"]["epoch_ms"])
            assert found["dead_letters"].keys() <= {"duplicate", "out_of_order"}, found
        time.sleep(0.5)
    return int(found["topics"]["risk.weights"])


def test_a_clock_that_was_set_back_ends_a_durable_stack_with_a_sentence(
    tmp_path: Path, ups: list[Up]
) -> None:
    arguments = ("--broker", "kafka", "--bars", "300")
    ups.append(up := Up(tmp_path / "stack", *arguments, **BARS_GO_ON))
    _require_bars_go_on(up)
    assert up.end() == 0, up.output
    ups.append(back := Up(tmp_path / "stack", *arguments, **BARS_GO_ON, **moved_by(-7_200)))
    assert back.process.wait(PATIENCE_S) == 75, back.output
    said = back.output.strip().splitlines()[-1]
    assert said.startswith("manifold: refusing to write with a wrong clock: this machine's clock")
    assert "2.0 h behind the last candle of the log (" in said
    assert "Valkey and this machine agree)" in said
    ups.append(again := Up(tmp_path / "stack", *arguments, **BARS_GO_ON))
    _require_bars_go_on(again)
    done = again.run("verify")
    assert done.returncode == 0, done.stdout + done.stderr
    assert again.end() == 0, again.output
