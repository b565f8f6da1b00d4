"""Candles in every shape they come in, and what is said of rows that are none."""

from __future__ import annotations

from typing import Any

import pytest

from streams.candles.rows import candle_from_row
from streams.candles.rules import FileRefused, RowRefused
from streams.records.events import Ohlc

MID = Ohlc(1.1, 1.2, 1.0, 1.15)
BAR_MS = 1_398_902_400_000
LONG = {"time": "2014-05-01T00:00:00Z", "open": 1.1, "high": 1.2, "low": 1.0, "close": 1.15}
SIDED = {
    "time": "2014-05-01T00:00:00Z",
    **{f"bid_{n}": v for n, v in zip("ohlc", (1.1, 1.2, 1.0, 1.15), strict=True)},
    **{f"ask_{n}": v for n, v in zip("ohlc", (1.3, 1.4, 1.2, 1.35), strict=True)},
}


def refusal(row: dict[str, Any]) -> str:
    with pytest.raises((RowRefused, FileRefused)) as caught:
        candle_from_row(row, "EUR_USD", "M1")
    return caught.value.reason


@pytest.mark.parametrize(
    "row",
    [
        LONG,
        {name: str(value) for name, value in LONG.items()},
        {"t": BAR_MS, "o": 1.1, "h": 1.2, "l": 1.0, "c": 1.15},
        {"ts": LONG["time"], "mid": {"o": "1.1", "h": "1.2", "l": "1.0", "c": "1.15"}},
        {"date": LONG["time"], "mid": {"open": 1.1, "high": 1.2, "low": 1.0, "close": 1.15}},
        {"bar_ms": BAR_MS, "mid_o": 1.1, "mid_h": 1.2, "mid_l": 1.0, "mid_c": 1.15},
        {"datetime": LONG["time"], "mid.open": 1.1, "mid.high": 1.2, "mid.low": 1, "mid.c": 1.15},
    ],
)
def test_long_and_short_names_numbers_and_strings_flat_and_nested_say_the_same(
    row: dict[str, Any],
) -> None:
    candle = candle_from_row(row, "EUR_USD", "M1")
    assert (candle.bar_ms, candle.as_of_ms, candle.mid) == (BAR_MS, BAR_MS + 60_000, MID)
    assert (candle.bid, candle.ask, candle.mid_derived, candle.volume) == (None, None, False, None)


def test_without_a_mid_it_is_the_mean_of_bid_and_ask_and_said_to_be_derived() -> None:
    candle = candle_from_row(SIDED, "EUR_USD", "M1")
    assert candle.mid_derived
    assert (candle.bid, candle.ask) == (MID, Ohlc(1.3, 1.4, 1.2, 1.35))
    # of decimals: in binary (1.1 + 1.3) / 2 is 1.2000000000000002
    assert candle.mid == Ohlc(1.2, 1.3, 1.1, 1.25)


@pytest.mark.parametrize(
    "mid",
    [
        {"mid_o": 1.2, "mid_h": 1.31, "mid_l": 1.1, "mid_c": 1.26},
        {"open": 1.2, "high": 1.31, "low": 1.1, "close": 1.26},
        {"mid": {"o": "1.2", "h": "1.31", "l": "1.1", "c": "1.26"}},
        {"mid": {"o": "1.2"}},
        {"mid_o": "nonsense", "mid_c": "nan"},
    ],
)
def test_a_mid_beside_bid_and_ask_is_not_used(mid: dict[str, Any]) -> None:
    expected = candle_from_row(SIDED, "EUR_USD", "M1")
    assert candle_from_row(SIDED | mid, "EUR_USD", "M1") == expected


@pytest.mark.parametrize("missing", ["bid", "ask"])
def test_a_mid_beside_one_side_is_used(missing: str) -> None:
    row = {name: value for name, value in SIDED.items() if not name.startswith(missing)}
    candle = candle_from_row(row | LONG, "EUR_USD", "M1")
    assert (candle.mid, candle.mid_derived, getattr(candle, missing)) == (MID, False, None)


def test_what_the_row_says_of_itself_wins_over_what_the_file_is_known_to_hold() -> None:
    candle = candle_from_row(LONG | {"symbol": "nzd/usd", "gran": "h1"}, "EUR_USD", "M1")
    assert (candle.instrument, candle.granularity) == ("NZD_USD", "H1")
    assert candle.as_of_ms == BAR_MS + 3_600_000


@pytest.mark.parametrize("volume", [43, "43", 43.0, "43.0"])
def test_a_volume_is_a_whole_number_however_it_is_written(volume: Any) -> None:
    assert candle_from_row(LONG | {"volume": volume}, "EUR_USD", "M1").volume == 43


@pytest.mark.parametrize("complete", [True, "true", "True", 1, "1", "yes", None, ""])
def test_a_candle_said_to_be_complete_or_not_said_to_be_enters(complete: Any) -> None:
    assert candle_from_row(LONG | {"complete": complete}, "EUR_USD", "M1").mid == MID


@pytest.mark.parametrize("complete", [False, "false", 0, "0", "no", "perhaps"])
def test_an_incomplete_candle_does_not_enter(complete: Any) -> None:
    assert refusal(LONG | {"complete": complete}) == "incomplete"
    assert refusal(LONG | {"is_closed": complete}) == "incomplete"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"time": None}, "bad_time"),
        ({"time": "yesterday"}, "bad_time"),
        ({"time": "nan"}, "bad_time"),
        ({"time": "1_400_000_000"}, "bad_time"),
        ({"time": "\u0661400000000"}, "bad_time"),
        ({"time": "2014-05-01T00:00:00.0005Z"}, "bad_time"),
        ({"time": "2014-05-01T00:00:30Z"}, "not_a_bar_start"),
        ({"symbol": "EURUSD.m"}, "bad_instrument"),
        ({"open": "abc"}, "bad_number"),
        ({"open": "1_1.5"}, "bad_number"),
        ({"open": "\u0661.1"}, "bad_number"),
        ({"open": True}, "bad_number"),
        ({"open": [1.1]}, "bad_number"),
        ({"open": "nan"}, "invalid_candle"),
        ({"open": "inf"}, "invalid_candle"),
        ({"low": -1.0}, "invalid_candle"),
        ({"high": 1.05}, "invalid_candle"),
        ({"close": None}, "no_prices"),
        ({"mid": {}}, "no_prices"),
        ({"volume": -1}, "bad_number"),
        ({"volume": "nan"}, "bad_number"),
        ({"volume": 1e30}, "bad_number"),
        ({"granularity": "M7"}, "no_granularity"),
    ],
)
def test_a_row_that_is_no_candle_is_refused_with_its_reason(
    changes: dict[str, Any], reason: str
) -> None:
    assert refusal(LONG | changes) == reason


@pytest.mark.parametrize(("missing", "there"), [("ask", "bid"), ("bid", "ask")])
def test_one_side_alone_gives_no_mid(missing: str, there: str) -> None:
    row = {name: value for name, value in SIDED.items() if not name.startswith(missing)}
    with pytest.raises(
        RowRefused, match=f"has only {there} prices: the mid price needs {missing}"
    ) as caught:
        candle_from_row(row, "EUR_USD", "M1")
    assert caught.value.reason == "one_sided"


@pytest.mark.parametrize(
    ("bid", "ask", "found"),
    [
        (Ohlc(1.3, 1.3, 1.1, 1.1), Ohlc(1.2, 1.4, 1.1, 1.2), ("open", 1.3, 1.2)),
        (Ohlc(1.1, 1.3, 1.1, 1.1), Ohlc(1.2, 1.2, 1.1, 1.2), ("high", 1.3, 1.2)),
        (Ohlc(1.1, 1.2, 1.1, 1.1), Ohlc(1.2, 1.2, 1.0, 1.2), ("low", 1.1, 1.0)),
        (Ohlc(1.1, 1.3, 1.1, 1.3), Ohlc(1.2, 1.4, 1.1, 1.2), ("close", 1.3, 1.2)),
    ],
)
def test_a_bid_over_its_ask_is_refused_and_named(
    bid: Ohlc, ask: Ohlc, found: tuple[str, float, float]
) -> None:
    row = {"time": LONG["time"], "bid": bid._asdict(), "ask": ask._asdict()}
    with pytest.raises(RowRefused) as caught:
        candle_from_row(row, "EUR_USD", "M1")
    name, under, over = found
    assert caught.value.reason == "crossed_quote"
    assert str(caught.value) == f"{name}: the bid {under} is over the ask {over}"


def test_bid_and_ask_may_be_equal() -> None:
    row = {"time": LONG["time"], "bid": MID._asdict(), "ask": MID._asdict()}
    assert candle_from_row(row, "EUR_USD", "M1").mid == MID


def test_a_part_of_a_tick_refuses_the_file() -> None:
    for volume in (1.5, "64.5", "0.001"):
        with pytest.raises(FileRefused, match="not a whole number of ticks") as caught:
            candle_from_row(LONG | {"volume": volume}, "EUR_USD", "M1")
        assert caught.value.reason == "fractional_volume"


def test_a_row_of_no_instrument_is_refused() -> None:
    with pytest.raises(RowRefused, match="--instrument"):
        candle_from_row(LONG, None, "M1")


@pytest.mark.parametrize("side", ["bid", "ask", "mid"])
def test_a_side_in_json_that_is_one_number_is_not_left_unread(side: str) -> None:
    with pytest.raises(RowRefused, match=f"{side} lacks open, high, low or close"):
        candle_from_row(LONG | {side: 1.2}, "EUR_USD", "M1")
