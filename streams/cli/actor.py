"""Who says a word that stands in the log: one option for every command that says one."""

from __future__ import annotations

import os

import click


def session_user() -> str:
    """Return the user of this session; ``operator`` where nobody is named, as in a container."""
    return os.environ.get("USER", "operator")


ACTOR = click.option(
    "--actor", default=session_user, help="Who issues it.  [default: the session's user]"
)
