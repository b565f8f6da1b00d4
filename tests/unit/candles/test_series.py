"""Series: ascending, the first row of a bar stays, a repeat is counted, a conflict is named."""

from __future__ import annotations

import numpy as np

from streams.candles.bulk_csv import Block
from streams.candles.columns import NO_VOLUME, SeriesKey, digest
from streams.candles.load_report import LoadReport
from streams.candles.series import Series, read_series
from streams.feeds.load import merge_series
from streams.records.events import Candle, Ohlc

KEY = SeriesKey("EUR_USD", "M1")
MINUTE_MS = 60_000


def candle(minute: int, close: float = 1.15, **changes: object) -> Candle:
    mid = Ohlc(1.1, 1.2, 1.0, close)
    start = minute * MINUTE_MS
    made = Candle("EUR_USD", "M1", start, start + MINUTE_MS, mid, None, None, False, 7, "file")
    return made._replace(**changes)  # type: ignore[arg-type]


def block(*candles: Candle) -> Block:
    absent = (np.nan,) * 4
    prices = [(*c.mid, *(c.bid or absent), *(c.ask or absent)) for c in candles]
    return Block(
        SeriesKey(candles[0].instrument, "M1"),
        np.array([c.bar_ms for c in candles]),
        np.array(prices).T,
        np.array([NO_VOLUME if c.volume is None else c.volume for c in candles]),
        np.array([c.mid_derived for c in candles]),
        np.arange(1, len(candles) + 1),
    )


def series(*candles: Candle) -> Series:
    made = Series(KEY)
    if candles:
        made.add(block(*candles), "a.csv")
    return made


def test_rows_out_of_order_come_out_ascending_with_everything_they_held() -> None:
    side = Ohlc(1.11, 1.21, 1.01, 1.16)
    given = [candle(2), candle(0, volume=None), candle(1, bid=side, ask=side, mid_derived=True)]
    made = series(*given)
    assert made.close() == ([], 0)
    assert list(made.candles()) == [given[1], given[2], given[0]]


def test_a_row_that_says_the_same_again_is_a_duplicate() -> None:
    made = series(candle(0), candle(1), candle(0), candle(0))
    assert made.close() == ([], 2)
    assert len(made) == 2


def test_a_row_with_other_numbers_for_a_bar_is_a_conflict_and_the_first_row_stays() -> None:
    made = series(candle(1), candle(0, 1.11), candle(0, 1.12), candle(0, 1.11))
    refused, duplicates = made.close()
    assert [(r.file, r.line, r.reason) for r in refused] == [("a.csv", 3, "conflict")]
    assert duplicates == 1
    assert [c.mid.close for c in made.candles()] == [1.11, 1.15]


def test_only_what_is_chosen_is_kept_and_what_is_refused_is_named_by_its_line() -> None:
    made = series(candle(2), candle(0), candle(1))
    made.close()
    refused = made.refuse(made.bars() < MINUTE_MS, "out_of_order", "too late")
    made.keep(made.bars() >= MINUTE_MS)
    assert [(r.line, r.reason) for r in refused] == [(2, "out_of_order")]
    assert made.bars().tolist() == [MINUTE_MS, 2 * MINUTE_MS]
    assert len(made.digests()) == len(made) == 2


def test_the_digest_tells_prices_and_volume_apart_and_nothing_else() -> None:
    one = candle(0)
    assert digest(one) == digest(candle(5, source="oanda", mid_derived=True))
    side = Ohlc(1.1, 1.2, 1.0, 1.15)
    others = [candle(0, 1.16), candle(0, volume=8), candle(0, volume=None), candle(0, bid=side)]
    assert len({digest(one), *map(digest, others)}) == 5


def test_the_digest_takes_the_mid_of_bid_and_ask_for_what_it_is() -> None:
    bid, ask = Ohlc(1.1, 1.2, 1.0, 1.15), Ohlc(1.3, 1.4, 1.2, 1.35)
    exact = candle(0, bid=bid, ask=ask, mid=Ohlc(1.2, 1.3, 1.1, 1.25), mid_derived=True)
    # as OANDA rounds it, and as an older engine computed it
    for mid in (Ohlc(1.2, 1.3, 1.1, 1.26), Ohlc(1.2000000000000002, 1.3, 1.1, 1.25)):
        assert digest(exact) == digest(exact._replace(mid=mid, mid_derived=False))
    assert digest(exact) != digest(exact._replace(ask=ask._replace(close=1.36)))
    one_side = exact._replace(ask=None, mid_derived=False)
    assert digest(one_side) != digest(one_side._replace(mid=bid))


def test_a_series_of_nothing_is_empty() -> None:
    made = series()
    assert made.close() == ([], 0)
    assert made.bars().dtype == np.int64
    assert list(made.candles()) == []


def test_files_are_merged_by_time_and_ties_by_instrument(tmp_path: object) -> None:
    eur, nzd = series(candle(0), candle(1)), Series(SeriesKey("AUD_USD", "M1"))
    nzd.add(block(candle(1, instrument="AUD_USD")), "b.csv")
    eur.close()
    nzd.close()
    order = [(c.bar_ms, c.instrument) for c in merge_series({KEY: eur, nzd.key: nzd})]
    assert order == [(0, "EUR_USD"), (MINUTE_MS, "AUD_USD"), (MINUTE_MS, "EUR_USD")]


def test_a_candle_that_ends_more_than_an_hour_from_now_is_refused(tmp_path: object) -> None:
    path = f"{tmp_path}/a.csv"
    with open(path, "w", encoding="utf-8") as file:
        file.write("time,o,h,l,c\n1398902400,1,1,1,1\n1398909600,1,1,1,1\n")
    report = LoadReport()
    found = read_series([path], "EUR_USD", "M1", report, now_ms=1_398_902_520_000)
    assert len(found[KEY]) == 1
    assert [(r.line, r.reason) for r in report.refused] == [(3, "in_the_future")]
    assert report.as_dict()["refused_by_reason"] == {"in_the_future": 1}
