"""However candles are cut into calls, and wherever the state is stored, the bits are the same."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.core import METRICS_DTYPE, BarMetrics, CandleStream, format_signature
from tests.support.engine_market import Columns, market, same_bits

LENGTH = 1600
TAPE = market(LENGTH, seed=23)
PARAMETERS = st.tuples(st.integers(129, 1500), st.integers(1, 1440), st.integers(0, 6))
CUTS = st.lists(st.integers(0, LENGTH), max_size=6).map(sorted)


def pieces(cuts: list[int]) -> list[Columns]:
    edges = [0, *cuts, LENGTH]
    return [TAPE.part(begin, end) for begin, end in itertools.pairwise(edges)]


def as_metrics(row: np.void, precision: int) -> BarMetrics:
    found = dict(zip(METRICS_DTYPE.names or (), row.item(), strict=True))
    buckets = (found.pop("sig_c"), found.pop("sig_s"), found.pop("sig_e"))
    return BarMetrics(**found, signature=format_signature(*buckets, precision))


@pytest.mark.parametrize("parameters", [(129, 1, 0), (300, 60, 2), (1500, 1440, 6)])
def test_step_gives_the_bits_of_run_at_every_candle(parameters: tuple[int, int, int]) -> None:
    whole = CandleStream(*parameters).run(*TAPE)
    stream = CandleStream(*parameters)
    stepped = [stream.step(*(column[i].item() for column in TAPE)) for i in range(LENGTH)]
    assert stepped[:128] == [None] * 128
    assert stepped[128:] == [as_metrics(row, parameters[2]) for row in whole]


@settings(deadline=None, max_examples=60)
@given(parameters=PARAMETERS, cuts=CUTS)
def test_run_in_any_pieces_gives_the_same_bits(
    parameters: tuple[int, int, int], cuts: list[int]
) -> None:
    stream = CandleStream(*parameters)
    found = np.concatenate([stream.run(*piece) for piece in pieces(cuts)])
    assert same_bits(found, CandleStream(*parameters).run(*TAPE))


@settings(deadline=None, max_examples=60)
@given(parameters=PARAMETERS, cuts=CUTS, by_rows=st.booleans())
def test_restored_between_any_pieces_it_goes_on_with_the_same_bits(
    parameters: tuple[int, int, int], cuts: list[int], by_rows: bool
) -> None:
    stream, stored = CandleStream(*parameters), dict[str, bytes]()
    found = []
    for piece in pieces(cuts):
        found.append(stream.run(*piece))
        stored |= stream.changed_rows()
        if by_rows and stored:
            stream = CandleStream.from_rows(stored)
        else:
            stream = CandleStream.from_bytes(stream.to_bytes())
    assert same_bits(np.concatenate(found), CandleStream(*parameters).run(*TAPE))


def test_every_split_of_seven_hundred_candles_gives_the_same_bits() -> None:
    whole = CandleStream(300, 60, 2).run(*TAPE.part(0, 700))
    for cut in range(701):
        stream = CandleStream(300, 60, 2)
        head = stream.run(*TAPE.part(0, cut))
        restored = CandleStream.from_bytes(stream.to_bytes())
        for other in (stream, restored):
            found = np.concatenate([head, other.run(*TAPE.part(cut, 700))])
            assert same_bits(found, whole), cut
