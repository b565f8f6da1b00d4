"""``manifold doctor``."""

from __future__ import annotations

import json
import os
import sys

import click

from streams.checks import Finding, as_json, worst
from streams.monitoring.doctor.doctor import doctor as examine_all

EXIT_FAILED = 1
MARKS = {"ok": "ok  ", "warn": "WARN", "fail": "FAIL", "skip": "-   "}
WORDS = {"ok": "ok", "warn": "with a warning", "fail": "failed", "skip": "skipped"}


@click.command()
@click.option("--json", "as_json_", is_flag=True, help="One JSON object: ok, and every finding.")
def doctor(as_json_: bool) -> None:
    """Examine everything that is needed, and say what to do.

    Broker, registry, topics, Valkey, clocks, compiler and engine, OANDA, settings and their
    spelling, versions, disk, ports. A transaction is tried out on topics of its own, which are
    deleted again; nothing else is changed. Always comes to an end. Exit code 1 when something
    fails.

    \b
    Examples:
      manifold doctor
      manifold doctor --env-file .manifold/stack.env
      manifold doctor --json | jq '.findings[] | select(.state != "ok")'
    """
    found = examine_all(os.environ)
    if as_json_:
        click.echo(json.dumps(as_json(found), indent=2))
    else:
        for line in lines(found):
            click.echo(line)
    failed = worst(found) == "fail"
    sys.stdout.flush()
    if failed:
        sys.exit(EXIT_FAILED)


def lines(found: list[Finding]) -> list[str]:
    """Return the findings for people: one line each, and what to do below it."""
    said = []
    for one in found:
        said.append(f"{MARKS[one.state]} {one.name:<14}  {one.detail}")
        if one.action and one.state in ("warn", "fail"):
            said.append(f"{'':21}-> {one.action}")
    count = {state: sum(one.state == state for one in found) for state in MARKS}
    numbers = (f"{count[state]} {word}" for state, word in WORDS.items())
    said.append(", ".join(numbers))
    return said
