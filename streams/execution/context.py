"""What an executor is made of; ``streams.execution.start`` puts it together."""

from __future__ import annotations

from typing import NamedTuple

from streams.codec import Codec
from streams.config_following import FollowedConfig
from streams.control import ControlLog
from streams.execution.broker import Broker
from streams.execution.dispatch import Dispatch, KillSwitch
from streams.execution.following import Following
from streams.execution.ledger import Ledger
from streams.execution.metrics import ExecutorMetrics
from streams.execution.runs import Allocation, Runs
from streams.execution.settings import Trading
from streams.settings import Config, Runtime


class MadeWith(NamedTuple):
    """Settings of the configuration that an executor is made with."""

    candle_gran: str
    backtest_cost_bps: float

    @classmethod
    def of(cls, config: Config) -> MadeWith:
        """Return those of a configuration."""
        return cls(config.candle_gran, config.backtest_cost_bps)

    def changed(self, config: Config) -> str:
        """Return which of them are others now, in words; empty when none is."""
        now = zip(self._fields, MadeWith.of(config), self, strict=True)
        return ", ".join(f"{n.upper()} is {new} and was {old}" for n, new, old in now if new != old)


class Parts(NamedTuple):
    """The parts of one executor."""

    runtime: Runtime
    codec: Codec
    trading: Trading
    control: ControlLog
    broker: Broker
    ledger: Ledger
    runs: Runs
    allocation: Allocation
    following: Following
    dispatch: Dispatch
    kill: KillSwitch
    metrics: ExecutorMetrics
    followed: FollowedConfig
