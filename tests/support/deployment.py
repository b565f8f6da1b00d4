"""A deployment of real processes: the commands of the product, on a broker and Valkey of a test."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

from streams.config.runtime import Runtime
from streams.kafka.committed import committed_offsets
from streams.kafka.lag import LagProbe
from streams.kafka.reader import LogReader
from streams.kafka.topics_admin import create_topics
from streams.mirror.keys import (
    KEYS_OF_OTHERS,
    KEYS_OF_PROCESSES,
    KEYS_OF_THE_SERVICE,
    POSITIONS,
)
from streams.monitoring.status import Status, collect
from streams.process.child import Child
from streams.process.supervise import Supervised
from streams.records.codec import DecodeError, locked_codec
from streams.records.events import Candle, GateDecision, Manifold, Signal, Weights
from streams.records.topics import (
    CANDLES,
    GATES,
    MANIFOLDS,
    MIRRORED,
    SIGNALS,
    SUMMARIES,
    TRADES,
    WEIGHTS,
)
from tests.support.environment import kept_environment
from tests.support.waiting import PATIENCE_S

WARM_UP_CANDLES = 129

READY = "[^Worker]: Ready"
"""Faust's line of a worker that is ready."""

LIVELY = {
    "AUTO_MIN_COHERENCE": "0.3",
    "AUTO_MAX_ENTROPY": "1",
    "SESSION_PATTERN_MIN_OCCURRENCES": "1",
    "AUTO_DIR_THRESHOLD_BPS": "0.5",
    "PM_DEFAULT_HOLD_SECONDS": "300",
    "EVAL_INTERVAL_SEC": "300",
    "EVAL_MIN_TRADES": "1",
    "EVAL_CALMAR_MIN": "-10",
    "EVAL_PNL_MIN": "-0.05",
}
"""Settings under which a synthetic market brings trades, latches that open, and weights."""


class PatientChild(Child):
    """A child that has as long to end as a machine under load needs."""

    def stop(self, seconds: float = PATIENCE_S) -> int | None:
        """End the process; see ``Child.stop``."""
        return super().stop(seconds)


class Deployment:
    """Settings, processes and checks of one deployment.

    Parameters
    ----------
    directory
        Where the processes' output goes.
    settings
        Environment names; ``KAFKA_BOOTSTRAP_SERVERS`` and ``TOPIC_PREFIX`` at least.
    """

    def __init__(self, directory: Path, **settings: str) -> None:
        self.directory = directory
        kept = kept_environment()
        self.environment = kept | {"METRICS_PORT": "0", "SESSION_TIMEOUT_SEC": "3"} | settings
        self.runtime = Runtime.from_env(self.environment)
        self.codec = locked_codec(self.runtime.topic_prefix)
        self.processes: dict[str, Supervised] = {}
        create_topics(self.runtime)

    def run(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the product to its end."""
        return subprocess.run(
            [sys.executable, "-m", "streams", *arguments],
            env=self.environment | settings,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )

    def start(self, name: str, *arguments: str, once: bool = False, **settings: str) -> Supervised:
        """Start a command that goes on, under the supervisor of the local stack."""
        child = PatientChild(
            name,
            [sys.executable, "-m", "streams", *arguments],
            self.directory / f"{name}.log",
            env=self.environment | settings,
        )
        self.processes[name] = Supervised(child, once=once)
        self.processes[name].start()
        return self.processes[name]

    def start_worker(self, name: str = "worker-1", **settings: str) -> Supervised:
        """Start a worker."""
        return self.start(name, "worker", "--worker-id", name, **settings)

    def keep_running(
        self, seconds: float, until: Callable[[], bool] = lambda: False, every_s: float = 0.05
    ) -> bool:
        """Supervise for a while; return whether ``until`` became true."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for process in self.processes.values():
                process.poll()
            if until():
                return True
            time.sleep(every_s)
        return False

    def caught_up(self) -> bool:
        """Return whether the market has ended and everything is derived and mirrored."""
        market = self.processes.get("market")
        if market is not None and not market.done:
            return False
        lag, candles = self._lag()
        if not candles or any(n for k, n in lag.items() if k != "mirror" or k in self.processes):
            return False
        return "mirror" not in self.processes or self._mirror_agrees()

    def _lag(self) -> tuple[dict[str, int], int]:
        """Return the lags, and the number of offsets of ``md.candles``; cheaper than ``status``."""
        with LogReader(self.runtime) as reader:
            bounds = {t: reader.all_bounds(t, reader.partitions(t)) for t in MIRRORED}
            candles = sum(end - start for start, end in bounds[CANDLES].values())
            return LagProbe(self.runtime).look(reader, bounds)[0], candles

    def _mirror_agrees(self) -> bool:
        # what the mirror told Kafka may be ahead of a Valkey that has lost its last writes
        authority = self.environment.get("VALKEY_TLS_CA")
        options = {"ssl_ca_certs": authority} if authority else {}
        try:
            with redis.Redis.from_url(self.environment["VALKEY_URL"], **options) as client:
                found = client.hgetall(POSITIONS)
        except redis.RedisError:
            return False
        stored = {field.decode().partition("/")[2]: int(at) for field, at in found.items()}
        with LogReader(self.runtime) as reader:
            partitions = {topic: reader.partitions(topic) for topic in MIRRORED}
        committed = {
            f"{self.runtime.topic(topic)}/{partition}": at
            for topic, numbers in partitions.items()
            for partition, at in committed_offsets(
                self.runtime, topic, numbers, self.runtime.mirror_group
            ).items()
            if at > 0
        }
        return stored == committed

    def settle(self, seconds: float = PATIENCE_S) -> None:
        """Wait until nothing is left to do; twice, because stages follow each other."""
        for _ in range(2):
            assert self.keep_running(seconds, self.caught_up, 0.5), self.last_output()

    def status(self) -> Status:
        """Return what the log says."""
        return collect(self.runtime, self.codec)

    def last_output(self) -> str:
        """Return the end of every process's output and the lag."""
        said = [
            f"{name} ({process.state}):\n{process.child.log.read_text('utf-8', 'replace')[-8_000:]}"
            for name, process in self.processes.items()
        ]
        return "\n".join([*said, f"lag {self.status().lag}"])

    def stop(self) -> None:
        """Stop every process."""
        for process in self.processes.values():
            process.stop()

    def events(self, topic: str) -> list[Any]:
        """Return the committed events of a topic, partition by partition; bad frames left out."""
        events: list[Any] = []
        with LogReader(self.runtime) as reader:
            for partition in reader.partitions(topic):
                for batch in reader.read(topic, partition):
                    for found in batch:
                        with contextlib.suppress(DecodeError):
                            events.append(self.codec.decode(topic, found.record.value))
        return events

    def require_exact(self) -> None:
        """Assert that nothing is lost and nothing is there twice, counted from the log alone."""
        wanted = _accepted(self.events(CANDLES))
        for topic, kind in ((SIGNALS, Signal), (MANIFOLDS, Manifold)):
            found = Counter(
                (e.instrument, e.bar_ms) for e in self.events(topic) if isinstance(e, kind)
            )
            _require_same(found, wanted, topic)
        decided = Counter(
            (e.instrument, e.as_of_ms) for e in self.events(GATES) if isinstance(e, GateDecision)
        )
        assert max(decided.values()) == 1, "a bar was decided twice"
        bars = sorted({as_of for _, as_of in decided})
        for instrument in {name for name, _ in decided}:
            missing = [b for b in bars if (instrument, b) not in decided]
            assert not missing, f"{instrument}: no decision at {missing[:5]}"
        trades = Counter(trade.trade_id for trade in self.events(TRADES))
        summaries = Counter((e.instrument, e.as_of_ms) for e in self.events(SUMMARIES))
        for what, counted in (("trade", trades), ("summary", summaries)):
            assert all(n == 1 for n in counted.values()), f"a {what} is there twice"
        # the universe holds from the opening watermark on: epochs are those after it
        del bars[0]
        epochs = [e.epoch_ms for e in self.events(WEIGHTS) if isinstance(e, Weights)]
        twice = [epoch for epoch, count in Counter(epochs).items() if count > 1]
        lost, more = sorted(set(bars) - set(epochs)), sorted(set(epochs) - set(bars))
        assert not twice and not lost and not more, f"epochs: {twice=} {lost=} {more=}"
        assert epochs == bars, "epochs are not closed in order"

    def require_verified(self) -> None:
        """Assert that ``manifold verify`` derives the same log again."""
        done = self.run("verify")
        assert done.returncode == 0, done.stdout + done.stderr

    def require_mirror_equals_rebuild(self, other_url: str) -> None:
        """Assert that Valkey holds what a rebuild into an empty one gives, TTLs aside."""
        done = self.run("mirror", "--rebuild", VALKEY_URL=other_url)
        assert done.returncode == 0, done.stderr
        live, rebuilt = dump(self.environment["VALKEY_URL"]), dump(other_url)
        assert live.keys() == rebuilt.keys()
        differing = [key for key in live if live[key] != rebuilt[key]]
        shown = [(k, str(live[k])[:300], str(rebuilt[k])[:300]) for k in differing[:2]]
        assert not differing, shown


def _accepted(events: list[Any]) -> set[tuple[str, int]]:
    """Return (instrument, bar) of every candle that a signal is due for."""
    last: dict[str, int] = defaultdict(int)
    seen: Counter[str] = Counter()
    due = set()
    for event in events:
        if isinstance(event, Candle) and event.bar_ms > last[event.instrument]:
            last[event.instrument] = event.bar_ms
            seen[event.instrument] += 1
            if seen[event.instrument] >= WARM_UP_CANDLES:
                due.add((event.instrument, event.bar_ms))
    return due


def _require_same(found: Counter[Any], wanted: set[Any], topic: str) -> None:
    lost, more = wanted - found.keys(), found.keys() - wanted
    twice = [key for key, count in found.items() if count > 1]
    assert not lost, f"{topic}: {len(lost)} of {len(wanted)} lost, such as {sorted(lost)[:3]}"
    assert not twice, f"{topic}: {len(twice)} of {len(wanted)} twice, such as {sorted(twice)[:3]}"
    assert not more, f"{topic}: {len(more)} that nothing asked for, such as {sorted(more)[:3]}"


def dump(url: str, least_ttl_ms: int = 20_000) -> dict[bytes, Any]:
    """Return every key of the mirror with its value; keys about to expire are left out."""
    client = redis.Redis.from_url(url)
    found: dict[bytes, Any] = {}
    kinds = (*KEYS_OF_OTHERS, *KEYS_OF_PROCESSES, *KEYS_OF_THE_SERVICE)
    others = {kind.pattern.encode() for kind in kinds}
    for key in sorted(set(client.scan_iter(count=5_000)) - others):
        if 0 <= client.pttl(key) < least_ttl_ms:
            continue
        kind = client.type(key)
        if kind == b"string":
            found[key] = client.get(key)
        elif kind == b"hash":
            found[key] = client.hgetall(key)
        else:
            found[key] = client.zrange(key, 0, -1, withscores=True)
    client.close()
    return found


def random_instants(seed: int, count: int, least_s: float, most_s: float) -> list[float]:
    """Return seeded waiting times."""
    chance = random.Random(seed)
    return [chance.uniform(least_s, most_s) for _ in range(count)]
