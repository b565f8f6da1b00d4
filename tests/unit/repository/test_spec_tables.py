"""The tables of docs/spec/trading-loop.md are what the core computes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from streams.config.settings import Config
from streams.core.batch import analyze_bits, window_grid
from streams.records.events import ControlKind

SPEC = Path(__file__).resolve().parents[3] / "docs" / "spec"
LOOP = (SPEC / "trading-loop.md").read_text(encoding="utf-8")
BACKTEST = (SPEC / "strict-backtest.md").read_text(encoding="utf-8")
SERIES: dict[str, Callable[[int], list[int]]] = {
    "zeros": lambda n: [0] * n,
    "ones": lambda n: [1] * n,
    "alternating": lambda n: [k % 2 for k in range(n)],
}


def rows(section: str) -> list[list[str]]:
    """Return the cells of the first table of a section, without its head."""
    text = LOOP.partition(f"### {section} ")[2].partition("\n### ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.parametrize(("bits", "c", "s", "h", "r"), rows("1.9"))
def test_reference_values(bits: str, c: str, s: str, h: str, r: str) -> None:
    number, _, kind = bits.partition(" ")
    found = analyze_bits(
        SERIES[kind](int(number)) if kind in SERIES else [int(bit) for bit in bits.split()]
    )
    values = (found.coherence, found.stability, found.entropy, found.rupture)
    for value, written in zip(values, (c, s, h, r), strict=True):
        digits = len(written.partition(".")[2])
        # the last digit of the published values is cut or rounded
        assert abs(value - float(written)) <= 1.01 * 10**-digits, (bits, value, written)


@pytest.mark.parametrize(("bits", "window", "first", "step", "windows"), rows("1.7"))
def test_windows_of_a_batch(bits: str, window: str, first: str, step: str, windows: str) -> None:
    found = window_grid(int(bits))
    assert found.windows == int(windows)
    if found.windows:
        wanted = (int(window), int(first), int(step), int(windows))
        assert (found.window_bits, found.first_end, found.step, found.windows) == wanted


def test_defaults_in_the_backtests_text_are_those_of_the_settings() -> None:
    config = Config()
    told = re.findall(r"`([A-Z][A-Z_]+)` \((\d+(?:\.\d+)?)(?: %)?\)", BACKTEST)
    assert len(told) > 15
    for name, value in told:
        assert float(getattr(config, name.lower())) == float(value), name


def test_every_kind_of_control_record_is_told_of() -> None:
    section = (SPEC / "records.md").read_text(encoding="utf-8").partition("## Control records")[2]
    table = [line for line in section.partition("\n## ")[0].splitlines() if line.startswith("| `")]
    told = [kind for line in table for kind in re.findall(r"`(\w+)`", line.split("|")[1])]
    assert sorted(told) == sorted(get_args(ControlKind))
