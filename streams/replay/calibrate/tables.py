"""Tables of a calibration for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from streams.instants import clock
from streams.replay.calibrate.outcome import TOGETHER, Calibration, configured
from streams.replay.calibrate.suggest import Suggestion
from streams.replay.calibrate.windows import COUNT

WIDE = 4
"""More instruments than this (including the total) are shown as rows, fewer as columns."""

Rows = list[tuple[str, dict[str, Any]]]


def calibration_tables(made: Calibration) -> list[Table]:
    """Return pass rates, quantiles and the suggestion."""
    shown = made.as_dict()
    rows: Rows = list(shown["instruments"].items())
    if len(rows) > 1:
        rows.append((TOGETHER, shown[TOGETHER]))
    return [_rates(made, rows), _quantiles(rows), _suggestion(made)]


def _rates(made: Calibration, rows: Rows) -> Table:
    said = [f"{rule.metric}\n{rule.relation} {limit:g}" for _, rule, limit in made.guards]
    reasons = [guard.reason for guard in made.guards]
    lines = [["instrument", "windows", *said, "all guards\ntogether", "sessions", "with\nsessions"]]
    for name, one in rows:
        rates = [one["guards"].get(reason, 1.0) for reason in reasons]
        rates += [one["all_guards"], one["sessions"], one["with_sessions"]]
        lines.append([name, f"{one['windows']:,}", *(f"{rate:.2%}" for rate in rates)])
    if len(rows) <= WIDE:
        lines = [[cell.replace("\n", " ") for cell in line] for line in zip(*lines, strict=True)]
    span = f"{clock(made.first_ms)} to {clock(made.last_ms)} UTC"
    return text_table(f"guards in force: share of windows that pass\n{span}", lines)


def _quantiles(rows: Rows) -> Table:
    first = rows[0][1]["quantiles"]
    labels = list(next(iter(first.values())))
    table = text_table("quantiles of the metrics", [["metric", *labels]])
    for metric in first:
        decimals = 0 if metric == COUNT else 4
        table.add_section()
        for name, one in rows:
            cells = [f"{value:.{decimals}f}" for value in one["quantiles"][metric].values()]
            if len(rows) == 1:
                table.add_row(metric, *cells)
                continue
            if name == rows[0][0]:
                table.add_row(metric)
            table.add_row(f"  {name}", *cells)
    return table


def _suggestion(made: Calibration) -> Table:
    found = made.together
    alone: dict[str, Suggestion] = made.single if 1 < len(made.single) < WIDE else {}
    lines = [["setting", "in force", "suggested", *(f"{name}\nalone" for name in alone)]]
    before = configured(made.found.config)
    for setting, value in found.settings.items():
        own = (one.settings[setting] for one in alone.values())
        lines.append([setting, before.get(setting, "-"), value, *own])
    table = text_table(f"thresholds for a pass rate of {made.pass_rate:.1%}", lines)
    table.add_section()
    every = (found, *alone.values())
    table.add_row("pass together", "", *(f"{s.passed / s.windows:.2%}" for s in every))
    sessions = (f"{s.passed_in_session / s.windows:.2%}" for s in every)
    table.add_row("with sessions", "", *sessions)
    if len(made.single) > 1:
        table.add_section()
        for name, rate in made.achieved.items():
            table.add_row(f"pass together: {name}", "", f"{rate:.2%}")
    return table


def text_table(title: str, lines: Sequence[Sequence[str]]) -> Table:
    """Return a text table: the first line is the heading, the first column is left-aligned."""
    table = Table(title=title, title_justify="left")
    for place, heading in enumerate(lines[0]):
        table.add_column(heading, justify="right" if place else "left", no_wrap=True)
    for line in lines[1:]:
        table.add_row(*line)
    return table
