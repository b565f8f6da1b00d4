"""Formatting of numbers, shares, times and tables of the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

from streams.instants import clock
from streams.replay.report.cells import LAST_MS

NONE = "\u2013"


def number(value: float | None, digits: int = 0, *, sign: bool = False) -> str:
    """Return a number with thousands separators, a dash for None."""
    if value is None:
        return NONE
    text = f"{value:{'+' if sign else ''},.{digits}f}"
    return text.replace("-", "\u2212") if float(text.replace(",", "")) else text.lstrip("+-")


def percent(value: float | None, digits: int = 1) -> str:
    """Return a fraction in percent; a small non-zero value is not shown as 0."""
    if value is None:
        return NONE
    least = 10.0 ** -(digits + 2)
    if 0 < value < least:
        return f"<\u2009{least:.{digits}%}"
    return f"{value:.{digits}%}"


def when(at_ms: int | None) -> str:
    """Return a UTC time, a dash for None."""
    if at_ms is None or not 0 <= at_ms <= LAST_MS:
        return NONE
    return clock(at_ms).removesuffix(":00") if at_ms % 60_000 == 0 else clock(at_ms)


def clock_range(from_ms: int | None, to_ms: int | None) -> str:
    """Return a time range."""
    if from_ms is None or to_ms is None:
        return "nothing in this time"
    return f"{when(from_ms)} to {when(to_ms)} UTC"


class Cell(NamedTuple):
    """A table cell: its text, its sort key, and its class."""

    text: str
    key: float | None = None
    kind: str = "n"
    hint: str = ""


def figure(value: float | None, digits: int = 0, *, sign: bool = False) -> Cell:
    """Return a cell with a number; with ``sign``, marked as gain or loss."""
    kind = "n"
    if sign and value:
        kind = "n up" if value > 0 else "n down"
    return Cell(number(value, digits, sign=sign), value, kind)


def fraction(value: float | None, digits: int = 1) -> Cell:
    """Return a cell with a share."""
    return Cell(percent(value, digits), value)


def words(text: str, hint: str = "") -> Cell:
    """Return a cell with text."""
    return Cell(text, None, "t", hint)


def wide(text: str) -> Cell:
    """Return a cell with text that may wrap."""
    return Cell(text, None, "w")


def table(
    caption: str,
    heads: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    *,
    sortable: bool = True,
    total: Sequence[Cell] | None = None,
) -> str:
    """Return a table in a scrollable box; the first cell of a row is its heading.

    Parameters
    ----------
    caption
        Caption of the table.
    heads
        Headings of the columns.
    rows, total
        The cells, and those of a last row that is not sorted.
    """
    body = list(rows)
    # headings are aligned like their cells
    kinds = [cell.kind.split()[0] for cell in (body[0] if body else total or ())]
    head = "".join(
        f'<th scope="col"{_class(kinds[at] if at < len(kinds) else "")}>{escape(text)}</th>'
        for at, text in enumerate(heads)
    )
    foot = f"<tfoot>{_row(total)}</tfoot>" if total else ""
    name = escape(caption)
    return (
        f'<div class="box" tabindex="0" role="region" aria-label="{name}">'
        f"<table{' data-sort' if sortable else ''}><caption>{name}</caption>"
        f"<thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(map(_row, body))}</tbody>{foot}</table></div>"
    )


def pairs(rows: Iterable[tuple[str, str]]) -> str:
    """Return names and values as a list of definitions."""
    items = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in rows)
    return f'<dl class="pairs">{items}</dl>'


def details(summary: str, content: str) -> str:
    """Return content in a collapsed ``details`` element."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def _row(cells: Sequence[Cell]) -> str:
    made = []
    for at, cell in enumerate(cells):
        key = "" if cell.key is None else f' data-v="{cell.key:g}"'
        hint = f' title="{escape(cell.hint)}"' if cell.hint else ""
        tag, scope = ("th", ' scope="row"') if at == 0 else ("td", "")
        kind = _class(cell.kind)
        made.append(f"<{tag}{scope}{kind}{key}{hint}>{escape(cell.text)}</{tag}>")
    return f"<tr>{''.join(made)}</tr>"


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind and kind != "t" else ""
