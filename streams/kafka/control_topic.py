"""Reading and writing ``ops.control``."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from confluent_kafka import Producer

from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.errors import Fatal, Recoverable
from streams.kafka.client import SILENT, producer_config
from streams.kafka.delivery import Delivery
from streams.kafka.errors import STAMP_REFUSED
from streams.kafka.reader import LogReader
from streams.process.clock_skew import ADVICE
from streams.records.codec import Codec, DecodeError
from streams.records.config_following import require_followable
from streams.records.control import ControlLog, control_key
from streams.records.events import Control
from streams.records.topics import CONTROL

DELIVERY_SECONDS = 30.0


def read_control(
    runtime: Runtime,
    codec: Codec,
    log: ControlLog | None = None,
    reader: LogReader | None = None,
) -> ControlLog:
    """Read ``ops.control`` to its end.

    Parameters
    ----------
    runtime, codec
        The deployment and its schemas.
    log
        What was read before; only what is new is read. A new log by default.
    reader
        A reader that is open already, for those who look often; opening one takes 100 ms.

    Returns
    -------
    ControlLog
        The log, read to the end at the time of the call.

    Raises
    ------
    Fatal
        The topic does not exist, or holds settings of a newer version.
    Recoverable
        No broker answers.
    """
    log = ControlLog() if log is None else log
    if reader is None:
        with LogReader(runtime) as own:
            own.partitions(CONTROL)
            return read_control(runtime, codec, log, own)
    end = reader.bounds(CONTROL, 0)[1]
    for batch in reader.read(CONTROL, 0, log.end, end):
        for found in batch:
            offset, value = found.record.offset, found.record.value
            try:
                record = codec.decode(CONTROL, value)
            except DecodeError as error:
                log.refuse(offset, f"{error.reason}: {error.detail}")
                continue
            if isinstance(record, Control):
                log.append(offset, record)
    log.advance(max(end, log.end))
    return log


def loader(
    runtime: Runtime,
    codec: Codec,
    log: ControlLog,
    looked: Callable[[ControlLog], object] = lambda log: None,
) -> Callable[[int], Awaitable[None]]:
    """Return what reads ``log`` on to an offset; a stage calls it before a batch that needs it.

    Parameters
    ----------
    looked
        Given the log whenever it was read on.
    """

    # stages and partitions meet the same watermark at the same time; the log is read on by one
    reading = asyncio.Lock()

    async def load(upto: int) -> None:
        async with reading:
            if upto > log.end:
                looked(await asyncio.to_thread(read_control, runtime, codec, log))

    return load


class StampRefused(Recoverable):
    """Brokers refuse a record that is more than an hour ahead of their clock."""


class ControlAppender:
    """Appends to ``ops.control`` with one client, for whoever does it more than once.

    Parameters
    ----------
    runtime, codec
        The deployment. The client connects in the background; for one thread at a time.
    within_s
        Seconds after which the brokers are given up.
    """

    def __init__(self, runtime: Runtime, codec: Codec, within_s: float = DELIVERY_SECONDS) -> None:
        self._runtime, self._codec, self._within_s = runtime, codec, within_s
        self._producer: Producer | None = None
        self.connect()

    def connect(self) -> None:
        """Make the client, where there is none; the first record then finds it connected."""
        if self._producer is None:
            # an idempotent one waits half a second for its id, and a kill switch should not; the
            # same word twice, after an answer that was lost, says what it says once
            settings = {
                "enable.idempotence": False,
                "max.in.flight.requests.per.connection": 1,
                "linger.ms": 0,
                "message.timeout.ms": int(self._within_s * 1000),
                **SILENT,
            }
            self._producer = Producer(producer_config(self._runtime) | settings)

    def append(self, records: Sequence[Control]) -> list[int]:
        """Append records, in order; return their offsets.

        Raises
        ------
        StampRefused
            This machine's clock is far ahead of theirs; nothing was written.
        Recoverable
            The brokers did not acknowledge in time; nothing, a first part, or all of it without
            their word was written.
        """
        self.connect()
        producer = self._producer
        assert producer is not None
        deliveries = [Delivery() for _ in records]
        for record, delivery in zip(records, deliveries, strict=True):
            producer.produce(
                self._runtime.topic(CONTROL),
                self._codec.encode(CONTROL, record),
                control_key(record),
                partition=0,
                timestamp=record.as_of_ms,
                on_delivery=delivery.report,
            )
        # the client itself gives up first, and says why
        left = producer.flush(self._within_s + 1.0)
        refused = next((one.refused for one in deliveries if one.refused is not None), None)
        if refused is not None or left:
            self._producer = None
            if refused is not None and refused[0].code() == STAMP_REFUSED:
                raise StampRefused(
                    f"the brokers refuse the time stamp of a record of "
                    f"{self._runtime.topic(CONTROL)}: this machine's clock is more than an hour "
                    f"ahead of theirs; {ADVICE}"
                )
            why = refused[0].str() if refused else f"no answer within {self._within_s:.0f} s"
            raise Recoverable(f"cannot write to {self._runtime.topic(CONTROL)}: {why}")
        return [one.delivered.offset() or 0 for one in deliveries if one.delivered is not None]


def append_control(
    runtime: Runtime,
    codec: Codec,
    records: Sequence[Control],
    within_s: float = DELIVERY_SECONDS,
) -> list[int]:
    """Append records to ``ops.control``, in order; return their offsets.

    Raises
    ------
    Recoverable
        As ``ControlAppender.append``.
    """
    return ControlAppender(runtime, codec, within_s).append(records)


def active_config(log: ControlLog) -> Config | None:
    """Return the configuration at the end of what was read, None when there is none."""
    return log.state(log.end).config


def config_in_force(runtime: Runtime, codec: Codec, here: Config) -> Config:
    """Return the active configuration; that of the environment while the log has none.

    Raises
    ------
    Fatal, Recoverable
        As ``read_control``.
    """
    return active_config(read_control(runtime, codec)) or here


def refuse_continuous_market(what: str, config: Config, log: ControlLog) -> None:
    """Keep real prices and real orders out of a synthetic market that trades at weekends.

    Parameters
    ----------
    what
        The command that would begin.
    config
        The settings of this environment.
    log
        ``ops.control``, read to its end.

    Raises
    ------
    Fatal
        The active configuration says MARKET_CALENDAR=continuous; or there is none, and the
        environment says it.
    """
    active = active_config(log)
    if active is not None and active.market_calendar == "continuous":
        raise Fatal(
            f"{what} does not start: MARKET_CALENDAR=continuous is active in ops.control, so the "
            "log is that of a synthetic market; give OANDA a log of its own (TOPIC_PREFIX)"
        )
    if active is None and config.market_calendar == "continuous":
        raise Fatal(
            f"{what} does not start: MARKET_CALENDAR=continuous is set here, which is for the "
            "synthetic market only; set MARKET_CALENDAR=fx or leave it away"
        )


def seed_config(
    runtime: Runtime, codec: Codec, config: Config, log: ControlLog, now_ms: int
) -> ControlLog:
    """Make ``config`` the active configuration where the log has none: the first caller writes it.

    Returns
    -------
    ControlLog
        ``log``, read to the end. It holds a configuration, perhaps another one.

    Raises
    ------
    Fatal
        It would be the first one, and cannot be followed with what is installed here.
    """
    if active_config(log) is None:
        require_followable(config)
        said = Control("config", None, config.to_json(), "environment", "first start", now_ms)
        append_control(runtime, codec, [said])
        read_control(runtime, codec, log)
    return log
