"""Every row of the profile with the test that shows it: the table, and its checks.

``python -m tests.support.profile_rows`` writes ``tests/support/profile_rows.md`` from
``tests/support/profile_rows.toml``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "tests" / "support" / "profile_rows.toml"
TABLE = ROOT / "tests" / "support" / "profile_rows.md"
_FIELDS = {"area", "items", "tests", "instead", "because", "to_come"}
_HEAD = """# The profile, row by row, and the tests that show it

Made by `python -m tests.support.profile_rows` from `tests/support/profile_rows.toml`; do not edit.

| area | item | shown by |
|---|---|---|
"""


class Row(NamedTuple):
    """One row.

    Attributes
    ----------
    tests
        Node ids; one without brackets stands for all cases of the test, a file for all of its
        tests.
    instead
        File of the reference with the line that says why it is not there and what to use.
    because
        What stands in that file; the item itself where this is empty.
    to_come
        What the row waits for; it fails the build.
    """

    area: str
    item: str
    tests: tuple[str, ...]
    instead: str = ""
    because: str = ""
    to_come: str = ""

    @property
    def shown(self) -> str:
        """What shows the row, for the table."""
        if self.to_come:
            return f"**to come**: {self.to_come}"
        said = [f"`{test}`" for test in self.tests]
        if self.instead:
            said.append(f"not there: {self.instead} says why, and what to use")
        return "<br>".join(said)


def read_rows(text: str) -> list[Row]:
    """Return the rows of a table.

    Raises
    ------
    ValueError
        A row has a field that is none, or shows itself in no way or in two.
    """
    rows = []
    for group in tomllib.loads(text)["rows"]:
        if not group.keys() <= _FIELDS:
            raise ValueError(f"{group['items']}: {sorted(group.keys() - _FIELDS)} is no field")
        for item in group["items"]:
            tests = tuple(test.replace("{item}", item) for test in group.get("tests", ()))
            more = {name: group.get(name, "") for name in ("instead", "because", "to_come")}
            row = Row(group["area"], item, tests, **more)
            if bool(row.tests) + bool(row.instead) + bool(row.to_come) != 1:
                raise ValueError(f"{row.area}, {item}: name tests, instead, or to_come")
            rows.append(row)
    return rows


def document(rows: Iterable[Row]) -> str:
    """Return the table."""
    lines = [f"| {row.area} | {row.item.replace('|', '/')} | {row.shown} |\n" for row in rows]
    return _HEAD + "".join(lines)


def missing_tests(rows: Iterable[Row], collected: Iterable[str]) -> dict[str, list[str]]:
    """Return the tests that rows name and nothing collects: item -> node ids.

    Parameters
    ----------
    collected
        Node ids that pytest has collected.
    """
    known: set[str] = set()
    for node in collected:
        # a name as it is, without its case, and its file
        known |= {node, node.partition("[")[0], node.partition("::")[0]}
    found: dict[str, list[str]] = {}
    for row in rows:
        gone = [test for test in row.tests if test not in known]
        if gone:
            found[f"{row.area}, {row.item}"] = gone
    return found


def missing_lines(rows: Iterable[Row], root: Path) -> list[str]:
    """Return the items whose line of the reference is not there."""
    found = []
    for row in rows:
        if not row.instead:
            continue
        place = root / row.instead
        wanted = row.because or row.item
        if not place.is_file() or wanted not in place.read_text(encoding="utf-8"):
            found.append(f"{row.area}, {row.item}: {row.instead} says nothing of {wanted!r}")
    return found


def twice(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Return the rows that are there more than once."""
    places = [(row.area, row.item) for row in rows]
    return sorted({place for place in places if places.count(place) > 1})


if __name__ == "__main__":
    TABLE.write_text(document(read_rows(SOURCE.read_text(encoding="utf-8"))), encoding="utf-8")
    print(TABLE)
