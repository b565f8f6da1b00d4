"""Late candles and true ranges behind an entry, as they lie in ``sep.manifolds``."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from confluent_kafka import Producer

from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.kafka.client import producer_config
from streams.kafka.partitioner import partition_of
from streams.kafka.topics_admin import create_topics
from streams.records.codec import Codec, locked_codec
from streams.records.events import CandlePrices, Manifold, Ohlc
from streams.records.topics import MANIFOLDS
from streams.stack.kafka import KafkaBroker
from streams.trading.entry_checks import LATE, entry_range, late_entry
from streams.trading.plan import RunCandidate
from streams.trading.runs import Entry, SourceSpan
from tests.support.execution_bench import MINUTE, PAIR, T0, decision, weights
from tests.support.reference_backtest import Rules
from tests.support.sample_events import SAMPLES

pytestmark = pytest.mark.kafka

OTHER = "GBP_USD"
LATE_BAR, BARS = 20, 60


class Filled(NamedTuple):
    """A deployment with manifolds of two instruments in one partition."""

    runtime: Runtime
    codec: Codec
    offsets: dict[tuple[str, int], int]
    mids: list[Ohlc]


def mid_of(bar: int) -> Ohlc:
    opened = 1.1 + 0.0003 * (bar % 7) - 0.0002 * (bar % 3)
    return Ohlc(opened, opened + 0.0001 * (1 + bar % 5), opened - 0.0002, opened + 0.00005)


@pytest.fixture
def filled(kafka: KafkaBroker, topic_prefix: str) -> Filled:
    runtime = Runtime.from_env(
        {
            "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
            "TOPIC_PREFIX": topic_prefix,
            "TOPIC_PARTITIONS": "1",
        }
    )
    create_topics(runtime)
    codec, sample = locked_codec(topic_prefix), SAMPLES["Manifold"]
    assert isinstance(sample, Manifold)
    producer = Producer(producer_config(runtime))
    offsets = {}
    for bar in range(BARS):
        for name in (PAIR, OTHER):
            late = (name, bar) in ((PAIR, LATE_BAR), (OTHER, LATE_BAR + 5))
            bar_ms = T0 + bar * MINUTE
            made = sample._replace(
                instrument=name, granularity="M1", bar_ms=bar_ms, as_of_ms=bar_ms + MINUTE,
                candle=CandlePrices(mid_of(bar), None, None, 1), late=late,
            )  # fmt: skip
            offsets[name, bar] = len(offsets)
            producer.produce(
                runtime.topic(MANIFOLDS), codec.encode(MANIFOLDS, made), name.encode(),
                partition=partition_of(name.encode(), 1), timestamp=made.as_of_ms,
            )  # fmt: skip
    assert producer.flush(20) == 0
    return Filled(runtime, codec, offsets, [mid_of(bar) for bar in range(BARS)])


def candidate(bar: int, span: SourceSpan | None) -> RunCandidate:
    return RunCandidate(PAIR, Entry(1, decision(bar, 1), span), weights(bar, EUR_USD=0.1))


def test_only_a_late_candle_of_the_instrument_itself_counts(filled: Filled) -> None:
    def between(first: int, last: int) -> str:
        span = SourceSpan(0, filled.offsets[PAIR, first], filled.offsets[PAIR, last])
        return late_entry(filled.runtime, filled.codec, candidate(last, span))

    assert between(LATE_BAR - 1, LATE_BAR + 1) == LATE
    assert between(LATE_BAR + 1, LATE_BAR + 10) == ""
    assert late_entry(filled.runtime, filled.codec, candidate(5, None)) == ""
    unknown = candidate(5, SourceSpan(-1, 0, 0))
    assert late_entry(filled.runtime, filled.codec, unknown) == LATE


def test_the_true_range_is_the_runs_at_the_bar_of_the_entry(filled: Filled) -> None:
    config, bar = Config(auto_tp_mode="atr", atr_bars=14), 41
    found = entry_range(filled.runtime, filled.codec, config, candidate(bar, None))
    assert found == pytest.approx(wilder(filled.mids[: bar + 1], Rules().atr_bars), rel=1e-12)
    early = entry_range(filled.runtime, filled.codec, config, candidate(12, None))
    assert early is None
    assert entry_range(filled.runtime, filled.codec, Config(), candidate(bar, None)) is None


def wilder(mids: list[Ohlc], bars: int) -> float:
    """Wilder's average by its definition, over the whole past."""
    ranges = [
        max(
            m.high - m.low,
            *((abs(m.high - p.close), abs(m.low - p.close)) if p else (0.0, 0.0)),
        )
        for p, m in zip([None, *mids], mids, strict=False)
    ]
    average = sum(ranges[:bars]) / bars
    for one in ranges[bars:]:
        average += (one - average) / bars
    return average
