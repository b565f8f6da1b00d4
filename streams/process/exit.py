"""Leaving the process at once. The next start fences, aborts what is open and goes on exactly."""

from __future__ import annotations

import faulthandler
import os
import sys
from typing import NoReturn

EXIT_UNSAFE = 70


def leave(why: str, *, stacks: bool = False) -> NoReturn:
    """End the process with code 70 and one line that says why.

    Nothing is aborted or retried here: after a stall, the abort of a producer that has been fenced
    asks for a new epoch, and the broker then aborts the transaction of the new owner as well.

    Parameters
    ----------
    stacks
        Print the stacks of all threads too, for a call that never came back.
    """
    stream = sys.__stderr__
    if stream is not None:
        if stacks:
            faulthandler.dump_traceback(stream)
        print(f"manifold worker: leaving: {why}", file=stream, flush=True)
    os._exit(EXIT_UNSAFE)
