"""An error for want of a file descriptor is said as such, whoever raised it."""

from __future__ import annotations

import errno
import logging
import os
import resource
from collections.abc import Iterator

import pytest

from streams.errors import Recoverable
from streams.process.open_files import log_without_tracebacks, out_of_files


@pytest.fixture
def no_files() -> Iterator[int]:
    """This process may open no more files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield lowest
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_real_one_names_the_limit_and_what_to_do(no_files: int) -> None:
    with pytest.raises(OSError) as caught:
        os.open(os.devnull, os.O_RDONLY)
    said = out_of_files(caught.value)
    assert said is not None and f"RLIMIT_NOFILE={no_files}" in said
    assert "ulimit -n" in said and "LimitNOFILE" in said


def test_it_is_found_behind_other_errors() -> None:
    exhausted = OSError(errno.EMFILE, "Too many open files")
    outer = Recoverable("no broker answers")
    outer.__cause__ = exhausted
    for error in (outer, ExceptionGroup("several", [ValueError("x"), outer])):
        assert "RLIMIT_NOFILE" in (out_of_files(error) or "")
    assert "fs.file-max" in (out_of_files(OSError(errno.ENFILE, "Too many ...")) or "")
    assert "RLIMIT_NOFILE" in (out_of_files(RuntimeError("socket: Too many open files")) or "")
    assert out_of_files(OSError(errno.ECONNREFUSED, "refused")) is None
    circular = ValueError("x")
    circular.__context__ = outer
    outer.__context__ = circular
    assert out_of_files(circular) is not None


def test_a_log_has_no_traceback_of_it_and_those_of_other_errors(
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = logging.getLogRecordFactory()
    log_without_tracebacks()
    try:
        for error in (OSError(errno.EMFILE, "Too many open files"), ValueError("x")):
            try:
                raise error
            except (OSError, ValueError):
                logging.getLogger("library").exception("it failed\n%s", "with details")
    finally:
        logging.setLogRecordFactory(before)
    one, other = caplog.records
    assert one.exc_info is None and "it failed: this process may open no" in one.getMessage()
    assert other.exc_info is not None and other.getMessage() == "it failed\nwith details"
