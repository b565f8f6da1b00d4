"""The state of a stream as rows and as bytes: it comes back bit for bit, or is refused."""

from __future__ import annotations

import re

import pytest

from streams.core import ENGINE_VERSION, CandleStream
from streams.errors import Fatal
from tests.support.engine_market import market, same_bits

CANDLE_COUNT = 300
WHAT_TO_DO = "manifold migrate --to-prefix"
TAPE = market(2000, seed=11)


def fed(end: int, candle_count: int = CANDLE_COUNT) -> CandleStream:
    stream = CandleStream(candle_count, 60, 2)
    stream.run(*TAPE.part(0, end))
    return stream


def same_future(a: CandleStream, b: CandleStream, begin: int) -> bool:
    rest = TAPE.part(begin)
    return same_bits(a.run(*rest), b.run(*rest))


@pytest.mark.parametrize("end", [0, 1, 63, 64, 65, 128, 129, 299, 300, 301, 640, 1023, 1999])
def test_rows_and_bytes_bring_the_stream_back(end: int) -> None:
    stream = fed(end)
    restored = [CandleStream.from_bytes(stream.to_bytes())]
    if rows := stream.changed_rows():
        restored.append(CandleStream.from_rows(rows))
    assert bool(rows) is (end > 0)
    for other in restored:
        assert (other.seen, other.last_bar_ms) == (stream.seen, stream.last_bar_ms)
        assert (other.candle_count, other.lookback_minutes, other.precision) == (300, 60, 2)
        assert other.to_bytes() == stream.to_bytes()
        assert other.changed_rows() == {}
        assert same_future(other, fed(end), end)


def test_rows_gathered_candle_by_candle_are_the_rows_of_the_whole() -> None:
    stream, stored = CandleStream(CANDLE_COUNT, 60, 2), dict[str, bytes]()
    for i in range(1200):
        stream.step(*(column[i].item() for column in TAPE))
        changed = stream.changed_rows()
        assert len(changed) == 2
        assert "head" in changed
        stored |= changed
    assert set(stored) == set(stream.row_names())
    assert same_future(CandleStream.from_rows(stored), fed(1200), 1200)


def test_a_candle_changes_the_head_and_one_row_of_bounded_size() -> None:
    stream = fed(1000)
    stream.changed_rows()
    for i in range(1000, 1200):
        stream.step(*(column[i].item() for column in TAPE))
        changed = stream.changed_rows()
        assert len(changed["head"]) < 256
        assert sum(map(len, changed.values())) <= 1300


@pytest.mark.parametrize("candle_count", [129, 300, 1500])
def test_the_state_does_not_grow_with_the_stream(candle_count: int) -> None:
    chunks = candle_count // 64 + 2
    for end in (candle_count, 1600, 2000):
        stream = fed(end, candle_count)
        assert len(stream.to_bytes()) <= 100 + chunks * 1300
        assert len(stream.row_names()) <= 2 + chunks


def test_nothing_new_means_no_rows() -> None:
    stream = fed(200)
    assert stream.changed_rows()
    assert stream.changed_rows() == {}


def test_bytes_cut_short_anywhere_are_refused() -> None:
    state = fed(400).to_bytes()
    for length in range(len(state)):
        with pytest.raises(Fatal, match=WHAT_TO_DO):
            CandleStream.from_bytes(state[:length])


def test_bytes_too_many_are_refused() -> None:
    with pytest.raises(Fatal, match=WHAT_TO_DO):
        CandleStream.from_bytes(fed(400).to_bytes() + b"\0")


def test_rows_cut_short_or_too_long_are_refused() -> None:
    rows = fed(400).changed_rows()
    for name, row in rows.items():
        for wrong in (b"", row[: len(row) // 2], row[:-1], row + b"\0"):
            with pytest.raises(Fatal, match=WHAT_TO_DO):
                CandleStream.from_rows({**rows, name: wrong})


def test_a_missing_row_is_refused_by_name() -> None:
    rows = fed(400).changed_rows()
    for name in rows:
        others = {key: row for key, row in rows.items() if key != name}
        with pytest.raises(Fatal, match=f"no row '?{name}'?.*{WHAT_TO_DO}"):
            CandleStream.from_rows(others)


def test_rows_of_another_time_or_place_are_refused() -> None:
    older, newer = fed(400).changed_rows(), fed(900).changed_rows()
    exchanged = {**newer, "c00": newer["c01"], "c01": newer["c00"]}
    for mixed in ({**older, "head": newer["head"]}, {**newer, "c00": older["c00"]}, exchanged):
        with pytest.raises(Fatal, match=f"are inconsistent.*{WHAT_TO_DO}"):
            CandleStream.from_rows(mixed)


def test_another_layout_is_refused() -> None:
    stream = fed(400)
    rows, state = stream.changed_rows(), stream.to_bytes()
    later = rows["head"][:2] + b"\x02\x00" + rows["head"][4:]
    with pytest.raises(Fatal, match=f"another layout.*{WHAT_TO_DO}"):
        CandleStream.from_rows({**rows, "head": later})
    for wrong in (b"", b"nothing of ours", state[:4] + b"\x02" + state[5:]):
        with pytest.raises(Fatal, match=f"another layout.*{WHAT_TO_DO}"):
            CandleStream.from_bytes(wrong)


ENGINE = ENGINE_VERSION.encode()


def test_another_engine_is_refused() -> None:
    stream = fed(400)
    rows = stream.changed_rows()
    assert rows["head"].count(ENGINE) == 1
    with pytest.raises(Fatal, match=f"another engine version.*{WHAT_TO_DO}"):
        CandleStream.from_rows({**rows, "head": re.sub(b"qfh-2", b"qfh-1", rows["head"])})
    with pytest.raises(Fatal, match=f"another engine version.*{WHAT_TO_DO}"):
        CandleStream.from_bytes(stream.to_bytes().replace(ENGINE, ENGINE[:-1] + b"9"))


@pytest.mark.parametrize("parameters", [(300, 60, 4), (300, 5, 2), (129, 60, 2), (200, 1440, 0)])
def test_reconfigured_it_goes_on_as_if_it_had_always_had_these_parameters(
    parameters: tuple[int, int, int],
) -> None:
    stream, always = fed(1000), CandleStream(*parameters)
    always.run(*TAPE.part(0, 1000))
    stream.reconfigure(*parameters)
    assert (stream.candle_count, stream.lookback_minutes, stream.precision) == parameters
    assert stream.seen == 1000
    assert same_future(stream, always, 1000)


def test_with_more_candles_than_before_the_manifold_grows_from_those_at_hand() -> None:
    stream = fed(1000)
    stream.reconfigure(500, 60, 2)
    found = stream.run(*TAPE.part(1000, 1400))
    assert found["count"].tolist() == [min(301 + i, 500) for i in range(400)]
    assert found["t0_ms"][0] == TAPE.bar_ms[700]


@pytest.mark.parametrize("parameters", [(129, 60, 2), (500, 60, 2), (1500, 30, 4)])
def test_rows_stored_before_and_after_a_reconfiguration_belong_together(
    parameters: tuple[int, int, int],
) -> None:
    stream = fed(1000)
    stored = stream.changed_rows()
    stream.reconfigure(*parameters)
    stored |= stream.changed_rows()
    restored = CandleStream.from_rows(stored)
    assert restored.to_bytes() == stream.to_bytes()
    assert set(stored) <= set(stream.row_names())
    assert same_future(restored, stream, 1000)


def test_refused_parameters_change_nothing() -> None:
    stream = fed(400)
    before = stream.to_bytes()
    with pytest.raises(Fatal, match="129 to 20000 candles"):
        stream.reconfigure(128, 60, 2)
    assert stream.to_bytes() == before
