"""The Kafka release of a broker, from its feature levels, and known defects of releases.

Brokers do not report their version. Since 3.3 they report the supported range of
``metadata.version``, whose highest level identifies the release.
"""

from __future__ import annotations

import asyncio
from io import BytesIO
from typing import Any, ClassVar, Final

from aiokafka.protocol.api import Request, RequestStruct, Response, ResponseHeader_v0
from aiokafka.protocol.types import (
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from streams import __version__

METADATA: Final = "metadata.version"
RELEASES: Final = (
    *((31, "4.4"), (30, "4.3"), (28, "4.2"), (26, "4.1"), (22, "4.0"), (21, "3.9"), (20, "3.8")),
    *((15, "3.7"), (12, "3.6"), (9, "3.5"), (8, "3.4"), (7, "3.3")),
)
"""(lowest level, release); Kafka's ``MetadataVersion``."""
NEWEST_LEVEL: Final = 33
LOSING: Final = ("4.3", "4.4")
LOSS: Final = (
    "skips the commit markers of a partition without a leader: a single node "
    "restarted after a kill can have a completed transaction with missing records; use "
    "Kafka 4.2.2, or run manifold verify after every crash of the broker"
)
SUPPORTED_FEATURES: Final = 0
_SUPPORTED: Final = CompactArray(
    ("name", CompactString("utf-8")), ("min", Int16), ("max", Int16), ("tags", TaggedFields)
)


class _Answer(Response):
    API_KEY = 18
    API_VERSION = 3
    SCHEMA = Schema(
        ("error_code", Int16),
        (
            "api_versions",
            CompactArray(("key", Int16), ("min", Int16), ("max", Int16), ("tags", TaggedFields)),
        ),
        ("throttle_time_ms", Int32),
        ("tags", TaggedFields),
    )


class _Asked(RequestStruct):
    FLEXIBLE_VERSION = True
    API_KEY = 18
    API_VERSION = 3
    RESPONSE_TYPE = _Answer
    SCHEMA = Schema(
        ("name", CompactString("utf-8")),
        ("version", CompactString("utf-8")),
        ("tags", TaggedFields),
    )

    def parse_response_header(self, read_buffer: BytesIO | bytes) -> ResponseHeader_v0:
        # always the old header, so that the error of a broker without this version can be parsed
        return ResponseHeader_v0.decode(read_buffer)


class _AskFeatures(Request[_Asked]):
    API_KEY: ClassVar[int] = 18

    def build(self, request_struct_class: type[_Asked]) -> _Asked:
        return request_struct_class("manifold-streams", __version__, {})


async def metadata_levels(client: Any, answer_sec: float) -> dict[int, int | None]:
    """Return node -> highest level of ``metadata.version`` that it supports.

    None for a broker that reports none: an older one, or not Apache Kafka.

    Parameters
    ----------
    client
        A bootstrapped client.
    answer_sec
        Time limit per node, seconds.

    Raises
    ------
    aiokafka.errors.KafkaError
        A node does not answer.
    """
    nodes = sorted(broker.nodeId for broker in client.cluster.brokers())
    levels = await asyncio.gather(*(_level(client, node, answer_sec) for node in nodes))
    return dict(zip(nodes, levels, strict=True))


async def _level(client: Any, node: int, answer_sec: float) -> int | None:
    try:
        answer = await asyncio.wait_for(client.send(node, _AskFeatures()), answer_sec)
    except (NotImplementedError, TimeoutError):
        return (
            None  # the client raises the first when the broker does not support the request version
        )
    supported = answer.tags.get(SUPPORTED_FEATURES)
    if supported is None:
        return None
    features = _SUPPORTED.decode(BytesIO(supported)) or []
    return next((highest for name, _, highest, _ in features if name == METADATA), None)


def release_of(level: int | None) -> str | None:
    """Return the release (``4.2``) with this highest level, None when it is unknown."""
    if level is None or level > NEWEST_LEVEL:
        return None
    return next((release for least, release in RELEASES if level >= least), None)


def known_against(release: str | None) -> str | None:
    """Return the known defect of a release as a sentence, None without one."""
    return f"Kafka {release} {LOSS}" if release in LOSING else None
