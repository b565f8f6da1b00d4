"""The tables of ``make bench`` and of docs/performance.md ask for figures by a row's key."""

from __future__ import annotations

import re

import pytest
from rich.console import Console

from tests.perf.backtest_peers import PEERS as BACKTESTERS
from tests.perf.bench import PARTS, WIDTH, shown, table_of
from tests.perf.bench_engine import PEERS as LIBRARIES
from tests.perf.bench_signals import PEERS as FRAMEWORKS
from tests.perf.performance_table import MISSING, TABLE, table
from tests.perf.rows import at_rank, row

ASKED = sorted(
    {key for cells in TABLE for cell in cells for key in re.findall(r"\{([^}]+)\}", cell)}
)


def test_the_pages_table_asks_for_parts_and_peers_that_there_are() -> None:
    peers = {
        "engine.run": {*LIBRARIES, "g++ -O3"},
        "backtest.alone": {peer.name for peer in BACKTESTERS},
        "signals.ours": {peer.name for peer in FRAMEWORKS},
    }
    asked: dict[str, set[str]] = {}
    for key in ASKED:
        name, _, peer = key.partition(" > ")
        assert name.partition(".")[0] in PARTS
        if peer:
            asked.setdefault(name, set()).add(peer)
    assert asked == peers


def test_a_figure_that_was_not_measured_says_so_and_one_that_was_is_there() -> None:
    measured = row("chain.rate", "chain", 5234.5, "candles/s", "a / b")
    text = table({"rows": [measured]})
    assert "5,230 candles/s" in text
    assert MISSING in text
    assert not re.search(r"[{}]", text)


@pytest.mark.parametrize(
    ("value", "text"),
    [(12_034_567.0, "12,000,000"), (5234.5, "5,230"), (99.96, "100"), (0.6042, "0.604"), (2, "2")],
)
def test_figures_have_three_digits(value: float, text: str) -> None:
    assert shown(value) == text


def test_the_table_fits_into_its_width_and_leaves_nothing_out() -> None:
    peer = {"bare confluent-kafka loop, 5,000 records a transaction": 0.81}
    rows = [
        row("a.b", "a name", 1.5e6, "candles/s", "this / that", ratios=peer, note="without x"),
        row("a.c", "not there", None, "1/s", "this / that", note="not measured: no wrk"),
    ]
    console = Console(width=WIDTH, record=True, file=open("/dev/null", "w", encoding="utf-8"))  # noqa: SIM115
    console.print(table_of(rows))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= WIDTH <= 100
    for part in ("1,500,000", "candles/s", "this / that", "without x", "0.81x", "not measured"):
        assert part in text


def test_a_rank_is_one_of_the_values() -> None:
    assert at_rank([4.0, 1.0, 3.0, 2.0], 0.5) == 2.0
    assert at_rank([float(n) for n in range(1, 101)], 0.95) == 95.0
    assert at_rank([7.0], 0.99) == 7.0
