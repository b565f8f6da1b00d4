"""What ``manifold tail`` and ``rpk topic consume`` print of ``md.candles`` reads back as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.candles.files import Refused, read_candles
from streams.kafka.reader import LogRecord
from streams.records.codec import locked_codec
from streams.records.events import WATERMARK_KEY, Candle, Event, Watermark
from streams.records.json import value_text
from streams.records.log_record import SourceRecord
from streams.records.topics import CANDLES
from streams.replay.tail import record_json
from tests.support.candle_files import START_MS, market

CODEC = locked_codec("")
POOL = market(("EUR_USD", "USD_JPY"), 40)
STYLES = ("tail", "tail --pretty", "rpk", "rpk -f '%v'")


def printed(style: str, events: list[Event]) -> str:
    """Return the text that a command prints of records."""
    lines = []
    for offset, event in enumerate(events):
        key = event.instrument.encode() if isinstance(event, Candle) else WATERMARK_KEY
        value = CODEC.encode(CANDLES, event)
        if style == "rpk -f '%v'":
            lines.append(value_text(CODEC, value))
            continue
        record = SourceRecord(CANDLES, 0, offset, event.as_of_ms, key, value)
        shown = record_json(CODEC, LogRecord(record, {"engine": "qfh"}), CANDLES)
        if style == "tail":
            lines.append(json.dumps(shown, separators=(",", ":")))
        else:
            lines.append(json.dumps(shown, indent=2))
    return "\n".join(lines) + "\n"


@st.composite
def logs(draw: st.DrawFn) -> list[Event]:
    """Candles of a market with some fields left out, and watermarks in between."""
    events: list[Event] = []
    for candle in draw(st.lists(st.sampled_from(POOL), min_size=1, max_size=30, unique=True)):
        kind = draw(st.sampled_from(("whole", "no volume", "mid only", "watermark before")))
        if kind == "no volume":
            candle = candle._replace(volume=None)
        elif kind == "mid only":
            candle = candle._replace(bid=None, ask=None, mid_derived=False)
        elif kind == "watermark before":
            events.append(Watermark(START_MS, "M1", 3, ("EUR_USD",)))
        events.append(candle)
    return events


@pytest.mark.parametrize("style", STYLES)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=logs())
def test_printed_records_are_the_candles_of_the_log(
    style: str, events: list[Event], tmp_path: Path
) -> None:
    place = tmp_path / "printed.json"
    place.write_text(printed(style, events))
    found = [row for _, row in read_candles(str(place))]
    wanted = [e._replace(source="file") for e in events if isinstance(e, Candle)]
    assert found == wanted


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (
            {"value": '{"instrument":"EUR_USD","coherence":0.5}'},
            "is not a candle; print md.candles",
        ),
        ({"value": "\x00\x00\x00\x00\x01..."}, "--use-schema-registry=value"),
        ({}, "--use-schema-registry=value"),
    ],
)
def test_a_printed_record_of_something_else_is_refused_by_its_line(
    record: dict[str, Any], said: str, tmp_path: Path
) -> None:
    place = tmp_path / "printed.json"
    head = {"topic": "sep.signals", "partition": 0, "offset": 7}
    good = printed("tail", [POOL[0]])
    place.write_text(good + json.dumps(head | record) + "\n")
    found = list(read_candles(str(place)))
    assert [line for line, _ in found] == [1, 2]
    refused = found[1][1]
    assert isinstance(refused, Refused) and refused.reason == "bad_json"
    assert said in refused.detail
