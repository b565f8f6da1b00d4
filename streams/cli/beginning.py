"""What every long-running command does first."""

from __future__ import annotations

from collections.abc import Callable

from streams.config.runtime import Runtime
from streams.mirror.process_starts import record_start
from streams.process.open_files import watch_open_files


def begin_process(
    runtime: Runtime,
    program: str,
    instance: str = "",
    *,
    without_files: Callable[[str], object] | None = None,
) -> None:
    """Record the start of this process in Valkey, and watch its open files.

    Parameters
    ----------
    runtime
        The deployment.
    program, instance
        As in ``ThisProcess.call``.
    without_files
        As ``leave`` of ``watch_open_files``.
    """
    record_start(runtime, program, instance)
    watch_open_files(without_files)
