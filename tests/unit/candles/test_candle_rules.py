"""Which candles enter, and what is said of those that do not."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.candles.rules import END_MS, CandleRefusal, candle_refusal, watermark_problem
from streams.core import check_candle
from streams.instants import EARLIEST_MS, GRANULARITY_MS
from streams.records.events import WATERMARK_KEY, Candle, Ohlc, Watermark
from streams.records.reasons import Refusal

INVALID = Refusal.INVALID_CANDLE
KEY = b"EUR_USD"
MID = Ohlc(1.1, 1.2, 1.0, 1.15)
T0 = 1_704_880_800_000
GOOD = Candle("EUR_USD", "M1", T0, T0 + 60_000, MID, MID, MID, True, 10, "file")


def problem(**changes: Any) -> str | None:
    """Return what is invalid about a candle that is good otherwise."""
    return words(candle_refusal(GOOD._replace(**changes), KEY), INVALID)


def words(found: CandleRefusal | None, reason: Refusal) -> str | None:
    if found is None:
        return None
    assert found.reason == reason
    return found.detail


def test_a_good_candle_has_no_problem() -> None:
    assert candle_refusal(GOOD, KEY) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"bid": None, "ask": None},
        {"volume": None},
        {"volume": 0},
        {"volume": 2**62},
        {"bar_ms": EARLIEST_MS, "as_of_ms": EARLIEST_MS + 60_000},
        {"mid": Ohlc(1.0, 1.0, 1.0, 1.0)},
        {"mid": Ohlc(1e-12, 1e-12, 1e-12, 1e-12)},
        {"mid": Ohlc(1e12, 1e12, 1e-12, 1e12)},
        {"bar_ms": END_MS - 60_000, "as_of_ms": END_MS},
        {"source": "synthetic"},
    ],
)
def test_unusual_but_possible_candles_enter(changes: dict[str, Any]) -> None:
    assert problem(**changes) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"instrument": "USD_JPY"}, "the key"),
        ({"instrument": "eur_usd"}, "the key"),
        ({"granularity": "D"}, "granularity 'D'"),
        ({"granularity": ""}, "granularity ''"),
        ({"complete": False}, "not complete"),
        ({"as_of_ms": T0}, f"as_of_ms {T0} is not bar_ms"),
        ({"as_of_ms": T0 + 60_001}, f"as_of_ms {T0 + 60_001} is not bar_ms"),
        ({"bar_ms": T0 + 1, "as_of_ms": T0 + 60_001}, "not the start of a bar"),
        ({"bar_ms": -60_000, "as_of_ms": 0}, "between 1971 and 2100"),
        ({"bar_ms": EARLIEST_MS - 60_000, "as_of_ms": EARLIEST_MS}, "between 1971 and 2100"),
        (
            {"granularity": "M5", "bar_ms": T0 + 60_000, "as_of_ms": T0 + 360_000},
            "not the start of a bar",
        ),
        ({"volume": -1}, "volume -1"),
        ({"bar_ms": END_MS, "as_of_ms": END_MS + 60_000}, "between 1971 and 2100"),
        ({"bar_ms": 60_000 * 2**46, "as_of_ms": 60_000 * (2**46 + 1)}, "between 1971 and 2100"),
    ],
)
def test_a_refusal_names_what_is_wrong(changes: dict[str, Any], words: str) -> None:
    found = problem(**changes)
    assert found is not None
    assert words in found


@pytest.mark.parametrize("field", Ohlc._fields)
def test_a_bid_over_its_ask_is_a_crossed_quote(field: str) -> None:
    ask = Ohlc(1.2, 1.3, 1.0, 1.2)
    bid = {
        "open": Ohlc(1.25, 1.3, 1.0, 1.0),
        "high": Ohlc(1.1, 1.4, 1.0, 1.1),
        "low": Ohlc(1.1, 1.1, 1.1, 1.1),
        "close": Ohlc(1.0, 1.3, 1.0, 1.25),
    }[field]
    found = candle_refusal(GOOD._replace(bid=bid, ask=ask), KEY)
    said = f"{field}: the bid {getattr(bid, field)!r} is over the ask {getattr(ask, field)!r}"
    assert found == (Refusal.CROSSED_QUOTE, said)
    for sides in ((bid, None), (None, ask), (bid, bid)):
        assert problem(bid=sides[0], ask=sides[1]) is None


@pytest.mark.parametrize("key", [None, b"", b"EUR_USD ", b"eur_usd", b"\xff"])
def test_a_candle_under_another_key_is_refused(key: bytes | None) -> None:
    assert "the key" in (words(candle_refusal(GOOD, key), INVALID) or "")


@pytest.mark.parametrize("name", ["", "~", "~watermark", "EUR/USD", "EUR USD", "A" * 33, "ÄUR_USD"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    found = words(candle_refusal(GOOD._replace(instrument=name), name.encode()), INVALID)
    assert "is not a name such as EUR_USD" in (found or "")
    mark = Watermark(T0, "M1", 0, ("EUR_USD", name))
    assert "is not a name such as EUR_USD" in (watermark_problem(mark, WATERMARK_KEY) or "")


@pytest.mark.parametrize("name", ["EUR_USD", "SPX500_USD", "XAU_USD", "BTC-USD", "brent.fut"])
def test_names_of_other_markets_enter(name: str) -> None:
    assert candle_refusal(GOOD._replace(instrument=name), name.encode()) is None
    assert watermark_problem(Watermark(T0, "M1", 0, (name,)), WATERMARK_KEY) is None


@pytest.mark.parametrize(
    ("watermark", "key", "words"),
    [
        (Watermark(T0, "M1", 0, ()), b"EUR_USD", "the key"),
        (Watermark(T0, "M1", 0, ()), None, "the key"),
        (Watermark(-1, "M1", 0, ()), WATERMARK_KEY, "as_of_ms -1"),
        (Watermark(END_MS + 1, "M1", 0, ()), WATERMARK_KEY, "as_of_ms"),
        (Watermark(T0, "M1", -1, ()), WATERMARK_KEY, "control_offset -1"),
    ],
)
def test_a_watermark_that_cannot_be_followed_is_refused(
    watermark: Watermark, key: bytes | None, words: str
) -> None:
    assert words in (watermark_problem(watermark, key) or "")


@pytest.mark.parametrize("side", ["mid", "bid", "ask"])
@pytest.mark.parametrize("price", [1e-13, 1.1e12, 5e-324, 1.7e308])
def test_a_price_the_engine_does_not_compute_with_is_refused(side: str, price: float) -> None:
    flat = Ohlc(price, price, price, price)
    assert (problem(**{side: flat}) or "").startswith(f"{side}: a price is outside 1e-12 to 1e+12")


@pytest.mark.parametrize("side", ["mid", "bid", "ask"])
@pytest.mark.parametrize("field", Ohlc._fields)
@pytest.mark.parametrize("price", [0.0, -0.0, -1.1, math.nan, math.inf, -math.inf])
def test_a_price_that_is_none_is_refused_on_every_side(side: str, field: str, price: float) -> None:
    found = problem(**{side: MID._replace(**{field: price})})
    assert found is not None
    assert found.startswith(f"{side}: a price is not a positive finite number")


@pytest.mark.parametrize("side", ["mid", "bid", "ask"])
@pytest.mark.parametrize(
    "prices",
    [
        Ohlc(1.3, 1.2, 1.0, 1.1),
        Ohlc(0.9, 1.2, 1.0, 1.1),
        Ohlc(1.1, 1.2, 1.0, 1.3),
        Ohlc(1.1, 1.2, 1.0, 0.9),
        Ohlc(1.1, 1.0, 1.2, 1.1),
    ],
)
def test_prices_that_do_not_lie_between_low_and_high_are_refused(side: str, prices: Ohlc) -> None:
    assert (problem(**{side: prices}) or "").startswith(f"{side}: open and close do not lie")


@pytest.mark.parametrize("granularity", sorted(GRANULARITY_MS, key=GRANULARITY_MS.__getitem__))
def test_every_granularity_has_bars_that_start_on_its_grid(granularity: str) -> None:
    length = GRANULARITY_MS[granularity]
    # long bars start at 17:00 New York, so only the hour is asked of them
    start = T0 + 3_600_000
    candle = GOOD._replace(granularity=granularity, bar_ms=start, as_of_ms=start + length)
    assert candle_refusal(candle, KEY) is None
    off = candle._replace(bar_ms=start + 1_000, as_of_ms=start + 1_000 + length)
    assert "not the start of a bar" in (words(candle_refusal(off, KEY), INVALID) or "")


prices = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True), st.sampled_from((0.0, 1.0, 1.1, 1.2))
)
ohlc = st.builds(Ohlc, prices, prices, prices, prices)


@settings(deadline=None)
@given(ohlc, st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**25).map(lambda n: T0 + n * 60_000))
def test_the_engine_takes_every_candle_the_rules_let_in(
    mid: Ohlc, volume: int, bar_ms: int
) -> None:
    candle = GOOD._replace(mid=mid, volume=volume, bar_ms=bar_ms, as_of_ms=bar_ms + 60_000)
    if candle_refusal(candle, KEY) is None:
        assert check_candle(bar_ms, mid.high, mid.low, mid.close, volume) is None


ordered = st.lists(st.floats(min_value=1e-12, max_value=1e12), min_size=4, max_size=4).map(sorted)


@settings(deadline=None)
@given(ordered, st.integers(0, 2**63 - 1), st.integers(0, 2**25).map(lambda n: T0 + n * 60_000))
def test_any_ordered_prices_within_bounds_enter(p: list[float], volume: int, bar_ms: int) -> None:
    candle = GOOD._replace(
        mid=Ohlc(p[1], p[3], p[0], p[2]), volume=volume, bar_ms=bar_ms, as_of_ms=bar_ms + 60_000
    )
    assert candle_refusal(candle, KEY) is None
    assert check_candle(bar_ms, p[3], p[0], p[2], volume) is None
