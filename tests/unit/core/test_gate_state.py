"""What the gates stage keeps: small rows, however long the history is."""

from __future__ import annotations

import random

import numpy as np
import pytest

from streams.config.settings import Config
from streams.core import METRICS_DTYPE, layout
from streams.core.gate import GateStream
from streams.core.gate_values import BarColumns, BarInput
from streams.core.layout import MARKET_OPEN, METRICS_OF_GATE, OPEN, QUOTED, rules_of
from streams.core.loader import core
from streams.errors import Fatal

MINUTE = 60_000
DAY = 1_440
START_MS = 1_704_067_200_000
LOOSE = {
    "AUTO_MIN_COHERENCE": "0.1",
    "AUTO_MAX_ENTROPY": "1",
    "SESSION_TRADING_ENABLED": "0",
    "AUTO_DIR_THRESHOLD_BPS": "0.2",
    "AUTO_DIRECTION_LOOKBACK": "3",
    "AUTO_DIRECTION_MODE": "slope",
    "PM_DEFAULT_HOLD_SECONDS": "300",
}


def bars(days: int, seed: int = 1) -> list[BarInput]:
    chance, price, found = random.Random(seed), 1.1, []
    for number in range(days * DAY):
        opened, price = price, max(0.5, price + chance.gauss(0.0, 5e-5))
        mid = (opened, max(opened, price) + 2e-5, min(opened, price) - 2e-5, price)
        prices = (*mid, *(p - 5e-6 for p in mid), *(p + 5e-6 for p in mid))
        metrics = (chance.random(), 0.9, 0.5, 0.1, 0.1, 0.1, 1e-4)
        bar_ms = START_MS + number * MINUTE
        flags = OPEN | MARKET_OPEN | QUOTED
        found.append(BarInput(bar_ms, bar_ms + MINUTE, prices, metrics, 3, 1 << 60, flags))
    return found


def made(**more: str) -> GateStream:
    return GateStream(rules_of(Config.from_env(LOOSE | more), "EUR_USD"))


@pytest.mark.parametrize("name", layout.LAYOUTS)
def test_a_core_with_other_structures_is_refused(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bindings = core()
    layout.check_layout(bindings)
    fields = layout.LAYOUTS[name].descr
    swapped = np.dtype([fields[1], fields[0], *fields[2:]])
    monkeypatch.setitem(layout.LAYOUTS, name, swapped)
    with pytest.raises(Fatal, match=f"lays out a {name} as"):
        layout.check_layout(bindings)


def test_sixty_days_of_minutes_write_less_than_a_kilobyte_a_candle_and_restart_alike() -> None:
    config = Config.from_env(LOOSE)
    rules = rules_of(config, "EUR_USD")
    gate, rows, written, trades = made(), {}, 0, 0
    history = bars(62)
    for bar in history:
        trades += gate.step(bar) & 1
        changed = gate.changed_rows()
        rows.update(changed)
        written += sum(len(name) + len(row) for name, row in changed.items())
    assert trades > 10_000
    assert written / len(history) < 1_000
    assert sum(map(len, rows.values())) < 200_000
    again = GateStream.from_rows(rows, rules)
    for bar in bars(3, seed=2):
        later = bar._replace(
            bar_ms=bar.bar_ms + 63 * DAY * MINUTE, as_of_ms=bar.as_of_ms + 63 * DAY * MINUTE
        )
        assert gate.step(later) == again.step(later)
        assert gate.decision() == again.decision()
        assert repr(gate.evaluation()) == repr(again.evaluation())


def test_rows_of_another_engine_cut_short_or_missing_are_refused() -> None:
    gate = made()
    for bar in bars(3):
        gate.step(bar)
    rows, rules = gate.changed_rows(), rules_of(Config.from_env(LOOSE), "EUR_USD")
    GateStream.from_rows(rows, rules)
    head = rows["head"]
    for wrong, said in (
        ({**rows, "head": head.replace(b"qfh-2", b"qfh-1")}, "another engine version"),
        ({**rows, "head": b"QT" + head[2:]}, "another layout"),
        ({**rows, "head": head[:-1]}, "too short or too long"),
        ({**rows, "head": head + b"\0"}, "too short or too long"),
        ({**rows, "f000": rows["f000"][:-1]}, "too short or too long"),
        ({k: row for k, row in rows.items() if not k.startswith("f")}, "are inconsistent"),
        ({k: row for k, row in rows.items() if not k.startswith("d")}, "are inconsistent"),
        ({k: row for k, row in rows.items() if k != "head"}, "no row head"),
    ):
        with pytest.raises(Fatal, match=said):
            GateStream.from_rows(wrong, rules)


@pytest.mark.parametrize("cut", [1, 1000, 4319])
def test_any_cut_of_the_bars_gives_the_same_bits(cut: int) -> None:
    history = bars(3)
    stepped, decisions = made(), []
    for bar in history:
        stepped.step(bar)
        decisions.append(stepped.decision())
    metrics = np.zeros(len(history), METRICS_DTYPE)
    for place, bar in enumerate(history):
        for name, value in zip(METRICS_OF_GATE, bar.metrics, strict=True):
            metrics[place][name] = value
        metrics[place]["count_1h"] = bar.count_1h
    at = np.array([bar.bar_ms for bar in history], np.int64)
    prices = np.ascontiguousarray(np.array([bar.prices for bar in history]).T)
    flags = np.array([bar.flags for bar in history], np.int32)
    change = np.array([bar.next_change_ms for bar in history], np.int64)
    ran, found = made(), []
    for part in (np.s_[:cut], np.s_[cut:]):
        columns = BarColumns(
            at[part],
            [np.ascontiguousarray(row[part]) for row in prices],
            metrics[part],
            flags[part],
            change[part],
            MINUTE,
        )
        _, _, rows = ran.run(columns)
        found += rows.tolist()
    # a trailing field is padding, and floors are one tuple there
    flat = [(*row[:10], *row[10], *row[11:]) for row in found]
    assert [repr(row) for row in flat] == [repr(tuple(d)) for d in decisions]
    assert ran.changed_rows()["head"] == stepped.changed_rows()["head"]
