"""Frames, queues, the ring."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from streams.mirror.shapes import Retention, writes_of
from streams.records.control import ControlLog
from streams.records.events import Manifold, Watermark
from streams.records.log_record import RecordCoordinates
from streams.service.channels import CHANNELS, KINDS, Frame, frame_of, status_frame
from streams.service.hub import Client, Hub
from streams.service.messages import EventFrame
from tests.support.sample_events import BARE_SAMPLES, SAMPLES, TOPIC_OF
from tests.support.waiting import PATIENCE_S

STATE = ControlLog().state(0)


def frame(number: int, channel: str = "gates", instrument: str | None = "EUR_USD") -> Frame:
    return Frame(f"opt.gates-0-{number}", channel, instrument, number, f"text {number}")


def joined(hub: Hub, max_queue: int = 10, **wish: Any) -> Client:
    client = Client(max_queue)
    hub.join(client)
    hub.subscribe(client, wish.get("channels", CHANNELS), wish.get("instruments"))
    return client


async def taken(client: Client, count: int) -> list[str]:
    return [await asyncio.wait_for(client.next(), PATIENCE_S) for _ in range(count)]


@pytest.mark.parametrize(
    "event",
    [*SAMPLES.values(), *BARE_SAMPLES.values()],
    ids=lambda event: type(event).__name__,
)
def test_every_event_is_a_frame_as_described(event: Any) -> None:
    place = RecordCoordinates(TOPIC_OF[type(event).__name__], 3, 17)
    found = frame_of(place, 1_400_000_100_000, event, STATE, 60)
    if isinstance(event, Watermark):
        assert found is None
        return
    assert found is not None
    content = json.loads(found.text, parse_constant=pytest.fail)
    EventFrame.model_validate(content)
    kind = KINDS[type(event)]
    assert (content["type"], content["channel"], content["id"]) == (
        kind.type,
        kind.channel,
        place.id,
    )
    assert RecordCoordinates.of_id(content["id"]) == place
    assert 'lambda_"' not in found.text and '"raw"' not in found.text


def test_a_manifold_is_the_payload_of_the_profiles_channel() -> None:
    event = SAMPLES["Manifold"]
    assert isinstance(event, Manifold)
    found = frame_of(RecordCoordinates("sep.manifolds", 0, 1), event.as_of_ms, event, STATE, 60)
    write = writes_of(event, 60, Retention(0, 0))[0]
    assert found is not None
    assert json.loads(found.text)["data"] == json.loads(write.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "opt.gates",
        "opt.gates-0",
        "opt.gates-0-x",
        "opt.gates--1-5",
        "nothing-0-1",
        "opt.gates-0-1 ",
        "opt.gates-0-99999999999999999999",
        "../opt.gates-0-1",
    ],
)
def test_what_is_no_id_is_none(text: str) -> None:
    assert RecordCoordinates.of_id(text) is None


async def test_only_what_was_subscribed_to_comes_and_what_concerns_everybody() -> None:
    hub = Hub()
    client = joined(hub, channels=["gates", "weights"], instruments=["EUR_USD"])
    hub.publish(frame(1))
    hub.publish(frame(2, instrument="USD_JPY"))
    hub.publish(frame(3, channel="market"))
    hub.publish(frame(4, channel="weights", instrument=None))
    assert await taken(client, 2) == ["text 1", "text 4"]
    assert client.waiting == 0


async def test_a_slow_client_is_told_what_it_missed_and_holds_up_nobody() -> None:
    hub = Hub()
    slow, quick = joined(hub, 3), joined(hub, 100)
    for number in range(10):
        hub.publish(frame(number))
    assert await taken(quick, 10) == [f"text {n}" for n in range(10)]
    lagging = json.loads((await taken(slow, 1))[0])
    assert lagging["type"] == "lagging" and lagging["dropped"] == 9
    assert lagging["channels"] == {"gates": 9}
    assert (lagging["first_id"], lagging["last_id"]) == ("opt.gates-0-0", "opt.gates-0-8")
    assert await taken(slow, 1) == ["text 9"]
    assert hub.dropped == 9
    hub.leave(slow)
    assert hub.dropped == 9, "counted on when it has gone"


async def test_events_wait_while_earlier_ones_are_fetched() -> None:
    hub = Hub()
    client = joined(hub)
    client.held = True
    hub.publish(frame(7))
    client.say("earlier")
    assert await taken(client, 1) == ["earlier"]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.next(), 0.05)
    client.release()
    assert await taken(client, 1) == ["text 7"]


def test_the_ring_knows_what_came_after_an_event_as_long_as_it_holds_it() -> None:
    hub = Hub(ring=5)
    for number in range(8):
        hub.publish(frame(number))
    hub.publish(status_frame(8, {"kind": "signal"}))
    after = hub.after("opt.gates-0-5")
    assert after is not None and [one.id for one in after] == ["opt.gates-0-6", "opt.gates-0-7"]
    assert hub.after("opt.gates-0-7") == []
    assert hub.after("opt.gates-0-2") is None
    assert hub.after("opt.gates-0-99") is None
    assert len(hub._numbers) == 5


def test_who_has_left_gets_nothing_more() -> None:
    hub = Hub()
    client = joined(hub)
    hub.leave(client)
    hub.leave(client)
    hub.publish(frame(1))
    assert client.waiting == 0 and hub.clients == ()
