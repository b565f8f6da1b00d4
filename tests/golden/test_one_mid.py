"""The same quotes give the same records, whatever they come as: OANDA's answers, a file, the feed.

The quotes are OANDA's answers of the folder of cases where that is there, a synthetic market else.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from streams.candles.calendar import FX
from streams.candles.files import read_candles
from streams.cli.replay import replay
from streams.config.settings import Config
from streams.feeds.oanda_instrument import InstrumentFeed, Resume
from streams.oanda.client import rfc3339
from streams.oanda.shapes import candles_of
from streams.records.events import Candle, Signal
from streams.replay.files import derive
from tests.support.bulk_reading import SIDED, bits, in_bulk
from tests.support.candle_files import market
from tests.support.deployment import LIVELY
from tests.support.stage_bench import CODEC

PAIR, GRANULARITY = "EUR_USD", "M1"
SIDES = {"BA": ("bid", "ask"), "MBA": ("mid", "bid", "ask")}
BARS = 1_200
WINDOW = 128

Answer = dict[str, Any]


def synthetic_answer(sides: str) -> Answer:
    """A market in OANDA's words; its own mid is rounded half up to as many digits as the sides."""
    made = []
    for candle in market([PAIR], BARS):
        assert candle.bid is not None and candle.ask is not None
        quotes = {"bid": texts(candle.bid), "ask": texts(candle.ask)}
        pairs = zip(quotes["bid"], quotes["ask"], strict=True)
        mids = [round(Decimal(b) / 2 + Decimal(a) / 2, 5) for b, a in pairs]
        prices = quotes | {"mid": [f"{mid:.5f}" for mid in mids]}
        made.append(
            {"complete": True, "volume": candle.volume, "time": candle.bar_ms}
            | {side: dict(zip("ohlc", prices[side], strict=True)) for side in SIDES[sides]}
        )
    return {"instrument": PAIR, "granularity": GRANULARITY, "candles": made}


def texts(prices: Sequence[float]) -> list[str]:
    return [f"{price:.5f}" for price in prices]


@pytest.fixture(scope="module")
def answers(shared_data: Path | None) -> dict[str, Answer]:
    """An answer with bid and ask, and one of the same bars with OANDA's mid beside them."""
    if shared_data is None:
        return {sides: synthetic_answer(sides) for sides in SIDES}
    folder = shared_data.parent / "cases" / "candles"
    found = {}
    for sides in SIDES:
        answer = json.loads(gzip.decompress((folder / f"oanda_{sides}.json.gz").read_bytes()))
        found[sides] = answer | {"candles": answer["candles"][:BARS]}
    return found


@pytest.fixture
def files(answers: dict[str, Answer], tmp_path: Path) -> dict[str, str]:
    """Both answers, with prices as texts and as numbers, and a CSV file of the same bars."""
    paths = {}
    for sides, answer in answers.items():
        for kind, prices in (("texts", str), ("numbers", float)):
            path = tmp_path / f"{sides} {kind}.json"
            path.write_text(json.dumps(with_prices(answer, prices)))
            paths[path.stem] = str(path)
    lines = [SIDED]
    for one in answers["BA"]["candles"]:
        quotes = [one[side][name] for side in ("bid", "ask") for name in "ohlc"]
        lines.append(",".join(map(str, (one["time"], *quotes, one["volume"]))))
    path = tmp_path / f"{PAIR}-{GRANULARITY}.csv"
    path.write_text("\n".join(lines) + "\n")
    return paths | {"CSV": str(path)}


def with_prices(answer: Answer, kind: Any) -> Answer:
    """The answer with its prices as texts or as numbers."""
    candles = [
        one | {s: {n: kind(p) for n, p in one[s].items()} for s in SIDES["MBA"] if s in one}
        for one in answer["candles"]
    ]
    return answer | {"candles": candles}


def by_rows(path: str) -> list[Candle]:
    found = [item for _, item in read_candles(path, PAIR, GRANULARITY)]
    assert all(isinstance(item, Candle) for item in found)
    return [item for item in found if isinstance(item, Candle)]


def by_feed(answer: Answer) -> list[Candle]:
    """The candles that the feed writes of an answer."""
    described = answer | {"candles": [one | {"time": instant(one)} for one in answer["candles"]]}
    given = candles_of(described, "candles", PAIR, GRANULARITY)
    lane = InstrumentFeed(
        *(PAIR, GRANULARITY, Resume(given[0].bar_ms), FX),
        settle_ms=0,
        absent_after_ms=0,
        reread_bars=3,
    )
    assert lane.take(given, given[-1].bar_ms + 3_600_000, 1 << 30) == []
    return [candle for bar in lane.ready for candle in bar.candles]


def instant(one: dict[str, Any]) -> str:
    if isinstance(one["time"], str):
        return one["time"]
    return rfc3339(one["time"])


def test_every_source_gives_the_same_candles(
    answers: dict[str, Answer], files: dict[str, str]
) -> None:
    expected = by_rows(files["CSV"])
    assert len(expected) > 1_000
    assert all(candle.mid_derived for candle in expected)
    for name, path in files.items():
        assert by_rows(path) == expected, name
        [rows] = in_bulk(path, PAIR, GRANULARITY)[0].values()
        assert [text for _, text in rows] == [bits(candle) for candle in expected], name
    for sides, answer in answers.items():
        found = by_feed(answer)
        assert {candle.source for candle in found} == {"oanda"}
        assert [candle._replace(source="file") for candle in found] == expected, sides


def derived(candles: list[Candle]) -> list[tuple[object, ...]]:
    """Every record that the chain derives: topic, partition, key, time stamp, bytes."""

    async def collect() -> list[tuple[object, ...]]:
        bars = [(candle.as_of_ms, (candle,)) for candle in candles]
        config = Config.from_env(LIVELY)
        chunks = derive(config, bars, [PAIR], candles[0].bar_ms, bars[-1][0], 1, CODEC)
        return [tuple(one.record) async for chunk in chunks for one in chunk]

    return asyncio.run(collect())


def test_the_feed_derives_what_a_file_does(
    answers: dict[str, Answer], files: dict[str, str]
) -> None:
    expected = derived(by_rows(files["CSV"]))
    assert len(expected) > 3_000
    assert derived(by_feed(answers["MBA"])) == expected
    assert derived(by_feed(answers["BA"])) == expected


@pytest.mark.parametrize("topic", ["sep.signals", "opt.gates"])
def test_the_command_prints_the_same_lines_for_every_file(
    topic: str, files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in LIVELY.items():
        monkeypatch.setenv(name, value)
    printed = {}
    for name in ("BA texts", "MBA numbers", "CSV"):
        done = CliRunner().invoke(replay, [files[name], "--topic", topic])
        assert done.exit_code == 0, done.output
        printed[name] = done.stdout
    assert printed["CSV"].count("\n") > 10
    assert set(printed.values()) == {printed["CSV"]}


# -- bits by another program ---------------------------------------------------------------------


def test_signals_count_the_bits_that_exact_prices_make(
    answers: dict[str, Answer], files: dict[str, str]
) -> None:
    """A bit is a close that does not fall on a range or a volume that does not shrink."""
    rows = answers["BA"]["candles"]
    mids = [
        [float((Decimal(one["bid"][n]) + Decimal(one["ask"][n])) / 2) for n in "ohlc"]
        for one in rows
    ]
    ones = [
        after[3] >= before[3]
        and (
            after[1] - after[2] >= before[1] - before[2]
            or rows[place + 1]["volume"] >= rows[place]["volume"]
        )
        for place, (before, after) in enumerate(pairwise(mids))
    ]
    config = Config.from_env(LIVELY)
    candles = by_rows(files["MBA texts"])

    async def signals() -> list[Signal]:
        bars = [(candle.as_of_ms, (candle,)) for candle in candles]
        chunks = derive(config, bars, [PAIR], candles[0].bar_ms, bars[-1][0], 1, CODEC)
        events = [one.output.event async for chunk in chunks for one in chunk]
        return [event for event in events if isinstance(event, Signal)]

    found = asyncio.run(signals())
    assert len(found) == len(rows) - WINDOW
    assert [one.ones for one in found] == [
        sum(ones[place : place + WINDOW]) for place in range(len(found))
    ]
    assert [one.price for one in found] == [mid[3] for mid in mids[WINDOW:]]


def test_exact_closes_tie_where_the_doubles_do(
    answers: dict[str, Answer], files: dict[str, str]
) -> None:
    rows = answers["BA"]["candles"]
    exact = [Decimal(one["bid"]["c"]) + Decimal(one["ask"]["c"]) for one in rows]
    found = [candle.mid.close for candle in by_rows(files["MBA texts"])]
    for place in range(1, len(rows)):
        assert (found[place] >= found[place - 1]) == (exact[place] >= exact[place - 1])
        assert (found[place] == found[place - 1]) == (exact[place] == exact[place - 1])
