"""The table of docs/performance.md from what ``make bench`` wrote.

    python -m tests.perf.performance_table build/bench.json

A figure that the file does not have is ``(to be measured)``.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.perf.bench import shown

MISSING = "(to be measured)"
HEADER = (
    "| what, and what is divided by what | value | next to, in the same run |",
    "|---|---|---|",
)
# {row key} is a figure, {row key > peer} our rate over the peer's
TABLE = (
    (
        "metrics core, 2 million candles, one core: candles / s",
        "{engine.run}",
        "same headers by `g++ -O3` {engine.run > g++ -O3}; the windows' metrics alone, without "
        "sigma, lambda, repetitions: numba {engine.run > numba}, numpy {engine.run > numpy}, "
        "pandas with numpy {engine.run > pandas}",
    ),
    (
        "metrics, rolling backtest and gate, 1 million candles, one core: candles / s",
        "{backtest.run}",
        "no peer does the same",
    ),
    (
        "backtest and gate alone under the peers' rule, metrics at hand, one core: candles / s of "
        "the run, compiled before",
        "{backtest.alone}",
        "the trading rule alone, no summaries, no gate: vectorbt {backtest.alone > vectorbt}, "
        "backtesting.py {backtest.alone > backtesting}, NautilusTrader "
        "{backtest.alone > nautilus_trader}",
    ),
    (
        "`md.candles` to `sep.signals` and `sep.manifolds`, that stage alone, exactly once: "
        "candles / (last output readable - first candle written), start-up not in it",
        "{signals.ours}",
        "same codec, engine and outputs: bare confluent-kafka loop of 1,000 records a transaction "
        "{signals.ours > bare confluent-kafka loop, 1,000 records a transaction}, of 5,000 "
        "{signals.ours > bare confluent-kafka loop, 5,000 records a transaction} (neither restores "
        "nor fences by partition); Quix Streams exactly once "
        "{signals.ours > Quix Streams 3.28.1, exactly once, state in its store}, state in memory "
        "alone {signals.ours > Quix Streams 3.28.1, exactly once, state in memory alone}; at least "
        "once: Faust tuned {signals.ours > Faust, tuned}, with its defaults "
        "{signals.ours > Faust, its defaults}",
    ),
    (
        "`md.candles` to `risk.weights`, three stages in one worker: all candles / (last weights - "
        "first signal)",
        "{chain.rate}",
        "no peer does the same",
    ),
    (
        "worker start to first signals; catch-up of 48,000 candles to their last weights, start "
        "included",
        "{chain.first_signals}; {chain.catch_up}",
        "",
    ),
    *(
        (
            "candle that closes an epoch handed to the producer to its weights read, 28 "
            f"instruments, 20x, bursts at the minute, 40 epochs, {partitions} partitions",
            f"p50 {{latency.{partitions}.p50}}, p95 {{latency.{partitions}.p95}}, slowest "
            f"{{latency.{partitions}.worst}}",
            "",
        )
        for partitions in (2, 4)
    ),
    (
        "`manifold replay`, 28 files to a report, one core: candles / s of the whole process; "
        "start-up aside",
        "{replay.files}; {replay.files_without_start}",
        "",
    ),
    ("the same from Kafka", "{replay.log}; {replay.log_without_start}", ""),
    (
        "`manifold verify` of 134,400 candles, all cores: records compared / s of the whole "
        "command, candles / s; start-up aside",
        "{replay.verify}, {replay.verify_candles}; {replay.verify_without_start}",
        "",
    ),
    (
        "gate decision and weights acknowledged by the log to order received by the broker, 40 "
        "entries",
        "p50 {execution.p50}, p95 {execution.p95}, slowest {execution.worst}",
        "",
    ),
    (
        "`SET ops:kill_switch 1` to its record in the log; call to engage to a reader's answer: "
        "medians of 20",
        "{kill.set}; {kill.on}",
        "",
    ),
    ("`make demo`, start to first weights, installed", "{demo.weights}", ""),
)


def filled(text: str, rows: Mapping[str, Any]) -> str:
    """Return a cell with its figures."""

    def figure(found: re.Match[str]) -> str:
        key, _, peer = found[1].partition(" > ")
        row = rows.get(key)
        if row is None or row["value"] is None:
            return MISSING
        if peer:
            ratio = row["ratios"].get(peer)
            return MISSING if ratio is None else f"{shown(ratio)}x"
        return f"{shown(row['value'])} {row['unit']}"

    return re.sub(r"\{([^}]+)\}", figure, text)


def table(content: Mapping[str, Any]) -> str:
    """Return the table as Markdown from the content of ``build/bench.json``."""
    rows = {row["key"]: row for row in content["rows"]}
    lines = ["| " + " | ".join(filled(cell, rows) for cell in cells) + " |" for cells in TABLE]
    return "\n".join([*HEADER, *lines])


if __name__ == "__main__":
    print(table(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
