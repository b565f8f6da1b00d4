"""Every reference to a document resolves: the file, its section, and the links between pages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FOLDERS = ("streams", "cpp", "deploy", "examples", "schemas", "tests")
CODE = {
    *(".py", ".hpp", ".cpp", ".c", ".js", ".css", ".html", ".toml", ".yml", ".yaml", ".env"),
    *(".service", ".sh", ".avsc", ".lua", ""),
}
PAGE = re.compile(r"(?<![\w/.])(?P<page>(?:[\w.-]+/)*[\w-]+\.md)\b(?!\.\w)")
SECTIONS = re.compile(r"\s+(?P<first>\d+(?:\.\d+)?)(?:(?:, | and | to )(?P<more>\d+(?:\.\d+)?))*")
NAMED = re.compile(r'``?,?\s+"(?P<name>[A-Z][^"\n]{3,60})"|,\s+"(?P<plain>[A-Z][^"\n]{3,60})"')
FILE_OF_OURS = re.compile(r"`((?:streams|cpp|tests|deploy|examples|docs)/[\w./-]+)`")
LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")
NOT_PAGES = {
    "tests/unit/repository/test_doc_references.py",
    "tests/unit/repository/test_profile_rows.py",
}
"""Files whose names of pages are examples."""


def code() -> Iterator[Path]:
    """Yield every file of the repository that is no page."""
    below = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*"))
    for path in sorted([*below, *ROOT.iterdir()]):
        if path.is_file() and path.suffix in CODE and "__pycache__" not in path.parts:
            yield path


def pages() -> list[Path]:
    """Return the pages for readers."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def found_page(name: str, folder: Path) -> Path | None:
    """Return the page of a path from the root, of one beside the file, or of its name."""
    for place in (ROOT / name, folder / name):
        if place.is_file():
            return place
    alike = [page for page in pages() if "/" not in name and page.name == name]
    return alike[0] if len(alike) == 1 else None


@cache
def headings(page: Path) -> tuple[str, ...]:
    lines = page.read_text(encoding="utf-8").splitlines()
    return tuple(line.lstrip("#").strip() for line in lines if line.startswith("#"))


@cache
def numbers(page: Path) -> frozenset[str]:
    found = (re.match(r"(\d+(?:\.\d+)*)\.?\s", heading) for heading in headings(page))
    return frozenset(match[1] for match in found if match)


def references(text: str) -> Iterator[tuple[str, list[str], str | None]]:
    """Yield the page, the section numbers and the quoted heading of every reference in a text."""
    # a reference may run on over the end of a line, in a comment too
    plain = re.sub(r"\s*\n\s*(?:///?|#|\*)?\s*", " ", text)
    for found in PAGE.finditer(plain):
        rest = plain[found.end() :]
        sections = SECTIONS.match(rest)
        asked = re.findall(r"\d+(?:\.\d+)?", sections[0]) if sections else []
        named = NAMED.match(rest)
        yield found["page"], asked, (named["name"] or named["plain"]) if named else None


def test_every_document_that_the_code_names_is_there_with_its_section() -> None:
    wrong, seen = [], 0
    for path in code():
        name = str(path.relative_to(ROOT))
        if name in NOT_PAGES or path.parent.name == "reference_docs":  # their pages are checked
            continue
        for page, asked, heading in references(path.read_text(encoding="utf-8")):
            place = found_page(page, path.parent)
            seen += 1
            if place is None:
                wrong.append(f"{name}: there is no {page}")
                continue
            missing = [one for one in asked if one not in numbers(place)]
            wrong += [f"{name}: {page} has no section {one}" for one in missing]
            if heading is not None and heading not in headings(place):
                wrong.append(f"{name}: {page} has no heading {heading!r}")
    assert wrong == []
    assert seen > 60


@pytest.mark.parametrize("page", pages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_of_a_page_leads_to_something(page: Path) -> None:
    wrong = []
    for found in LINK.finditer(page.read_text(encoding="utf-8")):
        target, _, anchor = found["target"].partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        place = (page.parent / target).resolve() if target else page
        anchors = {anchor_of(one) for one in headings(place)} if anchor else {anchor}
        if not place.exists() or anchor not in anchors:
            wrong.append(found["target"])
    assert wrong == []


def test_every_page_of_docs_can_be_reached_from_the_readme() -> None:
    known, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in known:
            continue
        known.add(page)
        for found in LINK.finditer(page.read_text(encoding="utf-8")):
            target = (page.parent / found["target"].partition("#")[0]).resolve()
            if target.suffix == ".md" and target.is_file():
                waiting.append(target)
    assert set(pages()) <= known


def anchor_of(heading: str) -> str:
    """Return the anchor that a page on the web has for a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_a_reference_to_what_is_not_there_is_found() -> None:
    text = (
        '# (docs/spec/trading-loop.md 1.3\n# to 9.9, docs/none.md)\n"""docs/spec/records.md, "No"'
    )
    assert list(references(text)) == [
        ("docs/spec/trading-loop.md", ["1.3", "9.9"], None),
        ("docs/none.md", [], None),
        ("docs/spec/records.md", [], None),
    ]
    assert "9.9" not in numbers(ROOT / "docs/spec/trading-loop.md")
    assert "1.3" in numbers(ROOT / "docs/spec/trading-loop.md")
    more = 'docs/spec/records.md, "Sessions and the market week"'
    assert [one[2] for one in references(more)] == ["Sessions and the market week"]


@pytest.mark.parametrize("page", pages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    if page.name == "CHANGELOG.md":
        return  # it tells of files of their time
    names = re.findall(FILE_OF_OURS, page.read_text(encoding="utf-8"))
    assert [name for name in names if not (ROOT / name).exists()] == []
