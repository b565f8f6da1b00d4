"""Records of every type with values that make sense, and with one or more that make none."""

from __future__ import annotations

import random
import typing
from collections.abc import Iterator
from typing import Any, NamedTuple

from streams.pipeline.processor import record_key
from streams.records.codec import EncodeError, locked_codec
from streams.records.events import Control, Event, Watermark
from streams.records.topics import TOPICS
from streams.records.value_rules import field_rules
from tests.support.sample_events import BARE_SAMPLES, SAMPLES

CODEC = locked_codec()
FAR_MS = 3_999_999_960_000
"""In the year 2096."""
NUMBERS = (
    *(0, 1, -1, 2, 127, 128, 1 << 31, 10**9, 10**12 + 1, 253_402_300_800_000, FAR_MS),
    *(31_535_999_999, 4_102_444_800_001, (1 << 62), (1 << 63) - 1, -(1 << 63), -60_000),
)
REALS = (
    *(0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 1e-13, 5e-324, 1e12, 1e13, 1e16, 1e31, 1e101, 1e308),
    *(-1e308, 1.7976931348623157e308, -1e16, 2.0, 100.0),
)
TEXTS = (
    *("", "x", "EUR_USD", "x/y\n<img src=x onerror=alert(1)>", "\x00", "\u00b2", "\x1b[31m\u202e"),
    *("9" * 4_400, "A" * 33, "a" * 200, "b" * 20_000, "M1", "D", "H4", "~watermark", "portfolio"),
    *("buy", "close", "filled", "echo", "static", "published", "audit", "params", "kill_switch"),
    *("flatten", "universe", "config", "pause", "limits_reset", "order", "GLOBAL", "pct", "\u00e4"),
)
JSONS = (
    "", "1", "null", "[]", "{}", "NaN", "[" * 100_000, '{"a":' * 5_000, "9" * 400, "1e999",
    '{"operation":"x","parameters":{"a":1e999}}', '{"AUTO_MIN_COHERENCE":' + "9" * 400 + "}",
    '{"AUTO_MIN_COHERENCE":"' + "9" * 400 + '"}', '{"ATR_BARS":"' + "9" * 5_000 + '"}',
    '{"AUTO_MIN_COHERENCE":0.5}', '{"params":{"c_min":0.5},"summary":{"x":[1.5,null]}}',
    '{"params":{},"summary":' + "[" * 40 + "]" * 40 + "}", '{"env":[],"params":{}}',
    '{"AUTO_MIN_COHERENCE":[0.5]}', '{"AUTO_MIN_COHERENCE":null}', '{"AUTO_MIN_COHERENCE":true}',
    '{"engaged":true}', '{"engaged":false}', '{"engaged":false,"read_to":3}', '{"engaged":1}',
    '{"engaged":false,"read_to":' + "9" * 30 + "}", '{"account_id":"paper"}', '{"account_id":3}',
    '{"account_id":"\\ud800"}', '{"account_id":"paper","limit":"drawdown"}', '["account_id"]',
    '{"instruments":["EUR_USD"],"mode":"replace","from_ms":0,"until_ms":null}',
    '{"instruments":["EUR_USD","x/y"],"mode":"replace","from_ms":0,"until_ms":null}',
    '{"instruments":["EUR_USD"],"mode":"add","from_ms":0,"until_ms":' + "9" * 30 + "}",
    '{"instruments":["EUR_USD"],"mode":"add","from_ms":-5,"until_ms":9223372036854775807}',
    '{"HYSTERESIS_PAIR_JSON":{"EUR_USD":' + "9" * 400 + "}}", '{"MARKET_HOLIDAYS":"{[[[["}',
    '{"MARKET_HOLIDAYS":"{' + "[" * 9_000 + '"}', '{"EVAL_SLICES_DAYS":[1e999]}',
    '{"EVAL_SLICES_DAYS":["x"]}', '{"CANDLE_GRAN":"D"}', '{"CANDLE_GRAN":"M5"}', '{"\\u0000":1}',
    '{"ALLOC_TOP_K":9223372036854775807}', '{"CANDLE_COUNT":1e300}', '{"GATE_MODE":"none"}',
)  # fmt: skip
"""Of control records; settings of a newer version are not among them: these end a reader."""


class Made(NamedTuple):
    """A record as it could lie in the log."""

    topic: str
    event: Event
    key: bytes | None
    timestamp_ms: int
    value: bytes


def topics_of(record: str) -> list[str]:
    """Return the topics that contain a record type."""
    return [topic.name for topic in TOPICS.values() if record in topic.records]


def valid(rng: random.Random, record: str) -> Event:
    """Return a valid record: a sample, with some values changed within their rules."""
    events = [e for e in (SAMPLES[record], BARE_SAMPLES.get(record)) if e is not None]
    event: Any = rng.choice(events)
    changed: dict[str, Any] = {}
    for name, rule in field_rules(type(event)).items():
        value = getattr(event, name)
        if not rule.bounded or rule.fields or rule.item or rng.random() < 0.7:
            continue
        if isinstance(value, bool):
            changed[name] = rng.random() < 0.5
        elif isinstance(value, float):
            changed[name] = min(max(value * rng.uniform(0.5, 1.5), rule.low), rule.high)
        elif isinstance(value, str) and not (isinstance(event, Control) and name == "value"):
            changed[name] = "t" * rng.randint(0, int(min(rule.high, 128)))
        elif isinstance(value, int) and not name.endswith("_ms") and name != "span_days":
            changed[name] = rng.randint(int(max(rule.low, -(10**6))), int(min(rule.high, 10**6)))
    return event._replace(**changed)


def mutated(rng: random.Random, value: Any, kind: Any) -> Any:
    """Return a value, or a part of it, changed to something of the same type."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        name = rng.choice(value._fields)
        hint = typing.get_type_hints(type(value))[name]
        return value._replace(**{name: mutated(rng, getattr(value, name), hint)})
    arguments = typing.get_args(kind)
    if isinstance(value, tuple):
        if not value or rng.random() < 0.3:
            often = 3_000 if len(value) < 6 and rng.random() < 0.1 else 2
            return rng.choice(((), value[:1], value * often))
        return (mutated(rng, value[0], arguments[0]), *value[1:])
    if type(None) in arguments and rng.random() < 0.2:
        return None
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return rng.choice((*NUMBERS, value + 1, value - 60_000, value + 60_000, -value))
    if isinstance(value, float):
        return rng.choice((*REALS, -value, value * 1e6, rng.uniform(-2, 2)))
    if isinstance(value, bytes):
        return rng.choice((b"", b"\xff\xfe", value * 1_000, b"\x00"))
    if isinstance(value, str):
        return rng.choice((*TEXTS, value + "x", value[:-1]))
    inner = [a for a in arguments if a is not type(None)] or [str]
    made = {int: rng.choice(NUMBERS), float: rng.choice(REALS), str: rng.choice(TEXTS)}
    return made.get(inner[0])


def records(seed: int, count: int) -> Iterator[Made]:
    """Yield records of all types, some of them valid; the same for the same seed."""
    rng = random.Random(seed)
    for _ in range(count):
        record = rng.choice(sorted(SAMPLES))
        event: Any = valid(rng, record)
        for _ in range(rng.choice((0, 1, 1, 1, 2, 4))):
            event = mutated(rng, event, type(event))
        if isinstance(event, Control) and rng.random() < 0.7:
            kinds = typing.get_args(typing.get_type_hints(Control)["kind"])
            event = event._replace(kind=rng.choice(kinds), value=rng.choice(JSONS))
        as_of_ms = getattr(event, "as_of_ms", FAR_MS)
        stamp = rng.choice((as_of_ms, as_of_ms, as_of_ms, as_of_ms - 1, as_of_ms + 60_000))
        keys = (None, b"", b"\xff", b"GBP_USD")
        key = record_key(event) if rng.random() < 0.9 else rng.choice(keys)
        topic = rng.choice(topics_of(record))
        try:
            value = CODEC.encode(topic, event)
        except EncodeError:
            continue  # not even Avro has it
        if rng.random() < 0.02:
            value = value[: rng.randint(0, len(value))]
        if isinstance(event, Watermark) and rng.random() < 0.5:
            key = b"~watermark"
        yield Made(topic, event, key, min(max(stamp, 0), (1 << 63) - 1), value)
