"""What stands in Valkey, key by key (docs/spec/trading-loop.md 2.1); on a real Valkey."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis
from confluent_kafka import Producer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.kafka.client import producer_config
from streams.mirror.keys import GUARD, LEDGER_ENTRIES, POSITIONS
from streams.mirror.shapes import Retention, writes_of
from streams.mirror.writer import Advance, MirrorWriter, connect
from streams.records.events import (
    Candle,
    Control,
    Event,
    GateDecision,
    Manifold,
    Signal,
    Summary,
    WeightEntry,
    Weights,
)
from streams.stack.kafka import KafkaBroker
from tests.support.deployment import Deployment, dump
from tests.support.sample_events import BAR_MS, BARE_SAMPLES, SAMPLES, TOPIC_OF
from tests.support.waiting import PATIENCE_S, until

MINUTE_MS = 60_000
DAY_MS = 24 * 60 * MINUTE_MS
CHANNEL = "ws:manifold"
END_OF_DELIVERY = "nothing more was published"
KEEP_ALL = Retention(0, 0)

CANDLE: Any = SAMPLES["Candle"]
SIGNAL: Any = SAMPLES["Signal"]
MANIFOLD: Any = SAMPLES["Manifold"]
DECISION: Any = SAMPLES["GateDecision"]
WEIGHTS: Any = SAMPLES["Weights"]

METRICS = {"coherence": 0.55, "stability": 0.4, "entropy": 0.7, "rupture": 0.25}
REPETITION = {"signature": "c0.55_s0.4_e0.7", "count_1h": 3, "first_seen_ms": 1_399_992_040_000}


@pytest.fixture
def client(valkey_url: str) -> Iterator[Any]:
    with closing(redis.Redis.from_url(valkey_url, decode_responses=True)) as opened:
        yield opened


def deliver(
    url: str, *batches: Sequence[Event], retention: Retention = KEEP_ALL, mirrors: int = 1
) -> int:
    """Let mirrors of one Valkey write the batches, each all of them; return their writes."""

    async def one_mirror() -> int:
        connected = connect(Runtime.from_env({"VALKEY_URL": url}))
        try:
            writer = MirrorWriter(connected)
            for batch in batches:
                await writer.apply([w for event in batch for w in writes_of(event, 60, retention)])
            return writer.written
        finally:
            await connected.aclose()

    async def every_mirror() -> int:
        return sum(await asyncio.gather(*(one_mirror() for _ in range(mirrors))))

    return asyncio.run(every_mirror())


class Listener:
    """A subscriber of one channel."""

    def __init__(self, client: Any, channel: str = CHANNEL) -> None:
        self._client, self._channel = client, channel
        self._subscribed = client.pubsub()
        self._subscribed.subscribe(channel)
        assert self._subscribed.get_message(timeout=PATIENCE_S)["type"] == "subscribe"

    def heard(self) -> list[Any]:
        """Return what was published since the last call, in order."""
        self._client.publish(self._channel, END_OF_DELIVERY)
        told: list[Any] = []
        while (message := self._subscribed.get_message(timeout=PATIENCE_S)) is not None:
            if message["data"] == END_OF_DELIVERY:
                return told
            told.append(json.loads(message["data"]))
        raise AssertionError("the channel does not answer")

    def close(self) -> None:
        self._subscribed.close()


@pytest.fixture
def listener(client: Any) -> Iterator[Listener]:
    with closing(Listener(client)) as opened:
        yield opened


def recent_minute() -> int:
    """Return a whole minute not a minute ago: what is stamped so has most of its time before it."""
    return int(time.time() * 1000) // MINUTE_MS * MINUTE_MS


def candle(bar_ms: int, instrument: str = "EUR_USD", close: float = 1.3711) -> Candle:
    mid = CANDLE.mid._replace(close=close)
    stamped: Candle = CANDLE._replace(
        instrument=instrument, bar_ms=bar_ms, as_of_ms=bar_ms + MINUTE_MS, mid=mid
    )
    return stamped


def signal(bar_ms: int, instrument: str = "EUR_USD") -> Signal:
    stamped: Signal = SIGNAL._replace(
        instrument=instrument, bar_ms=bar_ms, as_of_ms=bar_ms + MINUTE_MS
    )
    return stamped


def manifold(as_of_ms: int, instrument: str = "EUR_USD", price: float = 1.3711) -> Manifold:
    stamped: Manifold = MANIFOLD._replace(
        instrument=instrument, bar_ms=as_of_ms - MINUTE_MS, as_of_ms=as_of_ms, price=price
    )
    return stamped


def decision(as_of_ms: int, eligible: bool, instrument: str = "EUR_USD") -> GateDecision:
    stamped: GateDecision = DECISION._replace(
        instrument=instrument, as_of_ms=as_of_ms, eligible=eligible
    )
    return stamped


def summary(as_of_ms: int) -> Summary:
    sample = SAMPLES["Summary"]
    assert isinstance(sample, Summary)
    return sample._replace(bar_ms=as_of_ms - MINUTE_MS, as_of_ms=as_of_ms)


def parameters(as_of_ms: int) -> Control:
    value = '{"AUTO_MIN_COHERENCE":0.5}'
    return Control("params", "EUR_USD", value, "operator", "calibrated", as_of_ms)


def everything(now: int) -> list[Event]:
    """Return a record of each kind, those that run out as of now."""
    config = Control("config", None, Config().to_json(), "operator", "first", now)
    return [*SAMPLES.values(), manifold(now), summary(now), parameters(now), config]


def epoch(epoch_ms: int) -> Weights:
    """Return an epoch whose weight tells it from every other."""
    entry = WeightEntry("EUR_USD", 0.61, epoch_ms / 1e13, 0.1)
    stamped: Weights = WEIGHTS._replace(epoch_ms=epoch_ms, as_of_ms=epoch_ms, entries=(entry,))
    return stamped


# -- names, types and values ---------------------------------------------------------------------


def test_all_records_together_fill_the_keys_of_the_profile_and_no_other(
    valkey_url: str, client: Any
) -> None:
    now = recent_minute()
    deliver(valkey_url, everything(now))
    assert {name: client.type(name) for name in client.scan_iter()} == {
        "md:candles:EUR_USD:M1": "zset",
        "sep:signal:EUR_USD:1400000040000000000": "string",
        "sep:signal_index:EUR_USD": "zset",
        "ws:last:manifold:EUR_USD": "string",
        "ws:manifold:hist:EUR_USD": "zset",
        "opt:rolling:eligible:EUR_USD": "string",
        "opt:rolling:passes:EUR_USD": "string",
        "opt:rolling:fails:EUR_USD": "string",
        "opt:rolling:misses:EUR_USD": "string",
        "opt:rolling:cooldown:EUR_USD": "string",
        "bt:rolling:summary:EUR_USD": "string",
        "bt:rolling:hist:EUR_USD:p-1": "zset",
        "opt:best_config:EUR_USD": "string",
        "opt:best_config_meta:EUR_USD": "string",
        "opt:best_config:GLOBAL": "string",
        "opt:best_config_meta:GLOBAL": "string",
        "sep:ledger:events": "zset",
        "opt:rolling:gates_blob": "string",
        "risk:allocation_weights": "string",
        "opt:allocator:status": "string",
        "manifold:mirror:as_of": "hash",
    }


def test_what_runs_out_and_when_by_event_time(valkey_url: str, client: Any) -> None:
    now = recent_minute()
    deliver(valkey_url, everything(now))
    left_ms = {name: client.pexpiretime(name) for name in client.scan_iter()}
    assert {name: gone for name, gone in left_ms.items() if gone != -1} == {
        "ws:last:manifold:EUR_USD": now + 300_000,
        "bt:rolling:summary:EUR_USD": now + 3_600_000,
        "bt:rolling:hist:EUR_USD:p-1": now + 35 * DAY_MS,
    }


def test_a_summary_is_the_profiles_object(valkey_url: str, client: Any) -> None:
    now = recent_minute()
    deliver(valkey_url, [summary(now)])
    found = json.loads(client.get("bt:rolling:summary:EUR_USD"))
    assert (found["ts"], found["ts_ms"], found["eligible"]) == (now // 1000, now, 1)
    assert found["params"] == {"c_min": 0.55, "direction_lookback": 12, "dir_threshold_bps": 2.0}
    assert found["gates"] == {"min_trades": 8.0, "calmar_min": 0.5, "pnl_min": 0.0}
    assert (found["summary"]["trades"], found["summary"]["calmar"]) == (12, 2.25)
    assert found["slices"]["7"]["win_rate"] is None


def test_parameters_become_the_best_config_and_are_told(valkey_url: str, client: Any) -> None:
    now = recent_minute()
    with closing(Listener(client, "opt:live_config:changed:EUR_USD")) as told:
        deliver(valkey_url, [parameters(now)], [parameters(now)])
        (heard,) = told.heard()
    found = json.loads(client.get("opt:best_config:EUR_USD"))
    assert found["params"] == {"AUTO_MIN_COHERENCE": 0.5}
    assert found["env"] == {"AUTO_MIN_COHERENCE": "0.5"}
    assert (found["ts"], found["reason"]) == (now, "calibrated")
    assert heard == found
    assert json.loads(client.get("opt:best_config_meta:EUR_USD")) == {
        "instrument": "EUR_USD",
        "ts": now,
        "actor": "operator",
        "reason": "calibrated",
        "in_force": True,
        "names": ["AUTO_MIN_COHERENCE"],
        "source": "ops.control",
    }


def test_parameters_stay_as_long_as_they_are_in_force_and_a_while_after(
    valkey_url: str, client: Any
) -> None:
    keys = ("opt:best_config:EUR_USD", "opt:best_config_meta:EUR_USD")
    now = recent_minute()
    old = now - 400 * DAY_MS
    deliver(valkey_url, [parameters(old)])
    assert [client.pttl(key) for key in keys] == [-1, -1], "set long ago, and in force"
    deliver(valkey_url, [parameters(now)._replace(value="{}", reason="as everywhere")])
    assert {client.pexpiretime(key) for key in keys} == {now + 14 * DAY_MS}
    assert not json.loads(client.get(keys[1]))["in_force"]
    deliver(valkey_url, [parameters(now + 1)])
    assert [client.pttl(key) for key in keys] == [-1, -1]


def test_the_active_configuration_is_the_best_config_of_all(valkey_url: str, client: Any) -> None:
    now = recent_minute()
    config = Config.from_env({"AUTO_MIN_COHERENCE": "0.61", "ALLOC_TOP_K": "5"})
    deliver(valkey_url, [Control("config", None, config.to_json(), "ann", "from today", now)])
    found = json.loads(client.get("opt:best_config:GLOBAL"))
    assert found["params"]["AUTO_MIN_COHERENCE"] == 0.61
    assert (found["env"]["ALLOC_TOP_K"], found["config_id"]) == ("5", config.config_id)
    meta = json.loads(client.get("opt:best_config_meta:GLOBAL"))
    assert (meta["actor"], meta["reason"], meta["ts"]) == ("ann", "from today", now)


def test_the_first_evaluation_of_each_hour_is_kept_under_its_parameters(
    valkey_url: str, client: Any
) -> None:
    hour = 3_600_000
    now = recent_minute() // hour * hour - 3 * hour
    kept = Retention(0, 0, history_hours=2)
    at = [now, now + 60_000, now + hour, now + hour + 1, now + 2 * hour + 900_000]
    every = [summary(one) for one in at]
    other = every[0]._replace(params_id="ffff")
    deliver(valkey_url, [*every, other], every, retention=kept)
    shown = members(client, "bt:rolling:hist:EUR_USD:p-1")
    assert [int(score) for _, score in shown] == [now + hour, now + 2 * hour]
    assert [one["ts_ms"] for one, _ in shown] == [now + hour, now + 2 * hour + 900_000]
    assert (shown[0][0]["trades"], shown[0][0]["calmar"]) == (12, 2.25)
    assert client.zcard("bt:rolling:hist:EUR_USD:ffff") == 1


def test_every_order_and_what_became_of_it_stands_in_the_ledger_once(
    valkey_url: str, client: Any
) -> None:
    order, fill = SAMPLES["OrderIntent"], SAMPLES["BrokerReport"]
    deliver(valkey_url, [order, fill], [fill, order])
    entries = [entry for entry, _ in members(client, "sep:ledger:events")]
    assert {entry["type"] for entry in entries} == {"order", "fill"} and len(entries) == 2
    by_type = {entry["type"]: entry for entry in entries}
    assert by_type["order"]["order_id"] == by_type["fill"]["order_id"]
    assert by_type["order"]["refused_by"] == [v.guard for v in order.guards if not v.passed]
    assert "raw" not in by_type["fill"]


def test_the_ledger_is_bounded(valkey_url: str, client: Any) -> None:
    order: Any = SAMPLES["OrderIntent"]
    many = [
        order._replace(order_id=f"m{n}", placed_ms=1_000 + n) for n in range(LEDGER_ENTRIES + 3)
    ]
    deliver(valkey_url, many, many[:5])
    found = client.zrange("sep:ledger:events", 0, -1, withscores=True)
    assert [int(at) for _, at in found] == [1_003 + n for n in range(LEDGER_ENTRIES)]


@pytest.mark.parametrize("value", ["", "[]", '{"NO_SUCH":1}', '{"AUTO_MIN_COHERENCE":7}'])
def test_parameters_that_change_nothing_are_not_mirrored(
    valkey_url: str, client: Any, value: str
) -> None:
    assert deliver(valkey_url, [parameters(recent_minute())._replace(value=value)]) == 0


def test_counters_and_cooldown_follow_the_decision(valkey_url: str, client: Any) -> None:
    now = recent_minute()
    deliver(valkey_url, [decision(now, False)._replace(passes=1, fails=0, misses=0)])
    assert [client.get(f"opt:rolling:{k}:EUR_USD") for k in ("passes", "fails", "misses")] == [
        *("1", "0", "0")
    ]
    assert client.get("opt:rolling:cooldown:EUR_USD") == "1"
    later = decision(now + MINUTE_MS, True)._replace(cooldown_until_ms=None)
    deliver(valkey_url, [later])
    assert client.get("opt:rolling:cooldown:EUR_USD") == "0"


MIRRORED_SAMPLES = {
    *("Candle", "Signal", "Manifold", "Summary", "GateDecision", "Weights"),
    *("OrderIntent", "BrokerReport"),
}


@pytest.mark.parametrize("name", sorted(SAMPLES.keys() - MIRRORED_SAMPLES))
def test_other_records_write_nothing(valkey_url: str, client: Any, name: str) -> None:
    assert deliver(valkey_url, [SAMPLES[name]]) == 0
    assert client.dbsize() == 0


def members(client: Any, key: str) -> list[tuple[Any, float]]:
    return [(json.loads(member), at) for member, at in client.zrange(key, 0, -1, withscores=True)]


def test_a_candle_is_a_member_by_its_bar_with_short_names_and_every_price(
    valkey_url: str, client: Any
) -> None:
    deliver(valkey_url, [CANDLE])
    wanted = {
        "t": 1_400_000_040_000,
        "o": 1.37105,
        "h": 1.3712,
        "l": 1.37095,
        "c": 1.3711,
        "v": 42,
        "mid": {"o": 1.37105, "h": 1.3712, "l": 1.37095, "c": 1.3711},
        "bid": {"o": 1.371, "h": 1.37115, "l": 1.3709, "c": 1.37105},
        "ask": {"o": 1.3711, "h": 1.37125, "l": 1.371, "c": 1.37115},
        "complete": True,
    }
    assert members(client, "md:candles:EUR_USD:M1") == [(wanted, 1_400_000_040_000)]


def test_a_candle_without_sides_and_volume_says_so(valkey_url: str, client: Any) -> None:
    deliver(valkey_url, [BARE_SAMPLES["Candle"]])
    ((found, _),) = members(client, "md:candles:EUR_USD:M1")
    assert (found["v"], found["bid"], found["ask"]) == (None, None, None)
    assert found["mid"] == {"o": 1.37105, "h": 1.3712, "l": 1.37095, "c": 1.3711}


def test_candles_of_another_granularity_have_a_key_of_their_own(
    valkey_url: str, client: Any
) -> None:
    five = CANDLE._replace(
        granularity="M5", bar_ms=1_400_000_100_000, as_of_ms=1_400_000_100_000 + 5 * MINUTE_MS
    )
    deliver(valkey_url, [CANDLE, five])
    assert sorted(client.scan_iter()) == ["md:candles:EUR_USD:M1", "md:candles:EUR_USD:M5"]


@pytest.mark.parametrize(
    "changes",
    [
        {"complete": False},
        {"as_of_ms": BAR_MS},
        {"bar_ms": BAR_MS + 1, "as_of_ms": BAR_MS + 1 + MINUTE_MS},
        {"volume": -1},
        {"instrument": "EUR USD"},
        {"granularity": "D"},
        {"mid": CANDLE.mid._replace(high=1.0)},
    ],
)
def test_a_candle_that_the_stages_refuse_is_not_shown(
    valkey_url: str, client: Any, changes: dict[str, Any]
) -> None:
    assert deliver(valkey_url, [CANDLE._replace(**changes)]) == 0
    assert client.dbsize() == 0


def test_a_bar_said_twice_is_one_member_and_the_first_word_counts(
    valkey_url: str, client: Any
) -> None:
    deliver(valkey_url, [candle(BAR_MS, close=1.3711)], [candle(BAR_MS, close=1.3712)])
    assert [found["c"] for found, _ in members(client, "md:candles:EUR_USD:M1")] == [1.3711]


def test_a_signal_is_json_under_its_nanoseconds_and_the_index_names_it_in_milliseconds(
    valkey_url: str, client: Any
) -> None:
    deliver(valkey_url, [SIGNAL])
    name = "sep:signal:EUR_USD:1400000040000000000"
    assert json.loads(client.get(name)) == {
        "instrument": "EUR_USD",
        "timestamp_ns": 1_400_000_040_000_000_000,
        "ts_ns": 1_400_000_040_000_000_000,
        "ts_ms": 1_400_000_040_000,
        "as_of_ms": 1_400_000_100_000,
        "window_start_ms": 1_399_992_420_000,
        "price": 1.3711,
        "state": "live",
        "metrics": METRICS,
        "coeffs": {"lambda_hazard": 0.1},
        "repetition": REPETITION,
        **METRICS,
        "lambda_hazard": 0.1,
        "flip_ratio": 0.125,
        "volume_missing": False,
        "gap_bars": 0,
        "config_id": "0123456789abcdef",
    }
    index = client.zrange("sep:signal_index:EUR_USD", 0, -1, withscores=True)
    assert index == [(name, 1_400_000_040_000)]


def test_a_collapsed_signal_says_its_state(valkey_url: str, client: Any) -> None:
    deliver(valkey_url, [SIGNAL._replace(collapsed=True)])
    found = json.loads(client.get("sep:signal:EUR_USD:1400000040000000000"))
    assert found["state"] == "collapsed"


def test_a_manifold_is_the_last_value_the_history_and_the_message_in_one_shape(
    valkey_url: str, client: Any, listener: Listener
) -> None:
    now = recent_minute()
    deliver(valkey_url, [manifold(now)])
    wanted = {
        "instrument": "EUR_USD",
        "ts_ms": now,
        "price": 1.3711,
        "metrics": METRICS,
        "coeffs": {"sigma_eff": 0.0001, "lambda": -0.5, "lambda_hazard": 0.1},
        "repetition": REPETITION,
        "diagnostics": {
            "source": "native",
            "candle_ts_ms": now - MINUTE_MS,
            "window_start_ms": 1_399_992_420_000,
            "window_end_ms": now,
            "bars": 129,
            "gap_bars": 2,
            "volume_missing": True,
            "late": True,
            "config_id": "0123456789abcdef",
        },
    }
    assert json.loads(client.get("ws:last:manifold:EUR_USD")) == wanted
    assert members(client, "ws:manifold:hist:EUR_USD") == [(wanted, now)]
    assert listener.heard() == [wanted]


@pytest.mark.parametrize(("eligible", "shown"), [(True, "1"), (False, "0")])
def test_a_verdict_is_one_or_zero(valkey_url: str, client: Any, eligible: bool, shown: str) -> None:
    deliver(valkey_url, [decision(BAR_MS, eligible)])
    assert client.get("opt:rolling:eligible:EUR_USD") == shown


def test_an_epoch_is_the_gates_blob_the_flat_weights_and_the_status(
    valkey_url: str, client: Any
) -> None:
    deliver(valkey_url, [WEIGHTS._replace(mode="static")])
    assert json.loads(client.get("opt:rolling:gates_blob")) == {
        "ts": 1_400_000_100_000,
        "gates": {"EUR_USD": 1, "NZD_USD": 0},
        "cooldowns": {"EUR_USD": 0, "NZD_USD": 1},
        "bufs": {"EUR_USD": 0.1, "NZD_USD": 0.3},
    }
    assert json.loads(client.get("risk:allocation_weights")) == {"EUR_USD": 1.0}
    assert json.loads(client.get("opt:allocator:status")) == {
        "ts": 1_400_000_100,
        "ts_ms": 1_400_000_100_000,
        "interval": 60,
        "interval_sec": 60,
        "top_k": 3,
        "blob_ts_ms": 1_400_000_100_000,
        "blob_age_ms": 60_000,
        "stale": False,
        "eligible": ["EUR_USD"],
        "eligible_count": 1,
        "scores": {"EUR_USD": 0.61},
        "weights": {"EUR_USD": 1.0},
        "target_exposure_pct": {"EUR_USD": 0.1},
        "action": "published",
        "reason": "",
        "held_since_ms": None,
    }


def test_the_blob_of_echo_mode_has_repetition_and_hazard_and_no_buffers(
    valkey_url: str, client: Any
) -> None:
    assert WEIGHTS.mode == "echo"
    deliver(valkey_url, [WEIGHTS])
    assert json.loads(client.get("opt:rolling:gates_blob")) == {
        "ts": 1_400_000_100_000,
        "gates": {"EUR_USD": 1, "NZD_USD": 0},
        "cooldowns": {"EUR_USD": 0, "NZD_USD": 1},
        "bufs": {"EUR_USD": 0, "NZD_USD": 0},
        "repetition": {"EUR_USD": {"count_1h": 4, "first_seen_ms": 1_399_999_800_000}},
        "hazard": {"EUR_USD": 0.25},
    }


def test_the_flags_of_the_blob_are_numbers_and_not_booleans(valkey_url: str, client: Any) -> None:
    deliver(valkey_url, [WEIGHTS])
    assert "true" not in client.get("opt:rolling:gates_blob")
    assert "false" not in client.get("opt:rolling:gates_blob")


def test_held_weights_are_stale_and_say_why_and_since_when(valkey_url: str, client: Any) -> None:
    held = WEIGHTS._replace(action="held", held_since_ms=BAR_MS, reason="none is eligible")
    deliver(valkey_url, [held])
    status = json.loads(client.get("opt:allocator:status"))
    assert (status["action"], status["stale"]) == ("held", True)
    assert (status["reason"], status["held_since_ms"]) == ("none is eligible", BAR_MS)


def test_cleared_weights_are_an_empty_object(valkey_url: str, client: Any) -> None:
    deliver(valkey_url, [WEIGHTS], [WEIGHTS._replace(epoch_ms=BAR_MS + DAY_MS, entries=())])
    assert json.loads(client.get("risk:allocation_weights")) == {}


# -- what runs out -------------------------------------------------------------------------------


def test_the_last_manifold_is_gone_300_s_after_its_event_time_whenever_it_was_written(
    valkey_url: str, client: Any
) -> None:
    now = recent_minute()
    for as_of_ms in (now - 2 * MINUTE_MS, now - MINUTE_MS, now):
        deliver(valkey_url, [manifold(as_of_ms)])
        assert client.pexpiretime("ws:last:manifold:EUR_USD") == as_of_ms + 300_000
    assert 0 < client.pttl("ws:last:manifold:EUR_USD") <= 300_000


def test_an_older_manifold_does_not_shorten_or_lengthen_the_time_of_the_last(
    valkey_url: str, client: Any
) -> None:
    now = recent_minute()
    deliver(valkey_url, [manifold(now)], [manifold(now - MINUTE_MS)], [manifold(now)])
    assert client.pexpiretime("ws:last:manifold:EUR_USD") == now + 300_000


def test_a_manifold_of_more_than_300_s_ago_is_history_only(valkey_url: str, client: Any) -> None:
    as_of_ms = int(time.time() * 1000) - 300_001
    deliver(valkey_url, [manifold(as_of_ms)])
    assert client.exists("ws:last:manifold:EUR_USD") == 0
    assert client.zrange("ws:manifold:hist:EUR_USD", 0, -1, withscores=True)[0][1] == as_of_ms


def test_behind_a_manifold_that_ran_out_no_older_one_is_written_or_said(
    valkey_url: str, client: Any, listener: Listener
) -> None:
    last = int(time.time() * 1000) - 299_000
    deliver(valkey_url, [manifold(last)])
    until(lambda: client.exists("ws:last:manifold:EUR_USD") == 0)
    assert client.zcard("ws:manifold:hist:EUR_USD") == 1
    listener.heard()
    deliver(valkey_url, [manifold(last - 1)], [manifold(last)])
    assert client.exists("ws:last:manifold:EUR_USD") == 0
    assert listener.heard() == []


def test_the_history_reaches_back_24_hours_from_the_newest_and_not_a_millisecond_more(
    valkey_url: str, client: Any
) -> None:
    oldest, newest = BAR_MS, BAR_MS + DAY_MS
    deliver(valkey_url, [manifold(at) for at in (oldest, oldest + MINUTE_MS, newest)])
    assert history(client) == [oldest, oldest + MINUTE_MS, newest]
    deliver(valkey_url, [manifold(newest + 1)])
    assert history(client) == [oldest + MINUTE_MS, newest, newest + 1]


def test_what_is_too_old_for_the_history_does_not_come_back(valkey_url: str, client: Any) -> None:
    every = [manifold(BAR_MS), manifold(BAR_MS + DAY_MS + 1)]
    deliver(valkey_url, every, every, every[:1])
    assert history(client) == [BAR_MS + DAY_MS + 1]


def history(client: Any, instrument: str = "EUR_USD") -> list[int]:
    found = client.zrange(f"ws:manifold:hist:{instrument}", 0, -1, withscores=True)
    assert [json.loads(member)["ts_ms"] for member, _ in found] == [int(at) for _, at in found]
    return [int(at) for _, at in found]


# -- what is published ---------------------------------------------------------------------------


def stamps(told: list[Any], instrument: str = "EUR_USD") -> list[int]:
    return [message["ts_ms"] for message in told if message["instrument"] == instrument]


def test_each_newer_manifold_is_said_once_and_nothing_delivered_again_or_older(
    valkey_url: str, listener: Listener
) -> None:
    now = recent_minute()
    first, second, third = (manifold(now - back * MINUTE_MS) for back in (2, 1, 0))
    deliver(valkey_url, [first], [first], [third])
    assert stamps(listener.heard()) == [first.as_of_ms, third.as_of_ms]
    deliver(valkey_url, [first], [second], [third], [first, second, third])
    assert listener.heard() == []


def test_of_one_batch_the_newest_of_each_instrument_is_said(
    valkey_url: str, listener: Listener
) -> None:
    now = recent_minute()
    batch = [
        manifold(now - back * MINUTE_MS, instrument)
        for back in (1, 0, 2)
        for instrument in ("EUR_USD", "USD_JPY")
    ]
    deliver(valkey_url, batch)
    told = listener.heard()
    assert len(told) == 2
    assert stamps(told, "EUR_USD") == stamps(told, "USD_JPY") == [now]


def test_other_records_are_not_said(valkey_url: str, listener: Listener) -> None:
    deliver(valkey_url, [event for name, event in SAMPLES.items() if name != "Manifold"])
    assert listener.heard() == []


def test_several_mirrors_say_each_manifold_once_and_in_order(
    valkey_url: str, client: Any, listener: Listener
) -> None:
    now = recent_minute()
    every = [manifold(now - 60_000 + at, price=1 + at / 1e5) for at in range(150)]
    deliver(valkey_url, *([event] for event in every), mirrors=3)
    told = stamps(listener.heard())
    assert told == sorted(set(told))
    assert told[-1] == every[-1].as_of_ms
    assert json.loads(client.get("ws:last:manifold:EUR_USD"))["ts_ms"] == every[-1].as_of_ms
    assert history(client) == [event.as_of_ms for event in every]


# -- one write an epoch --------------------------------------------------------------------------


@pytest.fixture
def blob_writes(client: Any) -> Iterator[Callable[[], list[str]]]:
    """What Valkey itself says was done to the blob since the last call."""
    before = client.config_get("notify-keyspace-events")["notify-keyspace-events"]
    client.config_set("notify-keyspace-events", "KA")
    database = client.connection_pool.connection_kwargs["db"]
    channel = f"__keyspace@{database}__:opt:rolling:gates_blob"
    with closing(client.pubsub()) as subscribed:
        subscribed.subscribe(channel)
        assert subscribed.get_message(timeout=PATIENCE_S)["type"] == "subscribe"

        def done() -> list[str]:
            client.publish(channel, END_OF_DELIVERY)
            told: list[str] = []
            while (message := subscribed.get_message(timeout=PATIENCE_S)) is not None:
                if message["data"] == END_OF_DELIVERY:
                    return told
                told.append(message["data"])
            raise AssertionError("the channel does not answer")

        yield done
    client.config_set("notify-keyspace-events", before)


def test_the_blob_is_written_once_an_epoch_with_the_epoch_as_its_time(
    valkey_url: str, client: Any, blob_writes: Callable[[], list[str]]
) -> None:
    for at in range(BAR_MS, BAR_MS + 5 * MINUTE_MS, MINUTE_MS):
        deliver(valkey_url, [epoch(at)])
        assert json.loads(client.get("opt:rolling:gates_blob"))["ts"] == at
        assert blob_writes() == ["set"]
        deliver(valkey_url, [epoch(at)], [epoch(BAR_MS), epoch(at)])
        assert blob_writes() == []


def test_a_blob_delivered_again_keeps_its_first_content(valkey_url: str, client: Any) -> None:
    deliver(valkey_url, [WEIGHTS], [WEIGHTS._replace(gates=())])
    assert set(json.loads(client.get("opt:rolling:gates_blob"))["gates"]) == {"EUR_USD", "NZD_USD"}


# -- bounds --------------------------------------------------------------------------------------


def signal_keys(client: Any) -> set[str]:
    return set(client.scan_iter(match="sep:signal:*"))


def test_the_bounds_hold_after_every_record_per_instrument(valkey_url: str, client: Any) -> None:
    kept = Retention(candles=4, signals=3)
    bars = [BAR_MS + i * MINUTE_MS for i in range(9)]
    for count, bar in enumerate(bars, 1):
        for pair in ("EUR_USD", "USD_JPY"):
            deliver(valkey_url, [candle(bar, pair), signal(bar, pair)], retention=kept)
            newest = bars[:count]
            shown = [int(at) for _, at in members(client, f"md:candles:{pair}:M1")]
            assert shown == newest[-4:]
            index = client.zrange(f"sep:signal_index:{pair}", 0, -1)
            assert index == [f"sep:signal:{pair}:{at}000000" for at in newest[-3:]]
    assert signal_keys(client) == {
        f"sep:signal:{pair}:{at}000000" for pair in ("EUR_USD", "USD_JPY") for at in bars[-3:]
    }


def test_what_the_bounds_dropped_does_not_come_back_with_a_redelivery(
    valkey_url: str, client: Any
) -> None:
    kept = Retention(candles=2, signals=2)
    bars = [BAR_MS + i * MINUTE_MS for i in range(6)]
    every = [event for bar in bars for event in (candle(bar), signal(bar))]
    deliver(valkey_url, every, every[:6], every, retention=kept)
    assert [int(at) for _, at in members(client, "md:candles:EUR_USD:M1")] == bars[-2:]
    assert signal_keys(client) == {f"sep:signal:EUR_USD:{at}000000" for at in bars[-2:]}
    assert set(client.zrange("sep:signal_index:EUR_USD", 0, -1)) == signal_keys(client)


def test_a_lower_bound_takes_effect_with_the_next_record(valkey_url: str, client: Any) -> None:
    bars = [BAR_MS + i * MINUTE_MS for i in range(8)]
    deliver(valkey_url, [event for bar in bars[:-1] for event in (candle(bar), signal(bar))])
    assert client.zcard("md:candles:EUR_USD:M1") == len(signal_keys(client)) == 7
    deliver(valkey_url, [candle(bars[-1]), signal(bars[-1])], retention=Retention(3, 2))
    assert [int(at) for _, at in members(client, "md:candles:EUR_USD:M1")] == bars[-3:]
    assert signal_keys(client) == {f"sep:signal:EUR_USD:{at}000000" for at in bars[-2:]}


# -- any sequence of deliveries ------------------------------------------------------------------

PAIRS = ("EUR_USD", "USD_JPY")
# minutes before now: some whose manifold has not run out, some where it has, some out of history
AGES_MIN = (0, 1, 2, 3, 10, 700, 1439, 1440, 1443, 3000)
SMALL = Retention(candles=4, signals=3)


class Told(NamedTuple):
    """One record of a drawn log, by its age in minutes."""

    kind: str
    pair: str
    age_min: int

    @property
    def yes(self) -> bool:
        """The verdict of a decision: another one at the next age."""
        return AGES_MIN.index(self.age_min) % 2 == 0


def whole_log(ages_min: Sequence[int]) -> list[Told]:
    series = [
        Told(kind, pair, age)
        for age in ages_min
        for pair in PAIRS
        for kind in ("candle", "signal", "manifold", "decision")
    ]
    return [*series, *(Told("epoch", "", age) for age in ages_min)]


LOGS = st.lists(st.sampled_from(AGES_MIN), min_size=2, max_size=5, unique=True).map(whole_log)


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[list[Told], list[list[Told]]]:
    """Return a log, and batches in which each of its records comes once at least."""
    log = draw(LOGS)
    again = draw(st.lists(st.sampled_from(log), max_size=16))
    arriving = draw(st.permutations([*log, *again]))
    cuts = sorted(draw(st.sets(st.integers(1, len(arriving) - 1), max_size=12)))
    batches = [arriving[a:b] for a, b in itertools.pairwise([0, *cuts, len(arriving)])]
    rewound_to = draw(st.integers(0, len(batches)))
    return log, batches + batches[:rewound_to]


def event_of(told: Told, now: int) -> Event:
    at = now - told.age_min * MINUTE_MS
    if told.kind == "candle":
        return candle(at, told.pair)
    if told.kind == "signal":
        return signal(at, told.pair)
    if told.kind == "manifold":
        return manifold(at, told.pair)
    if told.kind == "decision":
        return decision(at, told.yes, told.pair)
    return epoch(at)


def last_values(log: Sequence[Told], now: int) -> dict[str, Any]:
    """Return what the last values say after these records, whatever their order: the newest."""
    newest: dict[str, Told] = {}
    for told in sorted(log, key=lambda told: told.age_min, reverse=True):
        newest[told.kind if told.kind == "epoch" else f"{told.kind} {told.pair}"] = told
    wanted: dict[str, Any] = {}
    for told in newest.values():
        at = now - told.age_min * MINUTE_MS
        if told.kind == "manifold" and told.age_min < 5:
            wanted[f"ws:last:manifold:{told.pair}"] = at
        if told.kind == "decision":
            wanted[f"opt:rolling:eligible:{told.pair}"] = int(told.yes)
            for counter in ("passes", "fails", "misses"):
                wanted[f"opt:rolling:{counter}:{told.pair}"] = getattr(DECISION, counter)
            wanted[f"opt:rolling:cooldown:{told.pair}"] = 1
        if told.kind == "epoch":
            wanted["opt:rolling:gates_blob"] = at
            wanted["opt:allocator:status"] = at
            wanted["risk:allocation_weights"] = at / 1e13
    return wanted


def shown_last_values(client: Any) -> dict[str, Any]:
    shown = {name: json.loads(client.get(name)) for name in client.scan_iter(match="ws:last:*")}
    for name in client.scan_iter(match="opt:*"):
        shown[name] = json.loads(client.get(name))
    if client.exists("risk:allocation_weights"):
        weights = json.loads(client.get("risk:allocation_weights"))
        shown["risk:allocation_weights"] = weights["EUR_USD"]
    return {
        name: value.get("ts_ms", value.get("ts")) if isinstance(value, dict) else value
        for name, value in shown.items()
    }


def require_series_within_bounds(client: Any) -> None:
    for pair in PAIRS:
        assert client.zcard(f"md:candles:{pair}:M1") <= SMALL.candles
        assert client.zcard(f"sep:signal_index:{pair}") <= SMALL.signals
        instants = history(client, pair)
        assert not instants or instants[0] >= instants[-1] - DAY_MS
    indexed = [client.zrange(f"sep:signal_index:{pair}", 0, -1) for pair in PAIRS]
    assert signal_keys(client) == set(itertools.chain(*indexed))


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(drawn=deliveries())
def test_any_deliveries_end_where_one_in_order_does_and_go_backwards_at_no_moment(
    valkey_url: str, client: Any, listener: Listener, drawn: tuple[list[Told], list[list[Told]]]
) -> None:
    log, batches = drawn
    now = recent_minute()
    client.flushdb()
    in_order = sorted(log, key=lambda told: told.age_min, reverse=True)
    deliver(valkey_url, *([event_of(told, now)] for told in in_order), retention=SMALL)
    wanted = dump(valkey_url)
    client.flushdb()
    listener.heard()
    arrived: list[Told] = []
    said: list[Any] = []
    for batch in batches:
        deliver(valkey_url, [event_of(told, now) for told in batch], retention=SMALL)
        arrived += batch
        assert shown_last_values(client) == last_values(arrived, now)
        require_series_within_bounds(client)
        said += listener.heard()
    assert dump(valkey_url) == wanted
    for pair in PAIRS:
        told = stamps(said, pair)
        assert told == sorted(set(told))


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(drawn=deliveries())
def test_mirrors_at_the_same_time_end_where_one_does(
    valkey_url: str, client: Any, listener: Listener, drawn: tuple[list[Told], list[list[Told]]]
) -> None:
    log, batches = drawn
    now = recent_minute()
    client.flushdb()
    deliver(valkey_url, [event_of(told, now) for told in log], retention=SMALL)
    wanted = dump(valkey_url)
    client.flushdb()
    listener.heard()
    arriving = [[event_of(told, now) for told in batch] for batch in batches]
    deliver(valkey_url, *arriving, retention=SMALL, mirrors=3)
    assert dump(valkey_url) == wanted
    said = listener.heard()
    for pair in PAIRS:
        told = stamps(said, pair)
        assert told == sorted(set(told))


# -- a rebuild from the log ----------------------------------------------------------------------

NOT_OURS = {
    "ops:kill_switch": "1",
    "bt:trial:run:7": '{"ts":1400000100}',
    "opt:backtests:report:latest": '{"content":{}}',
    "manifold:EUR_USD:2014-05-13": "gzip",
    "md:price:EUR_USD": "1.3711",
    "risk:alloc_budget": "1000",
    "manifold:metrics:latest": "0.5",
}
LEFT_OVER = {
    "sep:signal:EUR_USD:60000000000": "{}",
    "ws:last:manifold:XAU_USD": "{}",
    "opt:rolling:eligible:XAU_USD": "1",
    "opt:rolling:cooldown:XAU_USD": "1",
    "bt:rolling:summary:XAU_USD": '{"ts":1400000100}',
    "opt:best_config:XAU_USD": '{"params":{}}',
    "opt:best_config_meta:XAU_USD": '{"params":{}}',
    "bt:rolling:hist:XAU_USD:p": '{"ts":1400000100}',
    "sep:ledger:events": "decided",
    "opt:rolling:gates_blob": '{"ts":4102444800000}',
    "risk:allocation_weights": '{"XAU_USD":1.0}',
}


@pytest.fixture
def written_log(
    kafka: KafkaBroker, topic_prefix: str, valkey_url: str, tmp_path: Path
) -> Callable[[Sequence[Event]], Deployment]:
    """Write events to the topics of a deployment that nothing else runs in."""
    deployment = Deployment(
        tmp_path,
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
        TOPIC_PREFIX=topic_prefix,
        TOPIC_PARTITIONS="2",
        VALKEY_URL=valkey_url,
    )

    def write(events: Sequence[Event]) -> Deployment:
        producer = Producer(producer_config(deployment.runtime))
        for event in events:
            topic = TOPIC_OF[type(event).__name__]
            producer.produce(
                deployment.runtime.topic(topic),
                deployment.codec.encode(topic, event),
                getattr(event, "instrument", "portfolio"),
                timestamp=event.as_of_ms,  # type: ignore[union-attr]
            )
        assert producer.flush(30) == 0
        return deployment

    return write


def log_of_a_day(now: int) -> list[Event]:
    """Return records of two pairs, the last manifold of the second one out of its 300 s."""
    bars = [now - back * MINUTE_MS for back in (3001, 1500, 900, 301, 3, 2, 1)]
    series: list[Event] = [
        made(bar, pair) for bar in bars for pair in PAIRS for made in (candle, signal)
    ]
    last: list[Event] = [manifold(bar, PAIRS[0]) for bar in bars]
    gone: list[Event] = [manifold(bar, PAIRS[1]) for bar in bars[:-3]]
    verdicts: list[Event] = [decision(bar, bar == bars[-1], PAIRS[0]) for bar in bars]
    return [*series, *last, *gone, *verdicts, *map(epoch, bars)]


@pytest.mark.kafka
def test_a_rebuild_leaves_what_is_not_the_mirrors_and_removes_what_the_log_does_not_say(
    valkey_url: str, client: Any, written_log: Callable[[Sequence[Event]], Deployment]
) -> None:
    now = recent_minute()
    events = log_of_a_day(now)
    deployment = written_log(events)
    deliver(valkey_url, events)
    mirrored = dump(valkey_url)
    client.mset(NOT_OURS | LEFT_OVER)
    client.zadd("md:candles:XAU_USD:M1", {"{}": 60_000})
    client.zadd("sep:signal_index:EUR_USD", {"sep:signal:EUR_USD:60000000000": 60_000})
    client.hset("manifold:mirror:as_of", "opt:rolling:gates_blob", "4102444800000")
    client.hset("manifold:mirror:positions", "another cluster/md.candles/0", "7")
    done = deployment.run("mirror", "--rebuild", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["written"] > 0
    theirs = {name.encode(): value.encode() for name, value in NOT_OURS.items()}
    found = dump(valkey_url)
    reached = found.pop(b"manifold:mirror:positions")
    assert sum(map(int, reached.values())) == len(events)
    # the keys of the kill switch and of the service are in no dump
    for name in ("ops:kill_switch", "risk:alloc_budget"):
        assert client.get(name) == NOT_OURS[name]
        del theirs[name.encode()]
    assert found == mirrored | theirs


@pytest.mark.kafka
def test_a_rebuild_leaves_out_what_has_run_out_and_what_is_over_the_bounds(
    client: Any, listener: Listener, written_log: Callable[[Sequence[Event]], Deployment]
) -> None:
    now = recent_minute()
    deployment = written_log(log_of_a_day(now))
    bounds = {"VALKEY_CANDLE_RETENTION": "3", "VALKEY_SIGNAL_RETENTION": "2"}
    done = deployment.run("mirror", "--rebuild", **bounds)
    assert done.returncode == 0, done.stderr
    assert listener.heard() == [], "a rebuild tells subscribers what is long past"
    assert list(client.scan_iter(match="ws:last:manifold:*")) == ["ws:last:manifold:EUR_USD"]
    assert client.pexpiretime("ws:last:manifold:EUR_USD") == now - MINUTE_MS + 300_000
    minutes = [(now - at) // MINUTE_MS for at in history(client, "EUR_USD")]
    assert minutes == [900, 301, 3, 2, 1]
    minutes = [(now - at) // MINUTE_MS for at in history(client, "USD_JPY")]
    assert minutes == [1500, 900, 301]
    for pair in PAIRS:
        shown = [int(at) for _, at in members(client, f"md:candles:{pair}:M1")]
        assert shown == [now - back * MINUTE_MS for back in (3, 2, 1)]
        index = client.zrange(f"sep:signal_index:{pair}", 0, -1)
        assert index == [f"sep:signal:{pair}:{now - back * MINUTE_MS}000000" for back in (2, 1)]
    assert len(signal_keys(client)) == 4


def url_of(client: Any) -> str:
    options = client.connection_pool.connection_kwargs
    return f"redis://{options['host']}:{options['port']}/{options.get('db', 0)}"


@pytest.mark.parametrize("stored", ["junk", "", "-1", "1e3", "nan", "9" * 30, " 7", "\u00b2"])
def test_a_position_that_is_no_offset_counts_as_none(client: Any, stored: str) -> None:
    client.delete(POSITIONS)
    client.hset(POSITIONS, "p", stored)

    async def positions() -> tuple[list[int | None], bool, list[int | None]]:
        connected = connect(Runtime.from_env({"VALKEY_URL": url_of(client)}))
        try:
            writer = MirrorWriter(connected)
            before = await writer.positions(["p", "q"])
            moved = await writer.apply([], [Advance("p", None, 7)])
            return before, moved, await writer.positions(["p"])
        finally:
            await connected.aclose()

    assert asyncio.run(positions()) == ([None, None], True, [7])


def test_keys_of_another_type_are_written_anew_and_stall_nothing(client: Any) -> None:
    bar_ms = recent_minute() - 10 * MINUTE_MS
    name = "XXX_YYY"
    client.set(f"md:candles:{name}:M1", "a text")
    client.set(f"sep:signal_index:{name}", "a text")
    client.delete(GUARD, POSITIONS)
    client.set(GUARD, "a text")
    client.lpush(POSITIONS, "a list")
    client.sadd(f"ws:last:manifold:{name}", "a set")
    events = [candle(bar_ms, name), signal(bar_ms, name), manifold(recent_minute(), name)]
    deliver(url_of(client), [*events, candle(bar_ms)])
    assert client.zcard(f"md:candles:{name}:M1") == 1
    assert client.zcard(f"sep:signal_index:{name}") == 1
    assert client.type(GUARD) == "hash"
    assert json.loads(client.get(f"ws:last:manifold:{name}"))["instrument"] == name
    assert client.type(POSITIONS) in ("hash", "none")


def test_a_guard_that_is_no_time_hides_no_newer_value(client: Any) -> None:
    for junk in ("junk", "inf", "nan", ""):
        client.hset(GUARD, "opt:rolling:passes:XXX_YYY", junk)
        deliver(url_of(client), [DECISION._replace(instrument="XXX_YYY", passes=3)])
        assert client.get("opt:rolling:passes:XXX_YYY") == "3"
        client.delete("opt:rolling:passes:XXX_YYY")
