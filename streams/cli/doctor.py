"""``manifold doctor``."""

from __future__ import annotations

import json
import os
import sys

import click

from streams.checks import Finding, findings_json, worst
from streams.cli.output import echo
from streams.monitoring.doctor.doctor import doctor as examine_all

EXIT_FAILED = 1
MARKS = {"ok": "ok  ", "warn": "WARN", "fail": "FAIL", "skip": "-   "}
WORDS = {"ok": "ok", "warn": "with a warning", "fail": "failed", "skip": "skipped"}


@click.command()
@click.option(
    "--json", "as_json_", is_flag=True, help="Print one JSON object: ok, and every finding."
)
def doctor(as_json_: bool) -> None:
    """Check the whole environment and name the fix for each problem.

    Checks broker, registry, topics, Valkey, clocks, compiler and engine, OANDA, settings and their
    spelling, versions, disk and ports. A test transaction runs on temporary topics, which are
    deleted afterwards; nothing else is changed. Every check has a time limit. Exit code 1 when a
    check fails.

    \b
    Examples:
      manifold doctor
      manifold doctor --env-file .manifold/stack.env
      manifold doctor --json | jq '.findings[] | select(.state != "ok")'
    """
    found = examine_all(os.environ)
    if as_json_:
        echo(json.dumps(findings_json(found), indent=2))
    else:
        for line in finding_lines(found):
            echo(line)
    failed = worst(found) == "fail"
    sys.stdout.flush()
    if failed:
        sys.exit(EXIT_FAILED)


def finding_lines(found: list[Finding]) -> list[str]:
    """Return the findings as text: one line each, with the fix below it."""
    said = []
    for one in found:
        said.append(f"{MARKS[one.state]} {one.name:<14}  {one.detail}")
        if one.action and one.state in ("warn", "fail"):
            said.append(f"{'':21}-> {one.action}")
    count = {state: sum(one.state == state for one in found) for state in MARKS}
    numbers = (f"{count[state]} {word}" for state, word in WORDS.items())
    said.append(", ".join(numbers))
    return said
