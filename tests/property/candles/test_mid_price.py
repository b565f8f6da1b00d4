"""The mid is the exact mean of bid and ask, rounded once, whoever computes it."""

from __future__ import annotations

import csv
import json
import re
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from streams.candles.files import Refused, file_text, read_candles
from streams.candles.mid_price import WrittenPrice, mid_of_points, mid_price
from streams.oanda.shapes import candles_of
from streams.records.events import Candle, Ohlc
from tests.support.bulk_reading import SIDED, in_bulk, slowly
from tests.support.candle_files import market, write_csv

JSON_NUMBER = re.compile(r"(0|[1-9]\d*)(\.\d+)?(e-?\d+)?")
INSTANT = "2014-05-01T00:00:00Z"


def exact(price: WrittenPrice) -> Fraction:
    return Fraction(Decimal(repr(price)) if isinstance(price, float) else Decimal(price))


def mean(bid: WrittenPrice, ask: WrittenPrice) -> float:
    """The double nearest to the mean; Python rounds a fraction once."""
    return float((exact(bid) + exact(ask)) / 2)


@st.composite
def texts(draw: st.DrawFn) -> str:
    """A price from 1e-12 to 1e12 in any way of writing it."""
    digits = draw(st.sampled_from((5, 6, 7, 8, 15, 16, 17, 25, 60)))
    number = draw(st.integers(1, 10**digits - 1))
    behind = draw(st.integers(max(0, len(str(number)) - 12), len(str(number)) + 5))
    padded = str(number).zfill(behind + 1)
    plain = padded[: len(padded) - behind] + ("." + padded[len(padded) - behind :]) * (behind > 0)
    zeros = "0" * draw(st.integers(0, 3))
    ways = (plain, plain, plain, zeros + plain, f"{number}e-{behind}", f"+{plain}", f" {plain} ")
    return draw(st.sampled_from((*ways, plain + zeros if behind else plain)))


WRITTEN = (
    texts()
    | texts().map(Decimal)
    | st.floats(1e-12, 1e12)
    | st.floats(0.5, 2.0)
    | st.integers(1, 10**12)
)
TIED = (
    # means that lie half way between two doubles, and sums of binary that lie between two others
    ("1.1", "1.3"),
    ("1.38686", "1.38697"),
    (1.38686, "1.386970"),
    ("9007199254740993", "9007199254740993"),
    ("0.9007199254740991", "0.9007199254740992"),
    ("1e-12", "1e12"),
    ("1." + "0" * 50 + "1", "1"),
)


@settings(max_examples=600, deadline=None)
@given(WRITTEN, WRITTEN)
def test_the_mid_is_the_double_nearest_to_the_mean_of_two_decimals(
    bid: WrittenPrice, ask: WrittenPrice
) -> None:
    assert mid_price(bid, ask) == mid_price(ask, bid) == mean(bid, ask)


@pytest.mark.parametrize(("bid", "ask"), TIED)
def test_the_mid_of_pairs_that_are_hard_to_round(bid: WrittenPrice, ask: WrittenPrice) -> None:
    assert mid_price(bid, ask) == mean(bid, ask)


@given(st.integers(1, 10**9), st.integers(0, 10**4), st.sampled_from((1_000, 100_000)))
def test_the_mid_of_points_is_that_of_their_prices(bid: int, spread: int, scale: int) -> None:
    found = mid_of_points(bid, bid + spread, scale)
    assert found == mid_price(bid / scale, (bid + spread) / scale)


def line(bid: tuple[str, ...], ask: tuple[str, ...]) -> str:
    return ",".join((INSTANT, *bid, *ask, "7"))


def rising(low: str, high: str) -> tuple[str, str, str, str]:
    return low, high, low, high


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(texts(), texts(), texts(), texts()), min_size=1, max_size=20))
@example([(low, low, high, high) for low, high in TIED if isinstance(low, str)])
@example([("1.1", "1.2", "1.10001", "1.3"), ("1.38686", "1.38697", "1.4", "1.40001")])
def test_every_reader_of_files_has_the_same_mid(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("files")
    ordered = []
    for row in rows:
        prices = sorted(map(str, row), key=lambda text: (exact(text), text))
        ordered.append((rising(prices[0], prices[2]), rising(prices[1], prices[3])))
    path = folder / "a.csv"
    path.write_text("\n".join([SIDED, *(line(*one) for one in ordered)]) + "\n")
    series, refused, read = slowly(str(path))
    assert in_bulk(str(path)) == (series, refused, read)
    assert all(r.detail.startswith("mid: ") or " is outside " in r.detail for r in refused)
    lines = folder / "a.jsonl"
    lines.write_text("".join(json_line(*one) for one in ordered))
    found = [item for _, item in read_candles(str(path), "EUR_USD", "M1")]
    assert [told(item) for _, item in read_candles(str(lines), "EUR_USD", "M1")] == [
        told(item) for item in found
    ]
    for (bid, ask), item in zip(ordered, found, strict=True):
        if isinstance(item, Candle):
            means = Ohlc(*(mean(b, a) for b, a in zip(bid, ask, strict=True)))
            assert (item.mid, item.mid_derived) == (means, True)


def told(item: Candle | Refused) -> object:
    return item if isinstance(item, Candle) else (item.reason, item.detail)


def json_line(bid: tuple[str, ...], ask: tuple[str, ...]) -> str:
    """Bid as numbers where JSON can write them so, ask as texts."""
    numbers = ", ".join(
        f'"{name}": {text if JSON_NUMBER.fullmatch(text) else json.dumps(text)}'
        for name, text in zip("ohlc", bid, strict=True)
    )
    asks = json.dumps(dict(zip("ohlc", ask, strict=True)))
    return f'{{"time": "{INSTANT}", "volume": 7, "bid": {{{numbers}}}, "ask": {asks}}}\n'


@settings(max_examples=200, deadline=None)
@given(st.floats(0.5, 2.0), st.floats(0.0, 0.01))
def test_numbers_of_json_are_the_decimals_they_are_written_as(bid: float, spread: float) -> None:
    ask = bid + spread
    assert mean(bid, ask) == mean(json.dumps(bid), json.dumps(ask))


PRICES = st.integers(1, 10**8).map(lambda n: f"{n // 100_000}.{n % 100_000:05d}")


@settings(max_examples=200, deadline=None)
@given(PRICES, PRICES, st.sampled_from((None, "1.1", "0.00001", "99999.999999")))
def test_oanda_s_candles_have_the_mid_of_files(low: str, high: str, mid: str | None) -> None:
    low, high = sorted((low, high), key=float)
    sides = {"bid": dict.fromkeys("ohlc", low), "ask": dict.fromkeys("ohlc", high)}
    given_candle = {"time": INSTANT, "complete": True, "volume": 1, **sides}
    if mid:
        given_candle["mid"] = dict.fromkeys("ohlc", mid)
    content = {"instrument": "EUR_USD", "granularity": "M1", "candles": [given_candle]}
    if float(low) == 0.0:
        return
    [candle] = candles_of(content, "candles of EUR_USD", "EUR_USD", "M1")
    assert (candle.mid, candle.mid_derived) == (Ohlc(*4 * (mean(low, high),)), True)


# -- ties ----------------------------------------------------------------------------------------


def recorded(shared_data: Path | None, tmp_path: Path) -> str:
    if shared_data is not None:
        return str(shared_data / "oanda-EUR_USD-M1-2014-05.csv.gz")
    return write_csv(tmp_path / "EUR_USD-M1.csv", market(["EUR_USD"], 4_000))


def test_ties_of_decimals_are_ties_of_doubles(shared_data: Path | None, tmp_path: Path) -> None:
    path = recorded(shared_data, tmp_path)
    rows = list(csv.DictReader(file_text(path).splitlines()))
    mids = [
        [(exact(row[f"bid_{name}"]) + exact(row[f"ask_{name}"])) / 2 for name in "ohlc"]
        for row in rows
    ]
    found = [item for _, item in read_candles(path, "EUR_USD", "M1")]
    assert len(found) == len(rows)
    ties = 0
    for place, item in enumerate(found):
        assert isinstance(item, Candle)
        assert list(item.mid) == [float(mid) for mid in mids[place]]
        before, after = found[place - 1], item
        if place > 0 and isinstance(before, Candle):
            closes = mids[place - 1][3], mids[place][3]
            assert (after.mid.close >= before.mid.close) == (closes[1] >= closes[0])
            ties += closes[0] == closes[1]
    assert ties > 50
