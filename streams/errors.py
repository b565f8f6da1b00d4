"""Base classes of the errors of this package."""

from __future__ import annotations

from typing import ClassVar, Final

CARRY_OVER: Final = (
    "run the version that wrote it, or migrate the deployment to a new prefix with this one "
    "(manifold migrate --to-prefix P) and start the worker there, which derives everything again"
)
"""What to do about state and records of another engine version."""


class Recoverable(Exception):
    """An external system is not available now; the same call may succeed later.

    The message names the broker, registry or store and what the program waits for. The command line
    prints it as one sentence and exits with ``exit_code``.
    """

    exit_code: ClassVar[int] = 75


class Fatal(Exception):
    """The call fails until a person changes a setting, a file or a topic.

    The message names the setting, topic, instrument or file and what to do. The command line prints
    it as one sentence, without a traceback, and exits with ``exit_code``.
    """

    exit_code: ClassVar[int] = 2


class MustRestart(Recoverable):
    """The process must be restarted, which its supervisor does.

    Settings it was built with have changed in the log: the bar length or the market hours.
    """

    exit_code: ClassVar[int] = 70
