"""Exit immediately; the next start fences, aborts open transactions and resumes exactly."""

from __future__ import annotations

import faulthandler
import os
import sys
from typing import NoReturn

from streams.process.open_files import out_of_files_now

EXIT_UNSAFE = 70


def exit_now(why: str, code: int = EXIT_UNSAFE, *, stacks: bool = False) -> NoReturn:
    """Exit with one line with the reason, and whether file descriptors are used up.

    Nothing is aborted or retried here: after a stall, the abort of a fenced producer would request
    a new epoch, and the broker would abort the transaction of the new owner as well.

    Parameters
    ----------
    code
        Exit code; by default 70, after which a supervisor starts the process again.
    stacks
        Also print the stacks of all threads, to find a call that does not return.
    """
    try:
        _say(why, stacks)
    finally:  # also when nothing can be written, because the disk of the log is full
        os._exit(code)


def _say(why: str, stacks: bool) -> None:
    stream = sys.__stderr__
    if stream is not None:
        if stacks:
            faulthandler.dump_traceback(stream)
        cause = out_of_files_now()
        why += f"; {cause}" if cause and cause not in why else ""
        print(f"manifold worker: leaving: {why}", file=stream, flush=True)
