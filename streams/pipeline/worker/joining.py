"""Delay the group assignment until the cluster metadata contains every topic of the group.

A broker that has just started briefly reports no topics. Faust's assignor skips missing topics, so
a worker that leads its group at that moment is assigned nothing and stays idle, although it reports
ready, until the metadata expires (five minutes).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from streams.errors import Recoverable

ASK_AGAIN_S = 0.1


def wait_before_assigning(consumer: Any, expected: Mapping[str, int], within_s: float) -> None:
    """Make a started aiokafka consumer wait for the group's topics before it assigns as leader.

    Call it before the consumer subscribes.

    Parameters
    ----------
    expected
        Topic -> number of partitions.
    within_s
        Time limit, seconds; the other group members wait meanwhile.
    """
    coordinator = consumer._coordinator
    assign = coordinator._perform_assignment

    async def assign_when_known(response: Any) -> Any:
        await wait_for_topics(consumer._client, expected, within_s)
        return await assign(response)

    coordinator._perform_assignment = assign_when_known


async def wait_for_topics(client: Any, expected: Mapping[str, int], within_s: float) -> None:
    """Wait until the metadata of an aiokafka client contains topics with all partitions.

    Parameters
    ----------
    client
        The client; its metadata is requested until it is complete.
    expected, within_s
        As in ``wait_before_assigning``.

    Raises
    ------
    Recoverable
        The metadata is not complete in time; the message names one topic.
    """
    give_up_at = time.monotonic() + within_s
    while missing := _missing(client, expected):
        if time.monotonic() > give_up_at:
            name, found = missing
            raise Recoverable(
                f"the broker knows {found} of {expected[name]} partitions of {name}, as during "
                "its start; if this persists, run manifold topics check"
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
