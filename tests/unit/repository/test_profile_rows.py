"""Every row of the profile names a test that exists, or the line that says what to use instead."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.profile_rows import (
    ROOT,
    SOURCE,
    TABLE,
    Row,
    document,
    missing_lines,
    missing_tests,
    read_rows,
    twice,
)

ROWS = read_rows(SOURCE.read_text(encoding="utf-8"))
NUMBER_OF_ROWS = 232
TOP_LEVEL = (
    *("streams", "schemas", "cpp", "deploy", "tests", "pyproject.toml"),
    *("redpanda-compose.yml", "README.md"),
)


def collected(session: pytest.Session, rows: list[Row]) -> set[str]:
    """Return what is collected: in this run, and of files that are no part of it, by another."""
    found = {item.nodeid.partition("@")[0] for item in session.items}
    files = {test.partition("::")[0] for row in rows for test in row.tests}
    others = sorted(f for f in files if not any(node.startswith(f"{f}::") for node in found))
    if others:
        command = [sys.executable, "-m", "pytest", "-n0", "--collect-only", "-q", *others]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3_000:] + done.stderr[-3_000:]
        found |= {line for line in done.stdout.splitlines() if "::" in line}
    return found


def test_all_rows_of_the_profile_are_there_once() -> None:
    assert twice(ROWS) == []
    assert len(ROWS) == NUMBER_OF_ROWS


def test_the_table_is_that_of_its_source() -> None:
    kept = TABLE.read_text(encoding="utf-8")
    assert kept == document(ROWS), "run: python -m tests.support.profile_rows"


def test_no_row_is_without_a_test() -> None:
    waiting = [f"{row.area}, {row.item}: {row.to_come}" for row in ROWS if row.to_come]
    assert waiting == []


def test_every_test_that_a_row_names_exists(request: pytest.FixtureRequest) -> None:
    assert missing_tests(ROWS, collected(request.session, ROWS)) == {}


def test_every_line_of_the_reference_that_a_row_names_is_there() -> None:
    assert missing_lines(ROWS, ROOT) == []


@pytest.mark.parametrize("name", TOP_LEVEL)
def test_the_top_level_is_that_of_the_design(name: str) -> None:
    assert (ROOT / name).exists()


def row(text: str) -> list[Row]:
    return read_rows(f'[[rows]]\narea = "a"\nitems = ["b", "c"]\n{text}\n')


@pytest.mark.parametrize(
    "text", ["", "tests = []\n", 'tests = ["x"]\nto_come = "y"\n', 'test = ["x"]\n']
)
def test_a_row_that_shows_itself_in_no_way_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"name tests, instead, or to_come|is no field"):
        row(text)


def test_a_test_that_is_gone_is_found() -> None:
    rows = row('tests = ["t/x.py::test_a[{item}]", "t/x.py::test_b", "t/y.py"]')
    there = ["t/x.py::test_a[b]", "t/x.py::test_b[1]", "t/y.py::test_z"]
    assert missing_tests(rows, there) == {"a, c": ["t/x.py::test_a[c]"]}
    assert missing_tests(rows, []).keys() == {"a, b", "a, c"}


def test_a_line_that_is_gone_is_found(tmp_path: Path) -> None:
    rows = row('instead = "x.md"')
    (tmp_path / "x.md").write_text("of b", encoding="utf-8")
    assert missing_lines(rows, tmp_path) == ["a, c: x.md says nothing of 'c'"]
