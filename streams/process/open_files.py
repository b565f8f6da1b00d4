"""The limit of open files (file descriptors) of this process, and errors of reaching it."""

from __future__ import annotations

import errno
import logging
import os
import resource
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

WANTED_FILES: Final = 65_536
WATCH_EVERY_S: Final = 1.0
_EXHAUSTED: Final = {
    errno.EMFILE: "this process may open no more files (RLIMIT_NOFILE={limit})",
    errno.ENFILE: "this machine has no file descriptors left",
}
_ACTION: Final = {
    errno.EMFILE: "raise the limit (ulimit -n, LimitNOFILE, --ulimit nofile)",
    errno.ENFILE: "end some processes, or raise fs.file-max",
}
_SAID: Final = "Too many open files"
"""The text of a library that gives no error number (librdkafka)."""

log = logging.getLogger("manifold.process")


def allow_files() -> int:
    """Raise this process's limit of open files (RLIMIT_NOFILE); return the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    wanted = WANTED_FILES if hard == unlimited else min(WANTED_FILES, hard)
    if soft != unlimited and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return WANTED_FILES if soft == unlimited else soft


def out_of_files(error: BaseException) -> str | None:
    """Return what is wrong and what to do if no file could be opened; None for another error.

    Parameters
    ----------
    error
        The error; the errors that caused it are examined too.
    """
    for one in _with_causes(error):
        number = one.errno if isinstance(one, OSError) else None
        if number not in _EXHAUSTED and _SAID in str(one):
            number = errno.EMFILE
        if number in _EXHAUSTED:
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            return f"{_EXHAUSTED[number].format(limit=limit)}: {_ACTION[number]}"
    return None


def out_of_files_now() -> str | None:
    """Return what is wrong and what to do if no file can be opened now; None when one can."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return out_of_files(error)
    return None


def watch_open_files(leave: Callable[[str], object] | None = None) -> None:
    """Log when this process can open no more files, and when it can again, from a thread.

    Most libraries try again without a word, or report that a server does not answer. The traceback
    of such an error is not logged from now on.

    Parameters
    ----------
    leave
        Called instead, with the reason, when no more files can be opened: it ends the process.
    """
    log_without_tracebacks()
    threading.Thread(target=_watch, args=(leave,), name="open files", daemon=True).start()


def _watch(leave: Callable[[str], object] | None) -> None:
    before = None
    while True:
        said = out_of_files_now()
        if said is not None and leave is not None:
            leave(said)
        elif said is not None and before is None:
            log.error("%s; new connections fail until descriptors are free", said)
        elif said is None and before is not None:
            log.warning("this process can open files again")
        before = said
        time.sleep(WATCH_EVERY_S)


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    known: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in known:
            continue
        known.add(id(one))
        yield one
        waiting += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions


def log_without_tracebacks() -> None:
    """Replace the traceback of an error for want of a file descriptor by one sentence, in all logs.

    Libraries log such an error at every attempt, with a traceback that does not name the limit.
    """
    made_by = logging.getLogRecordFactory()

    def factory(*arguments: Any, **named: Any) -> logging.LogRecord:
        record = made_by(*arguments, **named)
        error = record.exc_info[1] if record.exc_info else None
        said = out_of_files(error) if error is not None else None
        if said is not None:
            record.msg, record.args = f"{record.getMessage().splitlines()[0]}: {said}", ()
            record.exc_info = None
        return record

    logging.setLogRecordFactory(factory)
