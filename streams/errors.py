"""The two roots of every error this package raises on purpose."""

from __future__ import annotations


class Recoverable(Exception):
    """Something outside is not there right now; the same call may succeed later.

    The message names the broker, registry or store at fault and what is waited for.
    """


class Fatal(Exception):
    """Nothing will change until a person changes a setting, a file or a topic.

    The message names the setting, topic, instrument or file at fault and what to do. The command
    line prints it as one sentence and exits with code 2; it never prints a traceback for it.
    """
