"""A deployment that trades: an executor as a process, the kill switch kept, a market bar by bar."""

from __future__ import annotations

import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

from streams.control import UniverseChange
from streams.feed.plan import FeedPlan
from streams.feed.synthetic import BarArrivals
from streams.feed.writer import FactWriter
from streams.settings import Config
from streams.stack.supervise import Supervised
from tests.deployment import Deployment

PATIENCE_S = 60.0


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def await_that(ready: Callable[[], Any], otherwise: Callable[[], str]) -> Any:
    """Wait until ``ready`` returns something true and return it."""
    end = time.monotonic() + PATIENCE_S
    while True:
        found = ready()
        if found:
            return found
        assert time.monotonic() < end, otherwise()
        time.sleep(0.005)


def switch_off(deployment: Deployment) -> None:
    """Run a keeper of the kill switch and clear it."""
    keeper = deployment.start("keeper", "kill", "keep")
    done = deployment.run("kill", "off", "--reason", "test")
    assert done.returncode == 0, done.stdout + done.stderr + keeper.child.last_words(8)


class ExecutorProcess:
    """``manifold trade`` as a process, and its ``/status``."""

    def __init__(self, deployment: Deployment, name: str = "trade", **settings: str) -> None:
        self._deployment, self._name, self._settings = deployment, name, settings
        self.port = free_port()
        self.process: Supervised | None = None

    def start(self) -> None:
        """Start it; it is restarted by nobody."""
        self.process = self._deployment.start(
            self._name, "trade", "--status-port", str(self.port), once=True, **self._settings
        )

    def status(self) -> dict[str, Any] | None:
        """Return its status; None when it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/status", timeout=5) as said:
                found: dict[str, Any] = json.load(said)
                return found
        except (urllib.error.URLError, ConnectionError, TimeoutError, json.JSONDecodeError):
            return None

    def until(self, ready: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """Wait until the status is as wanted; return it."""
        found: dict[str, Any] = await_that(
            lambda: (said := self.status()) is not None and ready(said) and said, self.words
        )
        return found

    def until_reconciled(self) -> dict[str, Any]:
        """Wait until it has reconciled."""
        return self.until(lambda said: said["reconciled"])

    def words(self) -> str:
        """Return what it said last."""
        said = "not started" if self.process is None else self.process.child.last_words(12)
        return f"{self.status()}\n{said}"


class BarByBar:
    """Writes a market into the log, one bar at a time, as a feed does."""

    def __init__(self, deployment: Deployment, market: Iterator[BarArrivals], from_ms: int) -> None:
        names = sorted(deployment.runtime.hotband_pairs)
        config = Config.from_env(deployment.environment)
        now_ms = int(time.time() * 1000)
        self._writer = FactWriter(deployment.runtime, deployment.codec, config, now_ms)
        self._plan = FeedPlan(names, config.candle_gran, self._writer.partitions)
        self._market = market
        self._writer.declare(UniverseChange("replace", tuple(names), from_ms, None), "test")
        self._writer.write(self._plan.opening(from_ms, self._writer.control.end))
        self._writer.flush()

    def next(self) -> BarArrivals:
        """Write the next bar and return it."""
        bar = next(self._market)
        facts = self._plan.bar(bar.as_of_ms, bar.candles, self._writer.control.end)
        self._writer.write(facts)
        self._writer.flush()
        return bar
