"""The stages in the order of the chain, on the schemas and the control log of a deployment."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from streams.codec import Codec
from streams.control import ControlLog
from streams.control_log import loader, read_control
from streams.registry import open_codec
from streams.settings import Runtime
from streams.stages.gates import gates_stage
from streams.stages.processor import LoadControl, LogStage
from streams.stages.signals import signals_stage
from streams.stages.weights import weights_stage


class Chain(NamedTuple):
    """Everything a worker, a replay or a verification needs of the stages."""

    codec: Codec
    control: ControlLog
    stages: tuple[LogStage, ...]


def make_chain(codec: Codec, control: ControlLog, load: LoadControl | None = None) -> Chain:
    """Return the chain; ``load`` reads ``ops.control`` on, None when all of it is there."""
    makers = (signals_stage, gates_stage, weights_stage)
    return Chain(codec, control, tuple(make(codec, control, load) for make in makers))


async def open_chain(runtime: Runtime) -> Chain:
    """Return the chain of a deployment, ``ops.control`` read to its end.

    Raises
    ------
    Fatal
        Schemas that do not fit, or ``ops.control`` missing or of a newer version.
    Recoverable
        Broker or registry cannot be reached.
    """
    codec = await open_codec(runtime)
    control = await asyncio.to_thread(read_control, runtime, codec)
    return make_chain(codec, control, loader(runtime, codec, control))
