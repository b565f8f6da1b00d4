"""Every cell is read in bulk as it is row by row: times, prices, numbers to the last bit."""

from __future__ import annotations

import random
import struct
from itertools import product
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.candles.bulk_csv import BulkFile
from tests.support.bulk_reading import (
    SIDED,
    in_bulk,
    odd_prices,
    odd_times,
    outcome,
    slowly,
    usual_times,
)

START_S = 1_398_902_400


@pytest.mark.parametrize("granularity", ["S5", "M1", "H4"])
def test_every_way_to_write_a_time(tmp_path: Path, granularity: str) -> None:
    starts = (1_398_902_400_000, 1_709_164_800_000, 86_395_000, 4_102_444_740_000)
    taken = rows_refused = files_refused = 0
    path = tmp_path / "candles.csv"
    for start in starts:
        ways, odd = usual_times(start), odd_times(start)
        # each alone, and behind a row that is written in another way or in the same
        for before, text in (*((None, way) for way in ways), *product((None, *ways), odd)):
            rows = [text] if before is None else [before, text, before]
            path.write_text("time,o,h,l,c\n" + "".join(f"{row},1,1,1,1\n" for row in rows))
            found = outcome(in_bulk(str(path), granularity=granularity) for _ in range(1))
            assert found == outcome(slowly(str(path), granularity=granularity) for _ in range(1))
            files_refused += isinstance(found, str)
            if not isinstance(found, str):
                taken += found[2] - len(found[1])
                rows_refused += len(found[1])
    assert min(taken, rows_refused, files_refused) > 400


@pytest.mark.parametrize("cell", odd_prices(138_670))
@pytest.mark.parametrize("whole", [False, True])
def test_every_way_to_write_a_price(tmp_path: Path, cell: str, whole: bool) -> None:
    path = tmp_path / "candles.csv"
    rows = [["1.3867"] * 8 for _ in range(8)]
    for place, row in enumerate(rows):
        row[place] = cell
    if whole:
        rows = [[cell] * 8, [cell] * 4 + ["1"] * 4, ["1"] * 4 + [cell] * 4]
    for volume in ("7", cell):
        lines = (f"{START_S + 60 * at},{','.join(row)},{volume}" for at, row in enumerate(rows))
        path.write_text("\n".join([SIDED, *lines]) + "\n")
        found = outcome(in_bulk(str(path)) for _ in range(1))
        assert found == outcome(slowly(str(path)) for _ in range(1))
        assert volume == cell or not isinstance(found, str)


@pytest.mark.parametrize("header", ["o,h,l,c,bid_o,bid_h,bid_l,bid_c", SIDED[5:-7]])
def test_every_choice_of_missing_prices(tmp_path: Path, header: str) -> None:
    path = tmp_path / "candles.csv"
    lines = (
        f"{START_S + 60 * chosen}," + ",".join("1.5" if chosen >> at & 1 else "" for at in range(8))
        for chosen in range(256)
    )
    path.write_text("\n".join([f"time,{header}", *lines]) + "\n")
    series, refused, read = in_bulk(str(path))
    assert (series, refused, read) == slowly(str(path))
    assert read == 256
    assert len(refused) == (255 if "ask" in header else 254)


NUMBERS = st.from_regex(r"[0-9]{1,13}\.[0-9]{1,18}|[0-9]{1,19}", fullmatch=True)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(NUMBERS, min_size=1, max_size=200))
def test_decimals_are_rounded_as_python_rounds_them(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[str]
) -> None:
    path = tmp_path_factory.mktemp("numbers") / "candles.csv"
    rows = (f"{START_S + 60 * at},{n},{n},{n},{n}" for at, n in enumerate(numbers))
    path.write_text("time,o,h,l,c\n" + "\n".join(rows))
    assert in_bulk(str(path)) == slowly(str(path))


def test_halves_between_doubles_and_the_last_exact_digits_are_read_to_the_bit(
    tmp_path: Path,
) -> None:
    source = random.Random(20_240_304)
    numbers = [f"{source.randrange(2 ** source.randrange(50, 60))}" for _ in range(3_000)]
    numbers = [f"{n[:-p]}.{n[-p:]}" for n in numbers if (p := source.randrange(6, 15)) < len(n)]
    path = tmp_path / "candles.csv"
    rows = (f"{START_S + 60 * at},{n},{n},{n},{n}" for at, n in enumerate(numbers))
    path.write_text("time,o,h,l,c\n" + "\n".join(rows))
    (block,) = next(iter(BulkFile(str(path), "EUR_USD", "M1"))).blocks
    wanted = [float(n) for n in numbers]
    assert block.prices[0].tobytes() == struct.pack(f"<{len(wanted)}d", *wanted)
    assert len(wanted) > 2_900
