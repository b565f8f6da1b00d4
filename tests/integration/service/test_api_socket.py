"""The WebSocket of the service: events, resuming across a kill, slow and rude clients."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from streams.feeds.synthetic import synthetic_market
from streams.kafka.reader import LogReader
from streams.records.codec import DecodeError
from streams.records.events import Watermark
from streams.records.log_record import RecordCoordinates
from streams.service.channels import CHANNELS, KINDS
from streams.service.messages import EventFrame
from streams.stack.kafka import KafkaBroker
from tests.support.candle_files import START_MS
from tests.support.deployment import LIVELY, Deployment
from tests.support.service import TOKEN, ServiceProcess, frame, frames_until, say, subscribe
from tests.support.trading import BarByBar
from tests.support.waiting import PATIENCE_S

pytestmark = pytest.mark.kafka

PAIRS = ("EUR_USD", "USD_JPY")
FIRST_BARS = 150
QUEUE = 40


class Market:
    """A market that goes on by some bars whenever it is told to."""

    def __init__(self, deployment: Deployment) -> None:
        self._bars = BarByBar(deployment, synthetic_market(7, PAIRS, START_MS, 5_000), START_MS)
        self.last_ms = START_MS

    def go_on(self, bars: int) -> int:
        """Write so many more bars; return the last one's end."""
        for _ in range(bars):
            self.last_ms = self._bars.next().as_of_ms
        return self.last_ms


@pytest.fixture(scope="module")
def deployment(
    kafka: KafkaBroker, new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    made = Deployment(
        tmp_path_factory.mktemp("socket"),
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
        TOPIC_PREFIX="socket.",
        TOPIC_PARTITIONS="2",
        VALKEY_URL=new_database(),
        HOTBAND_PAIRS=",".join(PAIRS),
        **LIVELY,
    )
    try:
        made.start_worker()
        made.start("mirror", "mirror")
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def going_on(deployment: Deployment) -> Market:
    found = Market(deployment)
    found.go_on(FIRST_BARS)
    deployment.settle()
    return found


@pytest.fixture(scope="module")
def service(deployment: Deployment, going_on: Market) -> ServiceProcess:
    found = ServiceProcess(
        deployment, API_RATE_PER_SEC="0", WS_MAX_QUEUE=str(QUEUE), WS_HEARTBEAT_SEC="0.5"
    )
    found.start()
    return found


def told(deployment: Deployment, channels: Any = CHANNELS) -> dict[str, int]:
    """Return id -> time of every record of the log that the channels tell of."""
    found: dict[str, int] = {}
    with LogReader(deployment.runtime) as reader:
        for kind in KINDS.values():
            if kind.topic is None or kind.channel not in channels:
                continue
            for partition in reader.partitions(kind.topic):
                for batch in reader.read(kind.topic, partition):
                    for each in batch:
                        record = each.record
                        try:
                            event = deployment.codec.decode(kind.topic, record.value)
                        except DecodeError:
                            continue
                        if not isinstance(event, Watermark):
                            place = RecordCoordinates(kind.topic, partition, record.offset)
                            found[place.id] = record.timestamp_ms
    return found


def weights_of(epoch_ms: int) -> Any:
    def is_it(found: dict[str, Any]) -> bool:
        return found["type"] == "weights" and found["data"]["epoch_ms"] == epoch_ms

    return is_it


def in_order(ids: list[str]) -> bool:
    """Return whether ids ascend within each partition, and none is there twice."""
    by_partition: dict[Any, list[int]] = defaultdict(list)
    for text in ids:
        place = RecordCoordinates.of_id(text)
        assert place is not None, text
        by_partition[place.topic, place.partition].append(place.offset)
    return all(one == sorted(set(one)) for one in by_partition.values())


def test_every_record_is_told_of_once_and_a_manifold_as_valkey_publishes_it(
    deployment: Deployment, going_on: Market, service: ServiceProcess
) -> None:
    client = redis.Redis.from_url(deployment.environment["VALKEY_URL"])
    published = client.pubsub()
    published.subscribe("ws:manifold")
    wish = [name for name in CHANNELS if name != "system"]
    before = told(deployment, wish)
    with service.socket() as ws:
        subscribe(ws, *wish)
        last_ms = going_on.go_on(5)
        found = frames_until(ws, weights_of(last_ms))
        after = told(deployment, wish).keys() - before.keys()
        while after - {one["id"] for one in found}:
            found.append(frame(ws))
    ids = [one["id"] for one in found]
    assert set(ids) == after and in_order(ids)
    for one in found:
        EventFrame.model_validate(one)
    manifolds = [one["data"] for one in found if one["type"] == "manifold"]
    newest = {one["instrument"]: one for one in manifolds}
    assert newest.keys() == set(PAIRS)
    seen: list[Any] = []
    end = time.monotonic() + PATIENCE_S
    while not all(one in seen for one in newest.values()) and time.monotonic() < end:
        message = published.get_message(timeout=1.0)
        if message is not None and message["type"] == "message":
            seen.append(json.loads(message["data"]))
    client.close()
    # of several in one batch the mirror publishes the newest
    assert all(one in manifolds for one in seen)
    assert all(one in seen for one in newest.values())


def test_only_the_wanted_instruments_and_channels_come(
    going_on: Market, service: ServiceProcess
) -> None:
    with service.socket() as ws:
        said = subscribe(ws, "gates", "weights", instruments=["EUR_USD"])
        assert said["channels"] == ["gates", "weights"] and said["instruments"] == ["EUR_USD"]
        last_ms = going_on.go_on(3)
        found = frames_until(ws, weights_of(last_ms))
        assert {one["channel"] for one in found} == {"gates", "weights"}
        assert {one["instrument"] for one in found if one["type"] == "gate"} == {"EUR_USD"}
        say(ws, type="unsubscribe", channels=["gates"])
        # what was on its way comes before the answer
        answer = frames_until(ws, lambda one: one["type"] == "subscription")[-1]
        assert answer["channels"] == ["weights"]
        last_ms = going_on.go_on(2)
        assert {one["type"] for one in frames_until(ws, weights_of(last_ms))} == {"weights"}


def test_a_heartbeat_comes_again_and_again(service: ServiceProcess) -> None:
    with service.socket("API_PORT") as ws:
        beats = [json.loads(ws.recv(5)) for _ in range(3)]
    assert all(one["type"] == "heartbeat" for one in beats)
    assert abs(beats[-1]["ts_ms"] - beats[0]["ts_ms"] - 1_000) < 900


def test_a_client_goes_on_where_it_was_also_over_a_killed_service(
    deployment: Deployment, going_on: Market, service: ServiceProcess
) -> None:
    wish = ["market", "manifold", "signals", "gates", "weights", "ledger", "performance"]
    with service.socket() as ws:
        subscribe(ws, *wish)
        last_ms = going_on.go_on(4)
        seen = [one["id"] for one in frames_until(ws, weights_of(last_ms))]
    middle = seen[len(seen) // 2]
    with service.socket() as ws:
        said = subscribe(ws, *wish, last_event_id=middle)
        again = [frame(ws)["id"] for _ in range(said["resumed"])]
    # what came behind the weights may have come after the first client left
    assert again[: len(seen) - seen.index(middle) - 1] == seen[seen.index(middle) + 1 :]
    every = told(deployment, wish)
    newest: dict[tuple[str, int], RecordCoordinates] = {}
    for text in every:
        place = RecordCoordinates.of_id(text)
        assert place is not None
        if place.offset > newest.get(place[:2], RecordCoordinates("", 0, -1)).offset:
            newest[place[:2]] = place
    assert service.process is not None
    service.process.child.kill()
    last_ms = going_on.go_on(6)
    deployment.settle()
    service.wait_until(lambda: service.healthy)
    missed = told(deployment, wish).keys() - every.keys()
    assert len(missed) > 30
    with service.socket() as ws:
        said = subscribe(ws, *wish, last_event_id=[place.id for place in newest.values()])
        resumed = [frame(ws)["id"] for _ in range(said["resumed"])]
        assert set(resumed) == missed and in_order(resumed), "exactly what was missed"
        following = going_on.go_on(1)
        live = [one["id"] for one in frames_until(ws, weights_of(following))]
    assert in_order(resumed + live)
    with service.socket() as ws:
        # by one id alone: at least what was missed; what came shortly before it may come again
        last_gate = max((p for p in newest.values() if p.topic == "opt.gates"), key=lambda p: p[2])
        said = subscribe(ws, *wish, last_event_id=last_gate.id)
        resumed = [frame(ws)["id"] for _ in range(said["resumed"])]
    assert missed <= set(resumed) and in_order(resumed)
    gates = [one for one in resumed if one.startswith("opt.gates")]
    assert all(int(one.rpartition("-")[2]) > last_gate.offset for one in gates)


@pytest.mark.parametrize(
    "event_id",
    ["opt.gates-0-999999999", "opt.gates-77-1", "ops.control-0-99999", "nothing.there-0-1"],
)
def test_who_cannot_be_continued_is_told_to_load_anew(
    service: ServiceProcess, event_id: str
) -> None:
    with service.socket() as ws:
        said = subscribe(ws, "gates", last_event_id=event_id)
        assert said["resumed"] is None
        found = frame(ws)
        assert found["type"] == "reset" and found["detail"]


def test_who_is_too_far_behind_is_told_to_load_anew(deployment: Deployment) -> None:
    one = ServiceProcess(deployment, WS_RESUME_MAX="5")
    one.process = deployment.start("short", "serve", **one.settings)
    try:
        one.wait_until(lambda: one.healthy)
        first = next(iter(told(deployment, ["gates"])))
        with one.socket() as ws:
            assert subscribe(ws, "gates", last_event_id=first)["resumed"] is None
            assert "behind" in frame(ws)["detail"]
    finally:
        one.process.stop()
        del deployment.processes["short"]


def dropped_frames(service: ServiceProcess) -> float:
    text = service.get("/metrics").body.decode()
    dropped = next(one for one in text.splitlines() if one.startswith("manifold_ws_dropped "))
    return float(dropped.split()[1])


def test_a_client_that_does_not_read_holds_up_nobody_and_learns_what_it_missed(
    going_on: Market, service: ServiceProcess
) -> None:
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    narrow.connect(("127.0.0.1", service.ports["WS_PORT"]))
    # the library takes 4 frames on its own and no more before they are asked for
    with service.socket(sock=narrow, max_queue=4) as slow, service.socket() as quick:
        for ws in (slow, quick):
            subscribe(ws, *CHANNELS)
        # what a few bars bring has room in a queue: who reads that at once is quick
        for _ in range(40):
            last_ms = going_on.go_on(3)
            frames_until(quick, weights_of(last_ms))
            if dropped_frames(service) >= QUEUE:
                break
        lagging = frames_until(slow, lambda one: one["type"] == "lagging")[-1]
        assert lagging["dropped"] >= QUEUE
        assert sum(lagging["channels"].values()) == lagging["dropped"]
        first, last = (
            RecordCoordinates.of_id(lagging["first_id"]),
            RecordCoordinates.of_id(lagging["last_id"]),
        )
        assert first is not None and last is not None
    assert dropped_frames(service) >= lagging["dropped"]


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("", "invalid_message"),
        ("hello", "invalid_message"),
        ("[]", "invalid_message"),
        ("{}", "invalid_message"),
        ('{"type":"subscribe"}', "invalid_message"),
        ('{"type":"subscribe","channels":[]}', "invalid_message"),
        ('{"type":"subscribe","channels":["status"]}', "invalid_message"),
        ('{"type":"subscribe","channels":["gates"],"instruments":["eur"]}', "invalid_message"),
        ('{"type":"subscribe","channels":["gates"],"last_event_id":7}', "invalid_message"),
        ('{"type":"subscribe","channels":["gates"],"more":1}', "invalid_message"),
        ('{"type":"order","units":1}', "invalid_message"),
        ("[" * 5_000, "invalid_message"),
        (b"\x00\x01", "not_text"),
    ],
)
def test_a_message_that_is_none_is_refused_and_the_conversation_goes_on(
    service: ServiceProcess, message: str | bytes, error: str
) -> None:
    with service.socket() as ws:
        ws.send(message)
        found = frame(ws)
        assert (found["type"], found["error"]) == ("error", error) and found["detail"]
        say(ws, type="ping")
        assert frame(ws)["type"] == "pong"


def closed_with(ws: Any) -> int:
    with pytest.raises(ConnectionClosed) as caught:
        while True:
            ws.recv(PATIENCE_S)
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code


def test_who_sends_too_much_is_shown_the_door(service: ServiceProcess) -> None:
    with service.socket() as ws:
        ws.send('{"type":"subscribe","x":"' + "a" * 20_000 + '"}')
        assert closed_with(ws) == 1009
    with service.socket() as ws:
        ws.send("x" * 200_000)
        assert closed_with(ws) == 1009
    with service.socket() as ws:
        with contextlib.suppress(ConnectionClosed):  # it may not even take all of them
            for _ in range(60):
                say(ws, type="ping")
        assert closed_with(ws) == 1008
    assert service.healthy


def test_another_page_and_another_path_get_no_socket(service: ServiceProcess) -> None:
    port = service.ports["WS_PORT"]
    for path, options, status in (
        ("/ws", {"origin": "http://evil.example"}, 403),
        ("/other", {}, 404),
        ("/ws", {"additional_headers": {"Host": "evil.example"}}, None),
    ):
        with pytest.raises((InvalidStatus, ConnectionClosed)) as caught:
            connect(f"ws://127.0.0.1:{port}{path}", **options)  # type: ignore[arg-type]
        if status is not None:
            assert isinstance(caught.value, InvalidStatus)
            assert caught.value.response.status_code == status
    own = f"http://127.0.0.1:{service.ports['API_PORT']}"
    with service.socket(origin=own) as ws:
        say(ws, type="ping")
        assert frame(ws)["type"] == "pong"


def test_beyond_loopback_nothing_is_told_without_the_token(deployment: Deployment) -> None:
    one = ServiceProcess(deployment, API_HOST="0.0.0.0")
    process = deployment.start("open", "serve", **one.settings)
    one.process = process
    try:
        one.wait_until(lambda: one.healthy)
        assert one.get("/api/pairs").status == one.get("/metrics").status == 401
        assert one.get("/api/pairs", Authorization=f"Bearer {TOKEN}").status == 200
        assert one.get("/").status == 200
        place = f"ws://127.0.0.1:{one.ports['WS_PORT']}/ws"
        with connect(place) as ws:
            assert frame(ws)["token_required"] is True
            say(ws, type="subscribe", channels=["gates"])
            assert frame(ws)["error"] == "token_required"
            say(ws, type="token", token=TOKEN)
            assert frame(ws)["type"] == "authenticated"
            subscribe(ws, "gates")
        with connect(place, subprotocols=["manifold", f"token.{TOKEN}"]) as ws:  # type: ignore[list-item]
            assert ws.subprotocol == "manifold"
            assert [frame(ws)["type"] for _ in range(2)] == ["connection", "authenticated"]
            subscribe(ws, "gates")
        with connect(place) as ws:
            say(ws, type="token", token="wrong-wrong-wrong-wrong")
            assert closed_with(ws) == 1008
        with connect(place) as ws:
            assert closed_with(ws) == 1008, "nobody waits for a token for ever"
    finally:
        assert process.stop() == 0
        del deployment.processes["open"]
    assert TOKEN not in process.child.log.read_text()


def test_it_leaves_with_code_0_and_tells_its_clients(
    deployment: Deployment, tmp_path: Path
) -> None:
    one = ServiceProcess(deployment)
    process = deployment.start("leaving", "serve", **one.settings)
    one.process = process
    one.wait_until(lambda: one.healthy)
    with one.socket() as ws:
        subscribe(ws, "gates")
        assert process.stop() == 0
        assert closed_with(ws) in (1001, 1012)
    del deployment.processes["leaving"]
    log = process.child.log.read_text()
    assert "Traceback" not in log and "ERROR" not in log, log
