"""A child process whose output is passed on line by line."""

from __future__ import annotations

import errno
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Final

from streams.errors import Fatal
from streams.process.child import Child, die_with_parent

KEPT_LINES: Final = 50
LONGEST_LINE: Final = 16_384
NOWHERE: Final = Path("/dev/null")


class LoggedChild(Child):
    """A process in its own process group that passes every line of its output to a function.

    Parameters
    ----------
    name
        Name used in messages.
    command
        Program and arguments.
    lines
        Called with every line, without line end, in a separate thread.
    env
        Complete environment; the parent's when None.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        lines: Callable[[str], None],
        env: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(name, command, NOWHERE, env=env)
        self._lines = lines
        self._kept: deque[str] = deque(maxlen=KEPT_LINES)
        self._reader: threading.Thread | None = None

    def start(self) -> None:
        """Start the process.

        Raises
        ------
        Fatal
            The program does not exist, or the process limit is reached.
        """
        try:
            made = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=None if self._env is None else dict(self._env),
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        except OSError as error:
            said = "process limit reached" if error.errno == errno.EAGAIN else str(error)
            raise Fatal(f"cannot start {self.name}: {said}") from error
        self._process = made
        assert made.stdout is not None
        self._reader = threading.Thread(
            target=self._read, args=(made.stdout,), name=f"output of {self.name}", daemon=True
        )
        self._reader.start()

    def _read(self, output: IO[bytes]) -> None:
        with output:
            while line := output.readline(LONGEST_LINE):
                text = line.decode("utf-8", "replace").rstrip("\r\n")
                if text.strip():
                    self._kept.append(text)
                    self._lines(text)

    def last_output(self, lines: int = 3) -> str:
        """Return the last lines of the output as one line."""
        if self._reader is not None and not self.running:
            self._reader.join(1.0)
        kept = [line.strip() for line in self._kept]
        return " | ".join(kept[-lines:]) or "(no output)"
