"""The golden hashes of the derived topics, and what they are of.

After a change that is meant to change results (say so in the changelog, raise the engine version)::

    python -m tests.support.golden_topics

writes ``tests/support/golden_topics.json`` anew; its difference shows which topics changed.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path

from streams.config.settings import Config
from streams.feeds.synthetic import synthetic_market
from streams.records.events import Candle
from streams.records.log_record import DerivedRecord
from streams.replay.files import derive
from tests.support.stage_bench import A, B, C

FILE = Path(__file__).with_suffix(".json")
SEED, BARS, PARTITIONS = 1, 480, 3
START_MS = 1_704_880_800_000
PAIRS = (A, B, C)
ENVIRONMENT = {
    "CANDLE_COUNT": "300",
    "ALLOC_MAX_HOLD_SEC": "300",
    # a market without an edge: low floors, so that some instruments are eligible some of the time
    "AUTO_MIN_COHERENCE": "0.45",
    "AUTO_MAX_ENTROPY": "0.95",
    "EVAL_INTERVAL_SEC": "300",
    "EVAL_MIN_TRADES": "1",
    "EVAL_CALMAR_MIN": "-10",
    "EVAL_PNL_MIN": "-0.05",
    # the name of the time zone package stands in config_id; its rules for 2024 do not change
    "TZDATA_VERSION": "golden",
    # likewise: none of its days is among these bars
    "MARKET_HOLIDAYS_VERSION": "golden",
}


def market() -> list[tuple[int, tuple[Candle, ...]]]:
    """The synthetic candles: seed 1, three pairs, 480 bars from a Wednesday 10:00 UTC."""
    return [(bar.as_of_ms, bar.candles) for bar in synthetic_market(SEED, PAIRS, START_MS, BARS)]


def derived() -> list[DerivedRecord]:
    """Everything the chain derives from them."""

    async def collect() -> list[DerivedRecord]:
        bars = market()
        config = Config.from_env(ENVIRONMENT)
        chunks = derive(config, bars, PAIRS, START_MS, bars[-1][0], PARTITIONS)
        return [one async for chunk in chunks for one in chunk]

    return asyncio.run(collect())


def hashes(records: list[DerivedRecord]) -> dict[str, dict[str, object]]:
    """Per topic the number of records and the SHA-256 over partition, key, time and value."""
    by_topic: dict[str, list[bytes]] = {}
    for record, _ in records:
        line = b"%d %b %d %b\n" % (
            record.partition,
            record.key or b"",
            record.timestamp_ms,
            (record.value or b"").hex().encode(),
        )
        by_topic.setdefault(record.topic, []).append(line)
    return {
        topic: {
            "records": len(lines),
            # partitions may be taken in any order: sorted, so that only contents count
            "sha256": hashlib.sha256(b"".join(sorted(lines))).hexdigest(),
        }
        for topic, lines in sorted(by_topic.items())
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(hashes(derived()), indent=2, sort_keys=True) + "\n")
