"""The pages of ``docs/`` that list what the code has are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from streams.cli import COMMANDS, _leaves, cli
from streams.monitoring.alerts import NAMES
from tests.support.reference_docs.pages import FOLDER, PAGES
from tests.unit.trading.test_execution_guards import ORDER

ROOT = Path(__file__).resolve().parents[3]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
SPEC = (ROOT / "docs" / "spec" / "trading-loop.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_that_of_the_code(name: str) -> None:
    kept = (FOLDER / name).read_text(encoding="utf-8")
    assert kept == PAGES[name](), "run: python -m tests.support.reference_docs"


def test_no_other_page_lies_among_the_generated_ones() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(PAGES)


def test_the_runbook_has_every_failure_signal_with_what_to_do() -> None:
    runbook = OPERATIONS.partition("## Failure signals")[2]
    entries = re.split(r"(?m)^### ", runbook)[1:]
    assert tuple(entry.partition("\n")[0] for entry in entries) == NAMES
    for entry in entries:
        marks = re.findall(r"(?m)^\*\*(Means|Look at|Do):\*\* \S", entry)
        assert marks == ["Means", "Look at", "Do"], entry.partition("\n")[0]


def test_the_specification_has_every_guard_in_its_order() -> None:
    section = SPEC.partition("### 5.4 ")[2].partition("### 5.5 ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
    assert tuple(re.findall(r"`(\w+)`", "\n".join(rows))) == ORDER


def test_every_command_that_a_page_names_is_there() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        for command in re.findall(r"`manifold ([a-z]+)", page.read_text(encoding="utf-8")):
            assert command in COMMANDS, f"{page.name}: manifold {command}"


def test_every_command_and_option_has_a_help_text() -> None:
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        for leaf in _leaves(command):
            assert leaf.help, leaf.name
            for option in leaf.params:
                assert not isinstance(option, click.Option) or option.help, (name, option.opts)
