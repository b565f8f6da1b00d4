"""Writes candles, watermarks and the universe record to the log, for one feed at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.errors import Fatal, MustRestart, Recoverable
from streams.feeds.plan import Fact, FeedPlan
from streams.kafka.control_topic import append_control, read_control, seed_config
from streams.kafka.delivery import Delivery, plain_producer
from streams.kafka.error_kinds import ErrorKind, error_kind, missing_right
from streams.kafka.errors import TIMESTAMP_REFUSED, recoverable
from streams.kafka.reader import LogReader
from streams.kafka.transactions import transaction, transactional_producer
from streams.process.clock_skew import ADVICE
from streams.records.codec import Codec
from streams.records.config_following import FollowedConfig
from streams.records.control import ControlLog, UniverseChange, control_key
from streams.records.events import Candle, Control
from streams.records.topics import CANDLES, CONTROL

FLUSH_SECONDS = 30.0
CONTROL_EVERY_S = 1.0


class FactWriter:
    """Candle producer of one feed.

    Parameters
    ----------
    runtime, codec
        The deployment.
    config
        The configuration of this process; written to ``ops.control`` if that has none.
    now_ms
        Wall clock, epoch ms, for the timestamps of control records.
    live
        Whether it runs continuously: it must be recreated when bar length or market hours change.
    fenced
        Whether only one such feed may run: it writes in transactions, and starting it fences the
        previous one, whose open transaction is aborted.

    Raises
    ------
    Fatal
        The active configuration cannot be followed, or a topic is missing.
    """

    def __init__(
        self,
        runtime: Runtime,
        codec: Codec,
        config: Config,
        now_ms: int,
        *,
        live: bool = False,
        fenced: bool = False,
    ) -> None:
        self._runtime, self._codec, self._now_ms = runtime, codec, now_ms
        self._reader = LogReader(runtime)
        self.partitions = len(self._reader.partitions(CANDLES))
        log = read_control(runtime, codec)
        self.control: ControlLog = seed_config(runtime, codec, config, log, now_ms)
        self.followed = FollowedConfig(config)
        self._begun_with = _hours_and_bars(self.followed.look(self.control))
        self._live = live
        self._delivery = Delivery()
        self._fenced = fenced
        self._producer = (
            transactional_producer(runtime, feed_id(runtime))
            if fenced
            else _plain_producer(runtime)
        )
        self._topic = runtime.topic(CANDLES)
        self.written = 0

    def declare(self, change: UniverseChange, actor: str) -> bool:
        """Append a universe record if it changes the universe; return whether it was written."""
        known = [record.value for _, record in self.control.records if record.kind == "universe"]
        universe = self.control.state(self.control.end).universe
        until_ms = change.until_ms if change.until_ms is not None else change.from_ms + 1
        covered = all(
            set(change.instruments) <= set(universe.members(at))
            for at in (change.from_ms + 1, until_ms)
        )
        same = universe.members(change.from_ms + 1) == change.instruments
        if known and (covered if change.mode == "add" else same and covered):
            return False
        said = Control("universe", None, change.to_json(), actor, "feed start", self._now_ms)
        if self._fenced:
            with self.transaction():
                self._produce_control(said)
        else:
            append_control(self._runtime, self._codec, [said])
        self.refresh_control()
        return True

    def members(self, epoch_ms: int) -> tuple[str, ...]:
        """Return the universe in force at an epoch."""
        return self.control.state(self.control.end).universe.members(epoch_ms)

    @property
    def config(self) -> Config:
        """The active configuration."""
        return self.followed.active

    def refresh_control(self) -> int:
        """Read ``ops.control`` further; return its end.

        Raises
        ------
        MustRestart
            Bar length or market hours of a live feed have changed since its start.
        """
        read_control(self._runtime, self._codec, self.control, self._reader)
        now = _hours_and_bars(self.followed.look(self.control, refuse=False))
        if self._live and now != self._begun_with:
            changed = [
                f"{name} is {now[name]} and was {before}"
                for name, before in self._begun_with.items()
                if now[name] != before
            ]
            raise MustRestart(
                f"the configuration has changed: {', '.join(changed)}; the feed ends; restart it "
                "to continue with the new configuration"
            )
        return self.control.end

    def write(self, facts: Iterable[Fact]) -> None:
        """Pass records to the producer, in order.

        Raises
        ------
        Recoverable
            An earlier record could not be delivered; no later record is written.
        """
        for fact in facts:
            value = self._codec.encode(CANDLES, fact.event)
            while True:
                try:
                    self._producer.produce(
                        self._topic,
                        value,
                        fact.key,
                        partition=fact.partition,
                        timestamp=fact.timestamp_ms,
                        on_delivery=self._delivery.report,
                    )
                    break
                except BufferError:
                    self._producer.poll(0.1)
                    self._check()
            self.written += 1
        self._producer.poll(0)
        self._check()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Write the records of the body in one transaction; it is committed on return.

        Raises
        ------
        Fatal
            Another feed has taken over.
        Recoverable
            The brokers did not commit in time. The process must then exit without an abort or a
            retry.
        """
        with transaction(self._runtime, self._producer, self._explained):
            yield
        self._check()

    def _produce_control(self, record: Control) -> None:
        self._producer.produce(
            self._runtime.topic(CONTROL),
            self._codec.encode(CONTROL, record),
            control_key(record),
            partition=0,
            timestamp=record.as_of_ms,
            on_delivery=self._delivery.report,
        )

    def flush(self) -> None:
        """Wait until all records written so far are acknowledged.

        Raises
        ------
        Recoverable
            The brokers did not acknowledge in time.
        """
        left = self._producer.flush(FLUSH_SECONDS)
        self._check()
        if left:
            raise Recoverable(
                f"{left} records for {self._topic} were not acknowledged within "
                f"{FLUSH_SECONDS:.0f} s; the same command again completes the rest"
            )

    def _check(self) -> None:
        refused = self._delivery.refused
        if refused is not None:
            raise self._explained(refused[0])

    def _explained(self, error: Any) -> Fatal | Recoverable:
        if error.code() == TIMESTAMP_REFUSED:
            return Recoverable(
                f"{self._topic} refuses a time stamp: it is more than an hour ahead of the "
                f"brokers' clock. The candles end in the future, or a clock is wrong; {ADVICE}"
            )
        if error_kind(error) is ErrorKind.FENCED:
            return Fatal(
                f"another feed has taken over (transactional id {feed_id(self._runtime)}): only "
                "one may run in a deployment; stop one of them, or give one its own TOPIC_PREFIX"
            )
        if error_kind(error) is ErrorKind.AUTHORIZATION:
            return Fatal(f"cannot write to {self._topic}: {error.str()}; {missing_right(error)}")
        return Recoverable(
            f"cannot write to {self._topic}: {error.str()}; "
            "the same command again completes the rest"
        )


def _hours_and_bars(config: Config) -> dict[str, str]:
    """Return the settings that a feed cannot change while it runs."""
    return {
        "CANDLE_GRAN": config.candle_gran,
        "MARKET_CALENDAR": config.market_calendar,
        "MARKET_HOLIDAYS": config.market_holidays,
    }


def feed_id(runtime: Runtime) -> str:
    """Return the transactional id of a deployment's feed."""
    return f"{runtime.application}-feed"


def _plain_producer(runtime: Runtime) -> Any:
    return plain_producer(
        runtime,
        queue_buffering_max_messages=200_000,
        linger_ms=20,
        batch_num_messages=20_000,
    )


def bars_of(candles: Iterable[Candle]) -> Iterator[tuple[int, list[Candle]]]:
    """Group candles that are ordered by end time into bars: (as_of_ms, candles)."""
    for as_of_ms, group in groupby(candles, key=lambda candle: candle.as_of_ms):
        yield as_of_ms, list(group)


@recoverable("writing candles")
def write_feed(
    writer: FactWriter,
    plan: FeedPlan,
    bars: Iterable[tuple[int, Sequence[Candle]]],
    from_ms: int,
    progress: Callable[[int], None] = lambda count: None,
) -> int:
    """Write one feed: the opening watermarks, every bar, the closing watermarks.

    Parameters
    ----------
    bars
        (as_of_ms, candles), ascending.
    from_ms
        Time of the opening watermarks: the start of the first bar.
    progress
        Called with the number of candles written since the last call.

    Returns
    -------
    int
        ``as_of_ms`` of the last bar, ``from_ms`` when there was none.
    """
    try:
        control_offset = writer.control.end
        writer.write(plan.opening(from_ms, control_offset))
        last_ms, counted = from_ms, 0
        looked = time.monotonic()
        for as_of_ms, candles in bars:
            if time.monotonic() - looked > CONTROL_EVERY_S:
                control_offset, looked = writer.refresh_control(), time.monotonic()
            writer.write(plan.bar(as_of_ms, candles, control_offset))
            last_ms, counted = as_of_ms, counted + len(candles)
            if counted >= 1000:
                progress(counted)
                counted = 0
        progress(counted)
        writer.write(plan.closing(last_ms, control_offset))
        return last_ms
    finally:
        writer.flush()
