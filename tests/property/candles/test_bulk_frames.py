"""Frames read in bulk: a candle of the codec's, to the bit and valid, or left to the codec."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from streams.candles import bulk_avro as bulk_candles
from streams.candles.bulk_avro import (
    GRANULARITIES,
    PLAIN,
    SLOW,
    SOURCES,
    BulkCandles,
    FrameColumns,
    concatenated,
)
from streams.candles.rules import candle_refusal
from streams.errors import Fatal
from streams.instants import EARLIEST_MS, GRANULARITY_MS, HOUR_MS, LATEST_MS
from streams.records.codec import locked_codec
from streams.records.events import Candle, Control, Ohlc, Watermark
from streams.records.topics import CANDLES
from tests.property.records.test_codec_frames import values
from tests.support.candle_files import market

CODEC = locked_codec()
PREFIX = CODEC.encode(CANDLES, market(["EUR_USD"], 1)[0])[:5]


def frames_of(frames: Sequence[bytes | None]) -> FrameColumns:
    return BulkCandles(CODEC.schema_id(CANDLES, "Candle")).read(*concatenated(list(frames)))


def candle_at(found: FrameColumns, at: int) -> Candle:
    p = found.prices[:, at].tolist()
    volume = int(found.volume[at])
    return Candle(
        found.instruments[found.instrument[at]].decode(),
        GRANULARITIES[found.granularity[at]],
        int(found.bar_ms[at]),
        int(found.as_of_ms[at]),
        Ohlc(*p[:4]),
        None if np.isnan(p[4]) else Ohlc(*p[4:8]),
        None if np.isnan(p[8]) else Ohlc(*p[8:]),
        bool(found.mid_derived[at]),
        None if volume == -1 else volume,
        SOURCES[found.source[at]],
    )


def agree(frames: Sequence[bytes | None]) -> FrameColumns:
    """Check that every plain frame is the codec's candle, and valid; return what was found."""
    found = frames_of(frames)
    assert set(found.status.tolist()) <= {PLAIN, SLOW}
    for at in np.flatnonzero(found.status == PLAIN).tolist():
        wanted = CODEC.decode(CANDLES, frames[at])
        assert repr(candle_at(found, at)) == repr(wanted)
        assert isinstance(wanted, Candle)
        assert candle_refusal(wanted, wanted.instrument.encode()) is None
    return found


PRICES = st.floats(1e-12, 1e12) | st.integers(1, 10**12).map(float) | st.floats(0.5, 2.0)
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}", fullmatch=True)


@st.composite
def ohlcs(draw: st.DrawFn) -> Ohlc:
    low, a, b, high = sorted(draw(st.lists(PRICES, min_size=4, max_size=4)))
    return Ohlc(*draw(st.sampled_from(((a, high, low, b), (b, high, low, a)))))


def above(bid: Ohlc | None, ask: Ohlc | None) -> Ohlc | None:
    """Return ask prices that are nowhere below the bid."""
    return ask if bid is None or ask is None else Ohlc(*map(max, bid, ask))


@st.composite
def candles(draw: st.DrawFn) -> Candle:
    granularity = draw(st.sampled_from(GRANULARITIES))
    length = GRANULARITY_MS[granularity]
    step = min(length, HOUR_MS)
    bar_ms = step * draw(st.integers(EARLIEST_MS // step, (LATEST_MS - length) // step))
    bid = draw(st.none() | ohlcs())
    return Candle(
        draw(st.sampled_from(("EUR_USD", "NZD_USD")) | NAMES),
        granularity,
        bar_ms,
        bar_ms + length,
        draw(ohlcs()),
        bid,
        above(bid, draw(st.none() | ohlcs())),
        draw(st.booleans()),
        draw(st.none() | st.integers(0, 300) | st.integers(0, 2**61)),
        draw(st.sampled_from(SOURCES)),
    )


@settings(deadline=None)
@given(st.lists(candles(), max_size=30))
def test_valid_candles_are_read_to_the_bit_and_none_is_left_over(made: list[Candle]) -> None:
    found = agree([CODEC.encode(CANDLES, candle) for candle in made])
    assert found.status.tolist() == [PLAIN] * len(made)
    assert found.instruments == list(dict.fromkeys(c.instrument.encode() for c in made))


@settings(deadline=None)
@given(candles(), ohlcs(), ohlcs())
def test_a_crossed_quote_is_left_to_the_codec(candle: Candle, bid: Ohlc, ask: Ohlc) -> None:
    found = agree([CODEC.encode(CANDLES, candle._replace(bid=bid, ask=ask))])
    crossed = any(b > a for b, a in zip(bid, ask, strict=True))
    assert found.status.tolist() == [SLOW if crossed else PLAIN]


@settings(deadline=None)
@given(st.lists(values(Candle) | values(Watermark), min_size=1, max_size=10))
def test_events_of_any_content_are_the_codecs_or_left_to_it(made: list[Candle | Watermark]) -> None:
    found = agree([CODEC.encode(CANDLES, event) for event in made])
    for event, status in zip(made, found.status.tolist(), strict=True):
        good = isinstance(event, Candle) and not candle_refusal(event, event.instrument.encode())
        assert status == (PLAIN if good else SLOW)


@settings(max_examples=300, deadline=None)
@given(candles(), st.data())
def test_damaged_frames_are_the_codecs_or_left_to_it(candle: Candle, data: st.DataObject) -> None:
    whole = CODEC.encode(CANDLES, candle)
    frames: list[bytes | None] = [None, b"", whole]
    for _ in range(20):
        frame = bytearray(whole)
        for _ in range(data.draw(st.integers(1, 3))):
            frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
        frames.append(bytes(frame))
    cut = data.draw(st.integers(0, len(whole) - 1))
    frames += [whole[:cut], whole + whole[:cut] + b"\0", whole[:cut] + whole]
    found = agree(frames)
    assert found.status.tolist()[:3] == [SLOW, SLOW, PLAIN]
    assert found.status.tolist()[-3:] == [SLOW, SLOW, SLOW if cut else PLAIN]


def long_way(number: int, size: int) -> bytes:
    """Return a number in more bytes than it needs, which Avro allows."""
    rest = number << 1
    out = bytearray(rest >> 7 * at & 0x7F | 0x80 for at in range(size))
    out[-1] &= 0x7F
    return bytes(out)


@pytest.mark.parametrize(("size", "status"), [(2, PLAIN), (9, PLAIN), (10, SLOW), (11, SLOW)])
def test_numbers_of_more_bytes_than_they_need(size: int, status: int) -> None:
    candle = market(["EUR_USD"], 1)[0]
    whole = CODEC.encode(CANDLES, candle)
    assert whole[5] == 2 * len("EUR_USD")
    found = agree([whole[:5] + long_way(len("EUR_USD"), size) + whole[6:]])
    assert found.status.tolist() == [status]


@given(st.binary(max_size=120), st.booleans())
@example(b"\x80" * 20, True)
@example(b"\x01", True)
def test_bytes_of_any_kind_are_left_to_the_codec(body: bytes, framed: bool) -> None:
    frame = (PREFIX if framed else b"") + body
    assume(len(body) < 70)  # shorter than any candle
    assert agree([frame, frame]).status.tolist() == [SLOW, SLOW]


def test_another_schema_id_is_left_to_the_codec() -> None:
    whole = CODEC.encode(CANDLES, market(["EUR_USD"], 1)[0])
    other = CODEC.encode("ops.control", Control("config", None, "{}", "a", "b", 0))
    frames = [whole, b"\0\0\0\x0f" + whole[4:], b"\1" + whole[1:], other]
    assert agree(frames).status.tolist() == [PLAIN, SLOW, SLOW, SLOW]


def test_instruments_that_there_is_no_room_for_are_left_to_the_codec() -> None:
    candle = market(["EUR_USD"], 1)[0]
    made = [candle._replace(instrument=f"I{number}") for number in range(2_500)]
    found = agree([CODEC.encode(CANDLES, one) for one in [*made, made[0]]])
    assert found.status.tolist() == [PLAIN] * 2_048 + [SLOW] * 452 + [PLAIN]


def test_each_call_has_its_own_instruments() -> None:
    reader = BulkCandles(CODEC.schema_id(CANDLES, "Candle"))
    candle = market(["EUR_USD"], 1)[0]
    for name in ("EUR_USD", "NZD_USD"):
        frame = CODEC.encode(CANDLES, candle._replace(instrument=name))
        assert reader.read(*concatenated([frame])).instruments == [name.encode()]


@pytest.mark.parametrize("offsets", [[], [-1, 2], [0, 4], [2, 1], [0, 3, 2, 3]])
def test_offsets_that_do_not_lie_within_the_bytes_are_refused(offsets: list[int]) -> None:
    reader = BulkCandles(CODEC.schema_id(CANDLES, "Candle"))
    with pytest.raises(Fatal, match="the offsets of frames"):
        reader.read(b"abc", np.array(offsets, np.int64))


def test_a_schema_the_core_does_not_know_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    schema = bulk_candles.schemas.newest("Candle")
    schema["fields"].append({"name": "more", "type": "long", "default": 0})
    monkeypatch.setattr(bulk_candles.schemas, "newest", lambda record: schema)
    with pytest.raises(Fatal, match=r"candle_frames\.hpp"):
        BulkCandles(1)
