"""The parts of an executor; ``streams.trading.start`` creates them."""

from __future__ import annotations

from typing import NamedTuple

from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.config.trading import Trading
from streams.kafka.follower import LogFollower
from streams.records.codec import Codec
from streams.records.config_following import FollowedConfig
from streams.records.control import ControlLog
from streams.trading.brokers.broker import Broker
from streams.trading.decision_checks import DecisionChecks
from streams.trading.dispatch import Dispatch, KillSwitchSource
from streams.trading.ledger import Ledger
from streams.trading.metrics import ExecutorMetrics
from streams.trading.runs import Runs, WeightsHistory


class MadeWith(NamedTuple):
    """Settings of the configuration that are fixed when an executor is created."""

    candle_gran: str
    backtest_cost_bps: float

    @classmethod
    def of(cls, config: Config) -> MadeWith:
        """Return these settings from a configuration."""
        return cls(config.candle_gran, config.backtest_cost_bps)

    def changed(self, config: Config) -> str:
        """Return the changed settings as text; empty when none changed."""
        now = zip(self._fields, MadeWith.of(config), self, strict=True)
        return ", ".join(f"{n.upper()} is {new} and was {old}" for n, new, old in now if new != old)


class ExecutorContext(NamedTuple):
    """The parts of one executor."""

    runtime: Runtime
    codec: Codec
    trading: Trading
    control: ControlLog
    broker: Broker
    ledger: Ledger
    runs: Runs
    allocation: WeightsHistory
    following: LogFollower
    dispatch: Dispatch
    kill: KillSwitchSource
    metrics: ExecutorMetrics
    followed: FollowedConfig
    checks: DecisionChecks


class Progress(NamedTuple):
    """Progress in the log: instrument -> ``as_of`` of its decision; newest epoch."""

    decided_ms: dict[str, int]
    epoch_ms: int
