"""The list of generated pages, and writing them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.support.reference_docs import api, cli, metrics, reasons, settings, topics

FOLDER = Path(__file__).resolve().parents[3] / "docs" / "reference"
PAGES: dict[str, Callable[[], str]] = {
    "cli.md": cli.document,
    "settings.md": settings.document,
    "topics.md": topics.document,
    "metrics.md": metrics.document,
    "reasons.md": reasons.document,
    "api.md": api.document,
}
"""File name -> what makes it."""


def write() -> None:
    """Write every page."""
    for name, document in PAGES.items():
        (FOLDER / name).write_text(document(), encoding="utf-8")
