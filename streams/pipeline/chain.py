"""The stages in chain order, with the schemas and the control log of a deployment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from streams.config.runtime import Runtime
from streams.kafka.control_topic import loader, read_control
from streams.kafka.registry import open_codec
from streams.pipeline.gates import LoadHistory, gates_stage
from streams.pipeline.history import history_reader
from streams.pipeline.processor import LoadControl, LogStage
from streams.pipeline.signals import signals_stage
from streams.pipeline.weights import weights_stage
from streams.records.codec import Codec
from streams.records.control import ControlLog


class Chain(NamedTuple):
    """The stages with their codec and control log, for a worker, a replay or a verification."""

    codec: Codec
    control: ControlLog
    stages: tuple[LogStage, ...]


def make_chain(
    codec: Codec,
    control: ControlLog,
    load: LoadControl | None = None,
    history: LoadHistory | None = None,
) -> Chain:
    """Return the chain.

    Parameters
    ----------
    load
        Reads ``ops.control`` further; None when it was read completely.
    history
        Reads manifolds for runs that restart; None when no run can restart.
    """
    stages = (
        signals_stage(codec, control, load),
        gates_stage(codec, control, load, history),
        weights_stage(codec, control, load),
    )
    return Chain(codec, control, stages)


async def open_chain(
    runtime: Runtime, looked: Callable[[ControlLog], object] = lambda log: None
) -> Chain:
    """Return the chain of a deployment, ``ops.control`` read to its end.

    Parameters
    ----------
    looked
        Called with ``ops.control`` whenever a stage has read it further.

    Raises
    ------
    Fatal
        The schemas do not match, or ``ops.control`` is missing or of a newer version.
    Recoverable
        The broker or the registry cannot be reached.
    """
    codec = await open_codec(runtime)
    control = await asyncio.to_thread(read_control, runtime, codec)
    load, history = loader(runtime, codec, control, looked), history_reader(runtime, codec)
    return make_chain(codec, control, load, history)
