"""Series in columns keep, refuse and order what series of candles do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from streams.candles.column_series import ColumnSeries, read_columns
from streams.candles.load_report import LoadReport
from streams.candles.mid_price import mid_price
from streams.candles.series import Series, SeriesKey
from streams.errors import Fatal
from streams.feeds.load import read_series

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
) -> tuple[dict[SeriesKey, Series], dict[SeriesKey, ColumnSeries], LoadReport, LoadReport]:
    """Read both ways; files that are refused whole are refused in the same words."""
    one, other = LoadReport(), LoadReport()
    try:
        series = read_series(paths, None, None, one, NOW_MS)
    except Fatal as fatal:
        with pytest.raises(Fatal) as caught:
            read_columns(paths, None, None, other, NOW_MS)
        assert str(caught.value) == str(fatal)
        return {}, {}, one, one
    return series, read_columns(paths, None, None, other, NOW_MS), one, other


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
    series, columns, one, other = both(paths)
    assert other == one
    assert set(series) == set(columns)
    for key, wanted in series.items():
        found = columns[key]
        assert list(found.candles()) == list(wanted.candles())
        assert found.bars().tolist() == wanted.bars().tolist()
        assert found.digests().tolist() == wanted.digests().tolist()
        for mine, theirs in zip(found.columns(), wanted.columns(), strict=True):
            quoted = wanted.columns().quoted
            rows = quoted | (np.arange(12) < 4)[:, None] if mine.ndim == 2 else ...
            assert mine.dtype == theirs.dtype
            assert mine[rows].tolist() == theirs[rows].tolist()
        chosen = wanted.bars() % 120_000 == 0
        assert found.refuse(chosen, "a", "b") == wanted.refuse(chosen, "a", "b")
        found.keep(chosen)
        wanted.keep(chosen)
        assert len(found) == len(wanted) == int(chosen.sum())
        assert list(found.candles()) == list(wanted.candles())


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
    series, columns, one, other = both([str(path)])
    assert one == other
    [kept], [same] = series.values(), columns.values()
    assert list(kept.candles()) == list(same.candles())
    assert (len(kept), one.duplicates, one.refused) == (1, 2, [])


def test_a_series_of_nothing() -> None:
    empty = ColumnSeries(SeriesKey("EUR_USD", "M1"))
    assert empty.close() == ([], 0)
    assert (len(empty), list(empty.candles())) == (0, [])
    assert empty.bars().dtype == np.int64
