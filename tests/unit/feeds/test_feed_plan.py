"""Which watermarks a feed writes, where, and when."""

from __future__ import annotations

from collections import defaultdict

from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from streams.feeds.plan import WARMING_CANDLES, Fact, FeedPlan
from streams.kafka.partitioner import partition_of
from streams.records.events import WATERMARK_KEY, Candle, Ohlc, Watermark

MINUTE_MS, HOUR_MS = 60_000, 3_600_000
START_MS = 1_000 * HOUR_MS
PAIRS = ("AUD_USD", "EUR_USD", "GBP_USD", "NZD_USD", "USD_JPY")
PARTITIONS = 3
CONTROL = 4


def candle(name: str, as_of_ms: int) -> Candle:
    mid = Ohlc(1.1, 1.2, 1.0, 1.15)
    return Candle(name, "M1", as_of_ms - MINUTE_MS, as_of_ms, mid, None, None, False, 7, "file")


def marks(facts: list[Fact]) -> dict[int, Watermark]:
    return {f.partition: f.event for f in facts if isinstance(f.event, Watermark)}


def warmed(names: tuple[str, ...] = PAIRS) -> tuple[FeedPlan, int]:
    """Return a plan whose instruments are past their warm-up, and the end of its last bar."""
    plan = FeedPlan(names, "M1", PARTITIONS)
    plan.opening(START_MS, CONTROL)
    as_of_ms = START_MS
    for _ in range(WARMING_CANDLES):
        as_of_ms += MINUTE_MS
        plan.bar(as_of_ms, [candle(name, as_of_ms) for name in names], CONTROL)
    return plan, as_of_ms


def test_the_opening_is_one_watermark_into_each_partition_that_holds_an_instrument() -> None:
    facts = FeedPlan(PAIRS, "M1", PARTITIONS).opening(START_MS, CONTROL)
    held = defaultdict(list)
    for name in PAIRS:
        held[partition_of(name.encode(), PARTITIONS)].append(name)
    assert {p: list(m.instruments) for p, m in marks(facts).items()} == held
    for fact in facts:
        assert (fact.key, fact.timestamp_ms) == (WATERMARK_KEY, START_MS)
        assert isinstance(fact.event, Watermark)
        assert (fact.event.control_offset, fact.event.granularity) == (CONTROL, "M1")


def test_a_candle_goes_to_the_partition_of_its_key_stamped_with_its_end() -> None:
    fact = FeedPlan(PAIRS, "M1", PARTITIONS).candle(candle("EUR_USD", START_MS))
    assert fact.partition == partition_of(b"EUR_USD", PARTITIONS)
    assert (fact.key, fact.timestamp_ms) == (b"EUR_USD", START_MS)


def test_a_full_bar_of_warm_instruments_needs_no_watermark() -> None:
    plan, last_ms = warmed()
    as_of_ms = last_ms + MINUTE_MS
    facts = plan.bar(as_of_ms, [candle(name, as_of_ms) for name in PAIRS], CONTROL)
    assert marks(facts) == {}
    assert len(facts) == len(PAIRS)


def test_every_bar_of_a_warming_instrument_is_vouched_for() -> None:
    plan = FeedPlan(["EUR_USD"], "M1", PARTITIONS)
    plan.opening(START_MS, CONTROL)
    for bar in range(1, WARMING_CANDLES + 2):
        as_of_ms = START_MS + bar * MINUTE_MS
        new_hour = as_of_ms % HOUR_MS == 0
        facts = plan.bar(as_of_ms, [candle("EUR_USD", as_of_ms)], CONTROL)
        assert bool(marks(facts)) == (bar < WARMING_CANDLES or new_hour), bar


def test_a_repeated_or_late_candle_brings_no_instrument_closer_to_its_first_signal() -> None:
    plan = FeedPlan(["EUR_USD"], "M1", PARTITIONS)
    plan.opening(START_MS, CONTROL)
    as_of_ms = START_MS + MINUTE_MS
    for _ in range(2 * WARMING_CANDLES):
        facts = plan.bar(as_of_ms, [candle("EUR_USD", as_of_ms)], CONTROL)
    assert marks(facts)


def test_a_missing_candle_is_vouched_for_in_its_partition_only_after_the_candles() -> None:
    plan, last_ms = warmed()
    as_of_ms = last_ms + MINUTE_MS
    there = [name for name in PAIRS if name != "EUR_USD"]
    facts = plan.bar(as_of_ms, [candle(name, as_of_ms) for name in there], CONTROL)
    assert list(marks(facts)) == [partition_of(b"EUR_USD", PARTITIONS)]
    assert isinstance(facts[-1].event, Watermark)


def test_a_late_candle_does_not_stand_for_the_bar_it_arrives_in() -> None:
    plan, last_ms = warmed(("EUR_USD",))
    facts = plan.bar(last_ms + 2 * MINUTE_MS, [candle("EUR_USD", last_ms + MINUTE_MS)], CONTROL)
    assert [type(f.event) for f in facts] == [Candle, Watermark]


def test_grown_control_is_told_to_every_partition_at_the_next_bar() -> None:
    plan, last_ms = warmed()
    as_of_ms = last_ms + MINUTE_MS
    found = marks(plan.bar(as_of_ms, [candle(n, as_of_ms) for n in PAIRS], CONTROL + 1))
    assert list(found) == plan.partitions
    assert {m.control_offset for m in found.values()} == {CONTROL + 1}


def test_the_control_offset_never_goes_back() -> None:
    plan, last_ms = warmed()
    found = marks(plan.bar(last_ms + MINUTE_MS, [], CONTROL - 1))
    assert {m.control_offset for m in found.values()} == {CONTROL}


def test_each_event_hour_is_vouched_for_once_in_every_partition() -> None:
    plan, as_of_ms = warmed()
    counted: dict[tuple[int, int], int] = defaultdict(int)
    first_hour = as_of_ms // HOUR_MS + 1
    while as_of_ms < (first_hour + 3) * HOUR_MS - MINUTE_MS:
        as_of_ms += MINUTE_MS
        for partition in marks(plan.bar(as_of_ms, [candle(n, as_of_ms) for n in PAIRS], CONTROL)):
            counted[partition, as_of_ms // HOUR_MS] += 1
    expected = {(p, first_hour + hour): 1 for p in plan.partitions for hour in range(3)}
    assert counted == expected


def test_the_closing_writes_only_the_watermarks_that_are_missing() -> None:
    plan, last_ms = warmed()
    as_of_ms = last_ms + MINUTE_MS
    there = [name for name in PAIRS if name != "EUR_USD"]
    vouched = marks(plan.bar(as_of_ms, [candle(name, as_of_ms) for name in there], CONTROL))
    closing = marks(plan.closing(as_of_ms, CONTROL))
    assert sorted([*vouched, *closing]) == plan.partitions
    assert plan.closing(as_of_ms, CONTROL) == []


@given(st.binary(min_size=1, max_size=40), st.integers(1, 200))
def test_keys_go_where_other_clients_put_them(key: bytes, partitions: int) -> None:
    every = list(range(partitions))
    assert partition_of(key, partitions) == DefaultPartitioner()(key, every, every)
