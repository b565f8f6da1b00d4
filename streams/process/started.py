"""When this process was started, under which name, and how many files it has open: its metrics."""

from __future__ import annotations

import os
import resource
import socket
import time
from collections.abc import Iterator
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

START_TIME: Final = "manifold_process_start_time_seconds"


class ThisProcess:
    """The name and the start of this process.

    Attributes
    ----------
    name
        Its program and instance, such as ``worker worker-1``. The same after a restart.
    started_ms
        When it was started, epoch ms UTC.
    """

    def __init__(self) -> None:
        self.name = ""
        self.started_ms = time.time_ns() // 1_000_000

    def call(self, program: str, instance: str = "") -> None:
        """Set the name.

        Parameters
        ----------
        program
            The command, such as ``worker``.
        instance
            Distinguishes processes of one program; the host name when empty.
        """
        self.name = f"{program} {instance or socket.gethostname()}"


THIS_PROCESS: Final = ThisProcess()


class ProcessCollector(Collector):
    """Exports the start time of this process, its open files and their limit."""

    def collect(self) -> Iterator[Metric]:
        """Yield the current values."""
        started = GaugeMetricFamily(
            START_TIME,
            "When this process was started, epoch seconds; it changes with every restart",
            labels=["process"],
        )
        started.add_metric([THIS_PROCESS.name], THIS_PROCESS.started_ms / 1000)
        yield started
        try:
            files = float(len(os.listdir("/proc/self/fd")))
        except OSError:
            files = float("nan")  # none is left to read the list
        yield GaugeMetricFamily(
            "manifold_process_open_files", "File descriptors in use by this process", value=files
        )
        yield GaugeMetricFamily(
            "manifold_process_open_files_limit",
            "File descriptors that this process may use (RLIMIT_NOFILE)",
            value=float(resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
        )
