"""The tests that ``make dates`` runs are there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.dates.__main__ import PARTS

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("part", PARTS)
def test_every_file_of_a_part_is_there(part: str) -> None:
    files = [name.partition("::")[0] for name in PARTS[part] if name.startswith("tests/")]
    assert files and [name for name in files if not (ROOT / name).is_file()] == []
