"""Instruments: every spelling is one name, and a file's name says only what its words say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.candles.file_names import file_names, read_file_name
from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.errors import Fatal
from streams.instruments import CURRENCIES, decorated_pair, instrument_name, instrument_names

TRADED = ("AUD", "CAD", "CHF", "EUR", "GBP", "JPY", "NZD", "SGD", "TRY", "USD", "XAU", "XAG", "ZAR")
WORDS = ("OANDA", "DAT", "ASCII", "data", "2014", "201405", "GMT", "BIDS", "Candlestick", "01", "X")
PAIRS = st.lists(st.sampled_from(TRADED), min_size=2, max_size=2, unique=True)


@pytest.mark.parametrize(
    "text",
    ["NZDUSD", "nzd/usd", "NZD-USD", "NZD.USD", "NZDUSD=X", "NZD USD", " nzd_usd ", "FX:NZDUSD"],
)
def test_every_spelling_of_a_pair_is_one_name(text: str) -> None:
    assert instrument_name(text) == "NZD_USD"


@pytest.mark.parametrize("name", ["SPX500_USD", "DE30_EUR", "BTC_USD", "EURUSDT", "USDUSD", "US30"])
def test_what_is_no_pair_stays_as_it_is(name: str) -> None:
    assert instrument_name(name) == name
    assert decorated_pair(name) is None


@given(
    PAIRS,
    st.sampled_from(("", "/", "_", "-", ".", " ", " / ")),
    st.booleans(),
    st.sampled_from(("", "=X")),
)
def test_any_pair_in_any_spelling(pair: list[str], join: str, lower: bool, end: str) -> None:
    text = join.join(pair) + end
    assert instrument_name(text.lower() if lower else text) == "_".join(pair)


@given(st.text(max_size=20))
def test_a_name_that_is_spelt_our_way_stays(text: str) -> None:
    name = instrument_name(text)
    assert instrument_name(name) == name
    assert decorated_pair("_".join(name.split("_"))) == decorated_pair(name)


@pytest.mark.parametrize(
    "name", ["EURUSD.M", "EUR_USD.PRO", "EUR-USD_BID", "EURUSDM", "EURUSDPRO", "EURUSD-"]
)
def test_a_pair_with_something_added_is_told(name: str) -> None:
    assert decorated_pair(name) == "EUR_USD"
    with pytest.raises(Fatal, match="write EUR_USD"):
        file_names("a.csv", name, "M1")


@pytest.mark.parametrize(
    ("name", "instrument", "granularity"),
    [
        ("OANDA_EURUSD, 1.csv", "EUR_USD", None),
        ("DAT_ASCII_EURUSD_M1_201405.csv", "EUR_USD", "M1"),
        ("EURUSD_GMT+2_US-DST_M5.csv", "EUR_USD", "M5"),
        ("NZDUSD=X.csv", "NZD_USD", None),
        ("eur-usd.csv", "EUR_USD", None),
        ("oanda-EUR_USD-M1-2014-05.csv.gz", "EUR_USD", "M1"),
        ("EURUSD 1 min.csv", "EUR_USD", "M1"),
        ("usdjpy_60min.csv.gz", "USD_JPY", "H1"),
        ("XAUUSD-4h.csv", "XAU_USD", "H4"),
        ("EURUSDm1.csv", None, None),
        ("EURUSD60.csv", None, None),
        ("EURUSD_1_M.csv", "EUR_USD", None),
        ("EUR_USD-M7.csv", "EUR_USD", None),
        ("EURUSD_M1_H1.csv", "EUR_USD", None),
        ("EURUSD_GBPUSD_M1.csv", None, "M1"),
        ("EUR_USD_JPY.csv", None, None),
        ("all_usd.csv", None, None),
        ("SPX500_USD.csv", None, None),
        ("BTC_USD.csv", None, None),
        ("EUR_USD/history.csv", None, None),
    ],
)
def test_the_name_of_a_file_says_what_whole_words_say(
    name: str, instrument: str | None, granularity: str | None
) -> None:
    assert file_names(f"some/{name}", None, None) == (instrument, granularity)
    assert file_names(name, "nzd/usd", "h1") == ("NZD_USD", "H1")


@given(
    PAIRS,
    st.sampled_from(("", "_", "-", ".", " ")),
    st.lists(st.sampled_from(WORDS), max_size=4),
    st.lists(st.sampled_from(WORDS), max_size=4),
    st.sampled_from(("_", "-", " ", ", ", ".", "+")),
)
def test_other_words_in_a_file_name_change_nothing(
    pair: list[str], join: str, before: list[str], after: list[str], between: str
) -> None:
    name = between.join([*before, join.join(pair), *after]) + ".csv"
    assert read_file_name(name).pairs == ["_".join(pair)]


@given(st.lists(st.sampled_from(WORDS), max_size=6), st.sampled_from(("_", "-", " ", "")))
def test_no_instrument_is_made_of_other_words(words: list[str], between: str) -> None:
    assert read_file_name(between.join(words) + ".csv").pairs == []


def test_settings_take_any_spelling() -> None:
    pairs = "EURUSD, nzd/usd,NZD_USD, spx500_usd"
    assert Runtime.from_env({"HOTBAND_PAIRS": pairs}).hotband_pairs == (
        *("EUR_USD", "NZD_USD", "SPX500_USD"),
    )
    one = Config.from_env({"HYSTERESIS_PAIR_JSON": '{"nzdusd": 0.2}'})
    assert one.hysteresis_pair_json == (("NZD_USD", 0.2),)
    with pytest.raises(Fatal, match="HYSTERESIS_PAIR_JSON names an instrument twice"):
        Config.from_env({"HYSTERESIS_PAIR_JSON": '{"NZDUSD": 0.2, "NZD_USD": 0.3}'})


def test_names_keep_their_order_once() -> None:
    assert instrument_names(["usdjpy", "", " ", "EUR/USD", "USD_JPY"]) == ("USD_JPY", "EUR_USD")
    assert {len(code) for code in CURRENCIES} == {3}
