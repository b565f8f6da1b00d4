"""What an executor is made of; ``streams.execution.start`` puts it together."""

from __future__ import annotations

from typing import NamedTuple

from streams.codec import Codec
from streams.control import ControlLog
from streams.execution.broker import Broker
from streams.execution.dispatch import Dispatch, KillSwitch
from streams.execution.following import Following
from streams.execution.ledger import Ledger
from streams.execution.metrics import ExecutorMetrics
from streams.execution.runs import Allocation, Runs
from streams.execution.settings import Trading
from streams.settings import Runtime


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
