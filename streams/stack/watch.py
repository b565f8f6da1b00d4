"""Probes a running stack periodically, in a separate thread."""

from __future__ import annotations

import threading
import time
import urllib.request
from collections import deque
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from streams.config.runtime import Runtime
from streams.errors import Fatal, Recoverable
from streams.monitoring.status import Status, collect
from streams.records.codec import Codec

EVERY_S = 1.0
RATE_OVER_S = 5.0
STAGE_SECONDS, STAGE_RECORDS = "manifold_stage_seconds_sum", "manifold_records_in_total"


class StageWork(NamedTuple):
    """Counters of a stage since its worker started."""

    records: float
    seconds: float


class StackProbe(NamedTuple):
    """The stack at the last probe.

    Attributes
    ----------
    status
        The status read from the log; None before the first probe.
    rates
        Topic -> offsets per second.
    settled
        Whether all records are derived and mirrored, at this probe and the one before.
    trouble
        Why the last probe failed, None when it did not.
    """

    status: Status | None = None
    rates: dict[str, float] | None = None
    settled: bool = False
    trouble: str | None = None


class Watch:
    """The thread; ``sight`` is its last result.

    Parameters
    ----------
    runtime, codec
        The deployment.
    """

    def __init__(self, runtime: Runtime, codec: Codec) -> None:
        self._runtime, self._codec = runtime, codec
        self._stopping = threading.Event()
        self._ends: deque[tuple[float, dict[str, int]]] = deque()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self.sight = StackProbe()
        self.first_weights_at: float | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread."""
        self._stopping.set()
        self._thread.join(10.0)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.sight = self._look()
            except (Fatal, Recoverable) as error:
                self.sight = self.sight._replace(settled=False, trouble=str(error))
            self._stopping.wait(EVERY_S)

    def _look(self) -> StackProbe:
        status = collect(self._runtime, self._codec)
        now = time.monotonic()
        if status.weights is not None and self.first_weights_at is None:
            self.first_weights_at = now
        self._ends.append((now, status.ends))
        while now - self._ends[0][0] > RATE_OVER_S:
            self._ends.popleft()
        since, origin = self._ends[0]
        passed = now - since
        rates = {t: (end - origin[t]) / passed if passed else 0.0 for t, end in status.ends.items()}
        before = self.sight.status
        # a stage may commit between the query of its source and that of its position
        still = before is not None and before.ends == status.ends and not any(before.lag.values())
        settled = still and status.weights is not None and not any(status.lag.values())
        return StackProbe(status, rates, settled)


def stage_work(metrics_port: int) -> dict[str, StageWork]:
    """Return the counters of the worker's stages, from its ``/metrics``.

    Raises
    ------
    Recoverable
        The worker does not answer.
    """
    try:
        url = f"http://127.0.0.1:{metrics_port}/metrics"
        with urllib.request.urlopen(url, timeout=5) as answer:
            text = answer.read().decode()
    except OSError as error:
        raise Recoverable(f"the worker's /metrics do not answer: {error}") from error
    found: dict[str, dict[str, float]] = {STAGE_SECONDS: {}, STAGE_RECORDS: {}}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in found:
                found[sample.name][sample.labels["stage"]] = sample.value
    return {
        stage: StageWork(records, found[STAGE_SECONDS].get(stage, 0.0))
        for stage, records in found[STAGE_RECORDS].items()
    }
