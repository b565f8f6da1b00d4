"""The README stays a first page: short, with the two commands, and leading to every other page."""

from __future__ import annotations

import re
from pathlib import Path

from streams.monitoring.alerts import NAMES
from streams.records.topics import TOPICS

ROOT = Path(__file__).resolve().parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_it_is_short_and_begins_with_the_two_commands() -> None:
    assert len(README.splitlines()) <= 130
    first = re.search(r"(?s)```sh\n(.*?)```", README)
    assert first is not None
    assert re.findall(r"(?m)^make (\w+)", first[1]) == ["demo", "test"]


def test_its_picture_has_every_topic() -> None:
    pictures = README.split("```")[1::2]
    known = {*TOPICS} - {"dead.letters"}
    assert any(all(name in picture for name in known) for picture in pictures)
    assert "`dead.letters`" in README


def test_it_counts_the_failure_signals_right() -> None:
    words = {20: "Twenty", 21: "Twenty-one", 22: "Twenty-two"}
    assert f"{words[len(NAMES)]} failure signals" in README


def test_the_make_targets_that_pages_name_are_there() -> None:
    there = set(re.findall(r"(?m)^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8")))
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"`make ([a-z]+)", page.read_text(encoding="utf-8")):
            assert target in there, f"{page.name}: make {target}"
