"""What the tests of the kill switch share: a log, a Valkey, and everybody who touches them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import redis
from confluent_kafka.admin import AdminClient, NewTopic
from redis.backoff import NoBackoff
from redis.retry import Retry

from streams.config.kill_switch import KillSwitchSettings
from streams.config.runtime import Runtime
from streams.kafka.control_topic import append_control
from streams.kafka.reader import LogReader
from streams.records.codec import Codec, locked_codec
from streams.records.events import Control
from streams.records.topics import CONTROL
from streams.trading.kill_switch.commands import Cleared, Engaged, disengage, engage
from streams.trading.kill_switch.keeper import KillSwitchKeeper
from streams.trading.kill_switch.reader import KillSwitchReader, KillSwitchState
from tests.support.waiting import until

KEY = "ops:kill_switch"


class Place:
    """One deployment's control log and its Valkey.

    Parameters
    ----------
    bootstrap, prefix, valkey_url
        Where; the topic is made.
    env
        Further settings of the kill switch.
    """

    def __init__(self, bootstrap: str, prefix: str, valkey_url: str, **env: str) -> None:
        self.environment = {
            "KAFKA_BOOTSTRAP_SERVERS": bootstrap,
            "TOPIC_PREFIX": prefix,
            "VALKEY_URL": valkey_url,
            **env,
        }
        self.runtime = Runtime.from_env(self.environment)
        self.settings = KillSwitchSettings.from_env(env)
        self.codec: Codec = locked_codec(prefix)
        self.valkey: Any = plain_client(valkey_url)
        self._made: list[Any] = []
        self._log: LogReader | None = None
        admin = AdminClient({"bootstrap.servers": bootstrap})
        topic = NewTopic(self.runtime.topic(CONTROL), 1, 1, config={"retention.ms": "-1"})
        admin.create_topics([topic])[topic.topic].result(20)
        # a broker tells of a new topic a moment after it has made it
        until(lambda: admin.list_topics(timeout=5).topics.get(topic.topic))

    def keeper(self, **env: str) -> KillSwitchKeeper:
        """Make a keeper; its rounds are done by hand."""
        settings = KillSwitchSettings.from_env(self.environment | env)
        self._made.append(KillSwitchKeeper(self.runtime, self.codec, settings))
        return self._made[-1]  # type: ignore[no-any-return]

    def reader(self, within_s: float = 5.0) -> KillSwitchReader:
        """Make a reader."""
        self._made.append(KillSwitchReader(self.runtime, self.codec, self.settings, within_s))
        return self._made[-1]  # type: ignore[no-any-return]

    def on(self, reason: str = "test", **more: Any) -> Engaged:
        """Engage as the command does."""
        return engage(self.runtime, self.codec, "ann", reason, now_ms(), self.settings, **more)

    def off(self, reason: str = "test", wait_s: float = 0.0) -> Cleared:
        """Clear as the command does."""
        return disengage(self.runtime, self.codec, "ben", reason, now_ms(), self.settings, wait_s)

    def say(self, value: str, actor: str = "cat") -> int:
        """Append a word to the log and leave Valkey alone; return its offset."""
        said = Control("kill_switch", None, value, actor, "by hand", now_ms())
        return append_control(self.runtime, self.codec, [said])[0]

    def words(self) -> list[Control]:
        """Return the records of the log."""
        if self._log is None:
            self._log = LogReader(self.runtime)
            self._made.append(self._log)
        found: list[Control] = []
        for batch in self._log.read(CONTROL, 0):
            for item in batch:
                event = self.codec.decode(CONTROL, item.record.value)
                assert isinstance(event, Control)
                found.append(event)
        return found

    def plain(self) -> str:
        """Return what a consumer that reads the key alone takes it for."""
        return "off" if says_off(self.valkey) else "engaged"

    def close(self) -> None:
        """Leave everything."""
        for made in self._made:
            made.close()
        self.valkey.close()


def plain_client(url: str) -> Any:
    """Return a client of Valkey that gives up at once."""
    return redis.Redis.from_url(url, socket_timeout=1, retry=Retry(NoBackoff(), 0))


def says_off(client: Any) -> bool:
    """Return what a naive consumer makes of the key: what cannot be read is engaged."""
    try:
        return bool(client.get(KEY) == b"0")
    except redis.RedisError:
        return False


def now_ms() -> int:
    """Wall clock."""
    return int(time.time() * 1000)


class Seen(NamedTuple):
    """One look of an observer: the answer held at some instant between the two."""

    began: float
    ended: float
    off: bool


class Observer(threading.Thread):
    """Looks at the kill switch all the time, as one of its readers does.

    Parameters
    ----------
    says_off
        One look: whether the reader takes it for off. Called in this thread alone.
    every_s
        Pause between two looks.
    leave
        Called at the end.
    """

    def __init__(
        self,
        says_off: Callable[[], bool],
        every_s: float = 0.002,
        leave: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(daemon=True)
        self._says_off, self._every_s, self._leave = says_off, every_s, leave
        self._stopping = threading.Event()
        self.seen: list[Seen] = []

    def run(self) -> None:
        """Watch until ``stop``."""
        while not self._stopping.wait(self._every_s):
            began = time.monotonic()
            off = self._says_off()
            self.seen.append(Seen(began, time.monotonic(), off))

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        self.join()
        self._leave()

    def offs(self, since: float, before: float) -> list[Seen]:
        """Return the looks that began and ended within the span and found it off."""
        return [s for s in self.seen if s.off and s.began >= since and s.ended <= before]

    def looks(self, since: float, before: float) -> int:
        """Return how many looks lie within the span."""
        return sum(s.began >= since and s.ended <= before for s in self.seen)

    def require_never_off(self, since: float, before: float, what: str) -> None:
        """Assert that somebody looked within the span and that nobody found it off."""
        assert self.looks(since, before), f"{what}: nobody was looking"
        offs = self.offs(since, before)
        found = [f"{s.began - since:.3f}..{s.ended - since:.3f}" for s in offs[:5]]
        assert not offs, f"{what}: off was seen {len(offs)} times, at {found} s"


def plain_observer(url: str, every_s: float = 0.002) -> Observer:
    """Return an observer that reads the key as a naive consumer does."""
    client = plain_client(url)
    return Observer(lambda: says_off(client), every_s, client.close)


def engaged_by(state: KillSwitchState, text: str) -> bool:
    """Return whether the answer is engaged, for a reason with this text."""
    return state.engaged and any(text in why for why in state.why)
