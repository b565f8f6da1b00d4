"""A log on which settings, universe and parameters change, with all kinds of nonsense in it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from streams.config.settings import Config
from streams.feeds.plan import Fact, FeedPlan
from streams.feeds.synthetic import MarketRates, synthetic_market
from streams.records.control import ControlLog, UniverseChange
from streams.records.events import Candle, Control
from streams.records.log_record import SourceRecord
from streams.records.topics import CANDLES
from tests.support.stage_bench import CODEC, MINUTE, A, B, C

START_MS = 1_704_880_800_000
PAIRS = (A, B, C, "USD_JPY")
ENVIRONMENT = {
    "CANDLE_COUNT": "300",
    "ECHO_SIGNATURE_PRECISION": "1",
    "AUTO_MIN_COHERENCE": "0.45",
    "AUTO_MAX_ENTROPY": "0.95",
    "EVAL_INTERVAL_SEC": "300",
    "EVAL_MIN_TRADES": "1",
    "EVAL_CALMAR_MIN": "-10",
    "EVAL_PNL_MIN": "-0.05",
    "ALLOC_TOP_K": "2",
    "ALLOC_MAX_HOLD_SEC": "300",
}


PARTITIONS = 3
BARS = 900


def params(name: str, **values: Any) -> Control:
    return Control("params", name, json.dumps(values), "test", "test", START_MS)


def changing_control() -> ControlLog:
    """Settings, universe and parameters that change on the way."""
    log = ControlLog()
    half_ms = START_MS + BARS // 2 * MINUTE
    records = (
        Control("config", None, Config.from_env(ENVIRONMENT).to_json(), "t", "t", START_MS),
        Control("universe", None, universe(PAIRS, 0), "t", "t", START_MS),
        params(A, AUTO_MIN_COHERENCE=0.3),
        params(A, AUTO_MIN_COHERENCE=0.35, AUTO_DIRECTION_LOOKBACK=6),
        params(B, EXIT_PNL_TARGET_PCT=0.05, EXIT_PNL_STOP_PCT=0.05),
        Control("universe", None, universe(PAIRS[:3], half_ms), "t", "t", START_MS),
        Control(
            "config",
            None,
            Config.from_env(
                ENVIRONMENT | {"ALLOC_TOP_K": "1", "CANDLE_COUNT": "200", "AUTO_MAX_ENTROPY": "0.9"}
            ).to_json(),
            *("t", "t", START_MS),
        ),
        Control(
            "config",
            None,
            Config.from_env(
                ENVIRONMENT | {"GATE_MODE": "echo", "ALLOC_SCORE_WEIGHT_HAZARD": "0.3"}
            ).to_json(),
            *("t", "t", START_MS),
        ),
    )
    for offset, record in enumerate(records):
        log.append(offset, record)
    return log


def universe(names: tuple[str, ...], from_ms: int) -> str:
    return UniverseChange("replace", tuple(sorted(names)), from_ms, None).to_json()


OFFSETS = ((0, 2), (250, 3), (330, 5), (331, 6), (600, 7), (700, 8))
"""From which bar on watermarks carry which end of ``ops.control``."""


def a_log(seed: int) -> list[SourceRecord]:
    """Records as a feed writes them, with quiet, late and repeated candles, and some nonsense."""
    plan = FeedPlan(PAIRS, "M1", PARTITIONS)
    facts = plan.opening(START_MS, 2)
    rates = MarketRates(quiet=60, late=20, duplicate=20)
    for number, bar in enumerate(synthetic_market(seed, PAIRS, START_MS, BARS, rates=rates)):
        offset = [end for first, end in OFFSETS if first <= number][-1]
        facts += plan.bar(bar.as_of_ms, bar.candles, offset)
    facts += plan.closing(START_MS + BARS * MINUTE, 8)
    ends: Counter[int] = Counter()
    records = []
    for fact in with_conflicts(facts):
        value = CODEC.encode(CANDLES, fact.event)
        if len(records) % 97 == 96:
            value = value[:-3]  # cut short: a dead letter
        elif len(records) % 211 == 210:
            value = b"\0" + (9_999).to_bytes(4, "big") + value[5:]  # of a schema that nobody knows
        offset = ends[fact.partition]
        ends[fact.partition] += 1
        records.append(
            SourceRecord(CANDLES, fact.partition, offset, fact.timestamp_ms, fact.key, value)
        )
    return records


def with_conflicts(facts: Iterable[Fact]) -> Iterator[Fact]:
    """Put the same bar with other numbers, older bars and crossed quotes behind some candles."""
    earlier: dict[str, Fact] = {}
    for number, fact in enumerate(facts):
        yield fact
        if isinstance(fact.event, Candle):
            if number % 89 == 0:
                yield fact._replace(event=fact.event._replace(volume=1_000_000))
                yield earlier.get(fact.event.instrument, fact)
            if number % 113 == 0:
                bid, ask = fact.event.bid, fact.event.ask
                crossed = fact.event._replace(bid=ask, ask=bid)
                later = {"bar_ms": crossed.bar_ms + MINUTE, "as_of_ms": crossed.as_of_ms + MINUTE}
                yield fact._replace(event=crossed._replace(**later))
            earlier[fact.event.instrument] = fact
