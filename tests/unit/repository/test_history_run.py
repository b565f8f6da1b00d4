"""Runs of histories: the same seed is the same history, in any process, and a failure says it."""

from __future__ import annotations

import os
import subprocess
import sys
from hashlib import blake2b
from pathlib import Path

import pytest

from tests.support.histories import (
    Bar,
    Fail,
    Flatten,
    HandClose,
    HandOpen,
    Heal,
    History,
    Kill,
    Lose,
    Switch,
    Wait,
)
from tests.support.history_account import KillSwitchState, Reads
from tests.support.history_run import run

ROOT = Path(__file__).resolve().parents[3]
EVENTFUL: History = [
    Bar((1, -1, 1)),
    Lose("orders", "cut"),
    Wait(31.0),
    HandClose(0, 40),
    Kill(),
    Fail("transactions"),
    Bar((None, 1, None), pct=0.15),
    HandOpen("GBP_USD", 700),
    Lose("close", "late", 8.0),
    Wait(5.0),
    Kill(15.0),
    Heal(),
    Bar((0, None, -1)),
    Wait(0.1),
    Flatten(),
]


def fingerprint(seed: int) -> str:
    """Return a hash of everything that the broker and the log have seen."""
    seen = run(EVENTFUL, seed)
    told = (seen.account["transactions"], seen.requests, seen.ledger.intents, seen.ledger.reports)
    return blake2b(repr(told).encode()).hexdigest()


def test_a_seed_is_one_history_in_any_process() -> None:
    found = {fingerprint(1)}
    for hash_seed in ("1", "2"):  # another order of every set and of its like
        done = subprocess.run(
            [sys.executable, "-c", f"import {__name__} as here; print(here.fingerprint(1))"],
            cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": hash_seed}, capture_output=True,
            text=True, check=True,
        )  # fmt: skip
        found.add(done.stdout.strip())
    assert len(found) == 1
    assert fingerprint(2) not in found


def test_orders_are_filled_answers_lost_and_trades_closed_in_one_history() -> None:
    seen = run(EVENTFUL)
    statuses = [r.status for reports in seen.ledger.reports.values() for r in reports]
    assert statuses.count("filled") > 6 and "unknown" in statuses
    assert {i.kind for i in seen.sent.values()} >= {"open", "increase", "close"}


async def _off(switch: KillSwitchState) -> Reads:
    return Reads(engaged=False)


def test_a_failure_shows_the_history_so_that_it_can_be_pasted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(KillSwitchState, "aread", _off)
    history: History = [Bar((0, 0, 1)), Switch(True), Bar((0, 0, -1))]
    with pytest.raises(AssertionError, match="under an engaged switch") as failed:
        run(history, 3)
    (note,) = failed.value.__notes__
    _, pasted = note.split("history = ")
    assert note.startswith("seed 3") and eval(pasted) == history
