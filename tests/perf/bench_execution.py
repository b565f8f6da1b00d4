"""The executor on a real Kafka, a real Valkey and the test broker: how soon orders go, and stop."""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path

from streams.config.kill_switch import KillSwitchSettings
from streams.stack.kafka import KafkaBroker
from streams.stack.valkey import ValkeyServer
from streams.trading.kill_switch.commands import engage
from tests.perf.rows import Row, at_rank, row
from tests.support.deployment import Deployment
from tests.support.trading import (
    PAIRS,
    ExecutorProcess,
    ScriptedLog,
    oanda_floor,
    script_of,
    switch_off,
)
from tests.support.v20 import V20Process

ENTRIES = 40
KILL_TRIES = 8
BURST_S = 0.4
# faster than that the client keeps to OANDA's limit of requests, and that would be measured
PAUSE_S = 0.4


def rows() -> list[Row]:
    """Measure and return the rows of the table."""
    with tempfile.TemporaryDirectory(prefix="manifold-bench-") as place:
        directory = Path(place)
        kafka, valkey = KafkaBroker(directory / "kafka"), ValkeyServer(directory / "valkey")
        kafka.start()
        valkey.start()
        try:
            with V20Process(hours="always") as broker:
                floor = oanda_floor(
                    directory, kafka.bootstrap, "bench.", valkey.url, broker,
                    RECONCILE_INTERVAL_SEC="30", RISK_MAX_TOTAL_POSITIONS="100",
                )  # fmt: skip
                try:
                    return _measured(floor, broker)
                finally:
                    floor.stop()
        finally:
            valkey.stop()
            kafka.stop()


def _measured(floor: Deployment, broker: V20Process) -> list[Row]:
    switch_off(floor)
    script, executor = script_of(floor), ExecutorProcess(floor)
    executor.start()
    executor.until_reconciled()
    script.bar({})
    # the first one meets OANDA's limit of two new connections a second, right after the start
    first, *took = [_entry(script, executor, broker) for _ in range(1 + ENTRIES)]
    after = [_kill(floor, script, executor, broker) for _ in range(KILL_TRIES)]
    name = "gate decision and weights in the log to order at the broker"
    measure = f"order received - records acknowledged, {{}} of {ENTRIES} entries after the first"
    found = [
        row(f"execution.{key}", f"{name}: {key}", seconds * 1000, "ms", measure.format(what))
        for key, what, seconds in (
            ("p50", "median", at_rank(took, 0.5)),
            ("p95", "95th percentile", at_rank(took, 0.95)),
            ("worst", "slowest", max(took)),
        )
    ]
    measure = "order received - records acknowledged, one entry"
    found.append(
        row("execution.first", f"{name}: first after a start", first * 1000, "ms", measure)
    )
    measure = f"order received - call to engage, largest of {KILL_TRIES}; 0: none came after"
    name = "kill switch: call to engage to the last opening order"
    return [*found, row("execution.kill", name, max(after) * 1000, "ms", measure)]


def _entry(script: ScriptedLog, executor: ExecutorProcess, broker: V20Process) -> float:
    """Return the time from the flushed decision to the arrival of its order."""
    time.sleep(PAUSE_S)
    broker.control("POST", "/reset")
    end_ms = script.bar({"EUR_USD": 1})
    written = time.time()
    executor.until(lambda said: said["epoch_ms"] >= end_ms and "EUR_USD" in said["joined"])
    (sent, *_) = _orders(broker)
    end_ms = script.bar({"EUR_USD": 0})
    executor.until(lambda said: said["epoch_ms"] >= end_ms and not said["joined"])
    return sent - written


def _orders(broker: V20Process) -> list[float]:
    """Return when the broker got orders that may open, in seconds of this machine's clock."""
    found = [r for r in broker.requests("/orders") if r["method"] == "POST"]
    return sorted(float(r["time"]) for r in found if "REDUCE_ONLY" not in str(r["body"]))


def _kill(
    floor: Deployment, script: ScriptedLog, executor: ExecutorProcess, broker: V20Process
) -> float:
    """Return how long after the call that engages the last opening order came; 0.0 for none."""
    settings = KillSwitchSettings.from_env(floor.environment)
    broker.control("POST", "/reset")
    engaged: list[float] = []

    def engage_soon() -> None:
        time.sleep(BURST_S / 2)
        engaged.append(time.time())
        now_ms = int(engaged[0] * 1000)
        engage(floor.runtime, floor.codec, "bench", "bench", now_ms, settings)

    thread = threading.Thread(target=engage_soon)
    thread.start()
    end = time.monotonic() + BURST_S
    while time.monotonic() < end:  # an entry in every bar, for as long as it takes
        script.bar(dict.fromkeys(PAIRS, 1))
        script.bar(dict.fromkeys(PAIRS, 0))
        time.sleep(0.01)
    thread.join()
    end_ms = script.bar(dict.fromkeys(PAIRS, 0))
    executor.until(
        lambda said: said["epoch_ms"] >= end_ms and not said["joined"] and not said["unresolved"]
    )
    done = floor.run("kill", "off", "--reason", "bench")
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    sent = _orders(broker)
    return max(0.0, max(sent, default=0.0) - engaged[0])


if __name__ == "__main__":
    for measured in rows():
        print(measured)
