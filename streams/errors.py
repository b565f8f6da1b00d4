"""The roots of every error this package raises on purpose."""

from __future__ import annotations

from typing import ClassVar, Final

CARRY_OVER: Final = (
    "run the version that wrote it, or carry the deployment over to a new prefix with this one "
    "(manifold migrate --to-prefix P) and start the worker there, where it derives all of it again"
)
"""What to do about state and records of another version of the engine."""


class Recoverable(Exception):
    """Something outside is not there right now; the same call may succeed later.

    The message names the broker, registry or store at fault and what is waited for. The command
    line prints it as one sentence and exits with ``exit_code``.
    """

    exit_code: ClassVar[int] = 75


class Fatal(Exception):
    """Nothing will change until a person changes a setting, a file or a topic.

    The message names the setting, topic, instrument or file at fault and what to do. The command
    line prints it as one sentence and exits with ``exit_code``; it never prints a traceback for it.
    """

    exit_code: ClassVar[int] = 2


class MustRestart(Recoverable):
    """The process goes on when it is started again, as its supervisor does.

    What it was made with has changed in the log: a bar length, the hours of the market.
    """

    exit_code: ClassVar[int] = 70
