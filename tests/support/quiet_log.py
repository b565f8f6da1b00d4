"""A log of a feed that does not wait for quiet instruments, some of whose candles come later."""

from __future__ import annotations

import random
from collections import Counter

from streams.feeds.plan import Fact, FeedPlan
from streams.feeds.synthetic import MarketRates, synthetic_market
from streams.records.control import ControlLog
from streams.records.events import Candle
from streams.records.log_record import SourceRecord
from streams.records.topics import CANDLES
from tests.support.changing_log import ENVIRONMENT, PAIRS, PARTITIONS, START_MS
from tests.support.stage_bench import CODEC, MINUTE, config_record, control_log, universe_record

BARS = 450
SETTINGS = {"CANDLE_COUNT": "150", "GATE_MODE": "static"}
CHANGE_BAR = 300


def quiet_control() -> ControlLog:
    """Settings and a universe; other settings, and an instrument less, from CHANGE_BAR on."""
    return control_log(
        config_record(**(ENVIRONMENT | SETTINGS)),
        universe_record(PAIRS),
        config_record(**(ENVIRONMENT | SETTINGS | {"ALLOC_TOP_K": "1"})),
        universe_record(PAIRS[:3], from_ms=START_MS + CHANGE_BAR * MINUTE),
    )


def quiet_facts(seed: int) -> list[Fact]:
    """What the feed writes: now and then an instrument's bars come late, and are not waited for."""
    chance = random.Random(seed)
    plans = {name: FeedPlan([name], "M1", PARTITIONS) for name in PAIRS}
    facts = [fact for plan in plans.values() for fact in plan.opening(START_MS, 2)]
    held: dict[str, list[tuple[int, list[Candle]]]] = {}
    rates = MarketRates(quiet=40, late=10, duplicate=10)
    offset = 2
    for number, bar in enumerate(synthetic_market(seed, PAIRS, START_MS, BARS, rates=rates)):
        offset = 4 if number >= CHANGE_BAR else 2
        for name, plan in plans.items():
            candles = [candle for candle in bar.candles if candle.instrument == name]
            if name not in held and chance.random() < 0.04:
                held[name] = []
            if name not in held:
                facts += plan.bar(bar.as_of_ms, candles, offset)
                continue
            held[name].append((bar.as_of_ms, candles))
            if chance.random() < 0.6:
                facts += plan.not_waiting(bar.as_of_ms, offset)
            if chance.random() < 0.3:
                for as_of_ms, some in held.pop(name):
                    facts += plan.bar(as_of_ms, some, offset)
    for name, bars in held.items():
        for as_of_ms, some in bars:
            facts += plans[name].bar(as_of_ms, some, offset)
    end_ms = START_MS + BARS * MINUTE
    return facts + [fact for plan in plans.values() for fact in plan.closing(end_ms, 4)]


def quiet_log(seed: int) -> list[SourceRecord]:
    """The same as records of ``md.candles``, in the order in which they were written."""
    ends: Counter[int] = Counter()
    records = []
    for fact in quiet_facts(seed):
        value, offset = CODEC.encode(CANDLES, fact.event), ends[fact.partition]
        ends[fact.partition] += 1
        records.append(
            SourceRecord(CANDLES, fact.partition, offset, fact.timestamp_ms, fact.key, value)
        )
    return records
