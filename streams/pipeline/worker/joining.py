"""Partitions are assigned only when the cluster's metadata knows every topic of the group.

A broker that has just started answers for a moment that it has no topics. Faust's assignor leaves
out what it does not find, so a worker that led its group then was assigned nothing and stood idle,
ready by its own word, until the metadata expired (five minutes).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from streams.errors import Recoverable

ASK_AGAIN_S = 0.1


def wait_before_assigning(consumer: Any, expected: Mapping[str, int], within_s: float) -> None:
    """Let a started aiokafka consumer that leads its group wait for the group's topics.

    Call it before the consumer subscribes.

    Parameters
    ----------
    expected
        Topic -> number of its partitions.
    within_s
        Longest wait in seconds; the others of the group wait meanwhile.
    """
    coordinator = consumer._coordinator
    assign = coordinator._perform_assignment

    async def assign_when_known(response: Any) -> Any:
        await wait_for_topics(consumer._client, expected, within_s)
        return await assign(response)

    coordinator._perform_assignment = assign_when_known


async def wait_for_topics(client: Any, expected: Mapping[str, int], within_s: float) -> None:
    """Wait until an aiokafka client knows topics with all of their partitions.

    Parameters
    ----------
    client
        Its metadata are asked for again until they are complete.
    expected, within_s
        As in ``wait_before_assigning``.

    Raises
    ------
    Recoverable
        They are not there in time; names one.
    """
    give_up_at = time.monotonic() + within_s
    while missing := _missing(client, expected):
        if time.monotonic() > give_up_at:
            name, found = missing
            raise Recoverable(
                f"the broker knows {found} of {expected[name]} partitions of {name}, as one does "
                "that is starting; check with manifold topics check when it stays so"
            )
        client.set_topics({*client._topics, *expected})
        await client.force_metadata_update()
        await asyncio.sleep(ASK_AGAIN_S)


def _missing(client: Any, expected: Mapping[str, int]) -> tuple[str, int] | None:
    for name, wanted in expected.items():
        found = len(client.cluster.partitions_for_topic(name) or ())
        if found < wanted:
            return name, found
    return None
