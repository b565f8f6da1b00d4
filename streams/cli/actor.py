"""The --actor option: who issued the command (recorded in the log)."""

from __future__ import annotations

import os

import click


def session_user() -> str:
    """Return the session's user name; ``operator`` where there is none, as in a container."""
    return os.environ.get("USER", "operator")


ACTOR = click.option(
    "--actor",
    default=session_user,
    help="Name who issues the command; it is recorded in the log.  [default: the session's user]",
)
