"""Tables and texts of the generated pages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

HEAD = """# {title}

Generated from the code by `python -m tests.support.reference_docs`; do not edit.

{intro}
"""


def page(title: str, intro: str, *parts: str) -> str:
    """Return a page."""
    return "\n".join([HEAD.format(title=title, intro=intro.strip()), *parts]).rstrip() + "\n"


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table; columns without any content are left out."""
    found = [[cell(one) for one in row] for row in rows]
    kept = [n for n in range(len(columns)) if any(row[n] for row in found)]
    lines = ["| " + " | ".join(columns[n] for n in kept) + " |", "|" + "---|" * len(kept)]
    lines += ["| " + " | ".join(row[n] for n in kept) + " |" for row in found]
    return "\n".join(lines) + "\n"


def cell(content: object) -> str:
    """Return the text of a cell: one line, without what would end it."""
    return " ".join(plain(str(content)).split()).replace("|", "\\|")


def plain(text: str) -> str:
    """Return a docstring's text with Markdown's marks of code."""
    return text.replace("``", "`")


def code(text: object) -> str:
    """Return a name or value as code; nothing for nothing."""
    return f"`{text}`" if str(text) else ""
