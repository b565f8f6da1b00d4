"""The JSON text of a value, as rpk prints it (field order aside, which rpk leaves to chance)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from streams.records.codec import DecodeError, locked_codec
from streams.records.json import value_text
from tests.support.sample_events import BARE_SAMPLES, SAMPLES, TOPIC_OF

CODEC = locked_codec()


def shown(name: str, samples: dict[str, Any] = SAMPLES) -> dict[str, Any]:
    text: dict[str, Any] = json.loads(
        value_text(CODEC, CODEC.encode(TOPIC_OF[name], samples[name]))
    )
    return text


@pytest.mark.parametrize("name", SAMPLES)
def test_every_record_has_its_fields_under_the_schema_names(name: str) -> None:
    fields = [field.rstrip("_") for field in SAMPLES[name]._fields]
    assert sorted(shown(name)) == sorted(fields)


def test_an_optional_value_carries_its_type() -> None:
    assert shown("Candle")["volume"] == {"long": 42}
    assert shown("Candle")["bid"]["manifold.Ohlc"]["open"] == 1.371
    bare = shown("Candle", BARE_SAMPLES)
    assert (bare["volume"], bare["bid"]) == (None, None)


def test_an_optional_time_carries_its_logical_type_and_a_plain_time_is_a_number() -> None:
    decision = shown("GateDecision")
    assert list(decision["cooldown_until_ms"]) == ["long.timestamp-millis"]
    assert isinstance(decision["as_of_ms"], int)


def test_bytes_are_characters_up_to_ff() -> None:
    letter = SAMPLES["DeadLetter"]
    assert shown("DeadLetter")["value"] == {"bytes": letter.value.decode("latin-1")}  # type: ignore[union-attr]


@pytest.mark.parametrize("cut", [b"", b"\0\0", b"\1\0\0\0\1x"])
def test_what_is_no_frame_is_said(cut: bytes) -> None:
    with pytest.raises(DecodeError):
        value_text(CODEC, cut)


def test_a_cut_or_longer_body_is_said() -> None:
    frame = CODEC.encode("md.candles", SAMPLES["Candle"])
    with pytest.raises(DecodeError, match="truncated"):
        value_text(CODEC, frame[:-3])
    with pytest.raises(DecodeError, match="trailing_bytes"):
        value_text(CODEC, frame + b"\0")
