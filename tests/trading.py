"""A deployment that trades: an executor as a process, the kill switch kept, a market bar by bar."""

from __future__ import annotations

import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from confluent_kafka import Producer

from streams.connection import producer_config
from streams.control import UniverseChange
from streams.control_log import read_control, seed_config
from streams.events import PORTFOLIO_KEY, Event, GateDecision, GateMetrics, WeightEntry, Weights
from streams.feed.plan import FeedPlan
from streams.feed.synthetic import BarArrivals
from streams.feed.writer import FactWriter
from streams.kill_switch.reader import KillSwitchReader
from streams.kill_switch.settings import KillSwitchSettings
from streams.settings import Config
from streams.stack.supervise import Supervised
from streams.topics import GATES, WEIGHTS
from tests.deployment import Deployment

PATIENCE_S = 60.0
METRICS = GateMetrics(0.9, 0.9, 0.1, 0.1, 0.1, 9, 0.0, 0.0)


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
    """Run a keeper of the kill switch whose first word is "off"; wait until it is."""
    keeper = deployment.start("keeper", "kill", "keep", KILL_SWITCH="0")
    settings = KillSwitchSettings.from_env(deployment.environment)
    reader = KillSwitchReader(deployment.runtime, deployment.codec, settings)
    try:
        await_that(lambda: not reader.read().engaged, lambda: keeper.child.last_words(8))
    finally:
        reader.close()


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


class ScriptedLog:
    """Writes gate decisions and weights as the stages would, bar by bar, at a pace of one's own.

    Parameters
    ----------
    deployment
        Whose log; its settings become the configuration.
    pairs
        The universe.
    from_ms
        Start of the first bar.
    """

    def __init__(self, deployment: Deployment, pairs: Sequence[str], from_ms: int) -> None:
        runtime, codec = deployment.runtime, deployment.codec
        config = Config.from_env(deployment.environment)
        control = seed_config(
            runtime, codec, config, read_control(runtime, codec), int(time.time() * 1000)
        )
        self._runtime, self._codec, self._config = runtime, codec, config
        self._stamp = (control.state(control.end).config_id, control.end)
        self._pairs, self._bar_ms, self._number = tuple(sorted(pairs)), from_ms, 0
        self._producer = Producer(producer_config(runtime) | {"linger.ms": 0})
        self.positions = dict.fromkeys(self._pairs, 0)

    def bar(self, positions: Mapping[str, int], *, eligible: bool = True, pct: float = 0.05) -> int:
        """Write a bar's decisions and the weights of its epoch; return the bar's end.

        Parameters
        ----------
        positions
            Instrument -> position of its run; those not named keep theirs.
        pct
            Target exposure of every instrument that is in a trade.
        """
        self.positions |= positions
        bar_ms, end_ms = self._bar_ms, self._bar_ms + self._config.granularity_ms
        gran = self._config.candle_gran
        for name in self._pairs:
            position = self.positions[name]
            reasons = () if eligible else ("cooldown",)
            decision = GateDecision(
                name, gran, bar_ms, end_ms, *self._stamp, eligible, reasons, METRICS, False,
                None, 0.1, 0, 0, 0, None, True, False, position, position, None, bar_ms, 0.8,
                "static", "p1",
            )  # fmt: skip
            self._write(GATES, decision, name.encode(), end_ms)
        held = [name for name in self._pairs if self.positions[name]]
        entries = tuple(WeightEntry(name, 0.8, 1.0 / len(held), pct) for name in held)
        weights = Weights(
            gran, bar_ms, end_ms, *self._stamp, end_ms, self._pairs, self._pairs, entries, (),
            "published", None, "", 3,
        )  # fmt: skip
        self._write(WEIGHTS, weights, PORTFOLIO_KEY, end_ms)
        assert self._producer.flush(20) == 0
        self._bar_ms = end_ms
        return end_ms

    def _write(self, topic: str, event: Event, key: bytes, at_ms: int) -> None:
        self._number += 1
        self._producer.produce(
            self._runtime.topic(topic),
            self._codec.encode(topic, event),
            key,
            partition=0,
            timestamp=at_ms,
            headers=[("source", f"sep.manifolds-0-{self._number}".encode())],
        )
