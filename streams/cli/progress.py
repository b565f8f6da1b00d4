"""The progress bar of long-running commands, on standard error."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:>10,.0f}/s" if speed else "")


def progress_bar(*, quiet: bool) -> Progress:
    """Return a bar with a task's name, count, rate and the time left; ``quiet`` shows nothing."""
    return Progress(
        TextColumn("{task.description:<20}"),
        BarColumn(),
        TextColumn("{task.completed:>12,}"),
        _Rate(),
        TimeRemainingColumn(),
        console=Console(stderr=True, quiet=quiet),
    )
