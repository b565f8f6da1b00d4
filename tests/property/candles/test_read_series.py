"""Series of files keep, refuse and order what reading them row by row does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from streams.candles.columns import CandleColumns, SeriesKey, digest
from streams.candles.load_report import LoadReport
from streams.candles.mid_price import mid_price
from streams.candles.series import Series, read_series
from streams.errors import Fatal
from streams.records.events import Candle
from tests.support.row_series import RowSeries, read_rows

HEADER = "time,instrument,granularity,o,h,l,c,bid_o,bid_h,bid_l,bid_c,volume"
START_S = 1_398_902_400
NOW_MS = START_S * 1000 + 900 * 60_000

Row = tuple[int, str, str, int, bool, int | None]
ROWS = st.tuples(
    st.integers(0, 1_000),
    st.sampled_from(("EUR_USD", "EUR_USD", "AUD_USD", "?")),
    st.sampled_from(("M1", "M1", "M5")),
    st.sampled_from((1, 1, 1, 1, 2)),
    st.booleans(),
    st.none() | st.integers(0, 1),
)


def text_of(rows: list[Row]) -> str:
    lines = [HEADER]
    for minute, name, granularity, price, quoted, volume in rows:
        bid = f"{price}.0" if quoted else ""
        minute -= minute % 5 if granularity == "M5" else 0
        cells = [str(START_S + 60 * minute), name, granularity, *[str(price)] * 4, *[bid] * 4]
        lines.append(",".join([*cells, "" if volume is None else str(volume)]))
    return "\n".join(lines) + "\n"


def both(
    paths: list[str],
) -> tuple[dict[SeriesKey, RowSeries], dict[SeriesKey, Series], LoadReport, LoadReport]:
    """Read by row and in columns; files that are refused whole are refused in the same words."""
    one, other = LoadReport(), LoadReport()
    try:
        rows = read_rows(paths, one, NOW_MS)
    except Fatal as fatal:
        with pytest.raises(Fatal) as caught:
            read_series(paths, None, None, other, NOW_MS)
        assert str(caught.value) == str(fatal)
        return {}, {}, one, one
    return rows, read_series(paths, None, None, other, NOW_MS), one, other


def columns_of(candles: list[Candle]) -> CandleColumns:
    """Return candles as columns; a side that is absent is NaN."""
    absent = (np.nan,) * 4
    prices = [(*c.mid, *(c.bid or absent), *(c.ask or absent)) for c in candles]
    return CandleColumns(
        np.array([c.bar_ms for c in candles], np.int64),
        np.array(prices, np.float64).T.reshape(12, -1),
        np.array([c.bid is not None and c.ask is not None for c in candles], bool),
        np.array([-1 if c.volume is None else c.volume for c in candles], np.int64),
    )


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.lists(ROWS, max_size=60), min_size=1, max_size=3))
@example([[(1, "EUR_USD", "M1", 1, True, None), (1, "EUR_USD", "M1", 1, True, None)]])
@example([[(1, "EUR_USD", "M1", 1, False, 0)], [(1, "EUR_USD", "M1", 1, False, None)]])
@example([[(10**7, "EUR_USD", "M1", 1, False, 0)], [(0, "?", "M1", 1, False, None)]])
def test_the_same_rows_stay_and_the_same_are_refused(
    tmp_path_factory: pytest.TempPathFactory, files: list[list[Row]]
) -> None:
    folder, paths = tmp_path_factory.mktemp("files"), []
    for number, rows in enumerate(files):
        paths.append(str(folder / f"{number}.csv"))
        Path(paths[-1]).write_text(text_of(rows), encoding="utf-8")
    paths.append(paths[0])
    expected, series, one, other = both(paths)
    assert other == one
    assert set(series) == set(expected)
    for key, rows in expected.items():
        found, candles = series[key], rows.candles()
        assert list(found.candles()) == candles
        assert found.bars().tolist() == [candle.bar_ms for candle in candles]
        assert found.digests().tolist() == [digest(candle) for candle in candles]
        for mine, theirs in zip(found.columns(), columns_of(candles), strict=True):
            assert mine.dtype == theirs.dtype
            assert np.array_equal(mine, theirs, equal_nan=mine.dtype == np.float64)
        chosen = found.bars() % 120_000 == 0
        assert found.refuse(chosen, "a", "b") == rows.refuse(chosen, "a", "b")
        found.keep(chosen)
        rows.keep(chosen)
        assert len(found) == len(rows.candles()) == int(chosen.sum())
        assert list(found.candles()) == rows.candles()


def test_the_mid_of_bid_and_ask_makes_no_conflict(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    sides = "bid_o,bid_h,bid_l,bid_c,ask_o,ask_h,ask_l,ask_c"
    # the same doubles of bid and ask, but means on both sides of half way between two doubles
    asks = [f"{1.2500000000000002:.52f}"[:-1] + digit for digit in "556"]
    rows = [",".join(["1.25"] * 4 + [ask] * 4) for ask in asks]
    assert len({mid_price("1.25", ask) for ask in asks}) == 2
    assert len({float(ask) for ask in asks}) == 1
    lines = [
        f"time,instrument,granularity,{sides}",
        *(f"{START_S},EUR_USD,M1,{row}" for row in rows),
    ]
    path.write_text("\n".join(lines) + "\n")
    expected, series, one, other = both([str(path)])
    assert one == other
    [kept], [same] = expected.values(), series.values()
    assert kept.candles() == list(same.candles())
    assert (len(same), one.duplicates, one.refused) == (1, 2, [])


def test_a_series_of_nothing() -> None:
    empty = Series(SeriesKey("EUR_USD", "M1"))
    assert empty.close() == ([], 0)
    assert (len(empty), list(empty.candles())) == (0, [])
    assert empty.bars().dtype == np.int64
