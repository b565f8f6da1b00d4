"""Read and write ``ops.control``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from confluent_kafka import Producer

from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.errors import Fatal, Recoverable
from streams.kafka.client import SILENT, producer_config
from streams.kafka.decoding import decode_record, event_of
from streams.kafka.delivery import Delivery
from streams.kafka.errors import TIMESTAMP_REFUSED
from streams.kafka.reader import LogReader
from streams.process.clock_skew import ADVICE
from streams.records.codec import Codec, DecodeError
from streams.records.config_following import require_followable
from streams.records.control import ControlLog, control_key
from streams.records.events import WATERMARK_KEY, Control, DeadLetter
from streams.records.reasons import Refusal
from streams.records.topics import CONTROL, DEAD_LETTERS
from streams.records.validation import problem_of

DELIVERY_SECONDS = 30.0
TRIES, PAUSE_S = 11, 0.5
"""Number of attempts to read an offset that is not there yet, and the pause between them."""
NOT_AWAITED_S = 60.0
"""For how long no offset is waited for after a wait without success, seconds."""


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
        Log read before, of which only the rest is read. A new log by default.
    reader
        An open reader for callers that read often; opening one takes 100 ms.

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
            offset = found.record.offset
            try:
                record = decode_record(codec, found.record)
            except DecodeError as error:
                log.refuse(offset, f"{error.reason}: {error.detail}")
                continue
            if isinstance(record, Control):
                log.append(offset, record)
    log.advance(max(end, log.end))
    return log


def read_refused_watermarks(runtime: Runtime, codec: Codec, log: ControlLog) -> ControlLog:
    """Record in ``log`` which watermarks the stages refused for their offset of ``ops.control``.

    Needed to derive the output again: ``ops.control`` may contain that offset by now.

    Raises
    ------
    Fatal, Recoverable
        The topic ``dead.letters`` does not exist; no broker answers.
    """
    with LogReader(runtime) as reader:
        for partition in reader.partitions(DEAD_LETTERS):
            for batch in reader.read(DEAD_LETTERS, partition):
                for found in batch:
                    if found.record.key != WATERMARK_KEY:
                        continue
                    letter = event_of(codec, found.record)
                    if isinstance(letter, DeadLetter) and letter.reason == Refusal.CONTROL_MISSING:
                        log.refused_watermarks.add((letter.topic, letter.partition, letter.offset))
    return log


def loader(
    runtime: Runtime,
    codec: Codec,
    log: ControlLog,
    looked: Callable[[ControlLog], object] = lambda log: None,
) -> Callable[[int], Awaitable[None]]:
    """Return a function that reads ``log`` up to an offset; stages call it before a batch.

    A missing offset may become visible a little later: waits for it, at most 5 s. After a wait
    without success every offset is read once and not waited for, for a minute or until the log has
    grown: watermarks with offsets that do not exist must not hold up one batch after the other.

    Parameters
    ----------
    looked
        Called with the log whenever new records were read.
    """

    # stages and partitions reach the same watermark at the same time; only one reads the log
    reading = asyncio.Lock()
    end_without_success, not_awaited_until = -1, 0.0

    async def load(upto: int) -> None:
        nonlocal end_without_success, not_awaited_until
        async with reading:
            awaited = log.end != end_without_success or time.monotonic() > not_awaited_until
            for attempt in range(TRIES if awaited else 1):
                if upto <= log.end:
                    return
                await asyncio.sleep(PAUSE_S if attempt else 0)
                looked(await asyncio.to_thread(read_control, runtime, codec, log))
            if awaited and upto > log.end:
                end_without_success, not_awaited_until = log.end, time.monotonic() + NOT_AWAITED_S

    return load


class StampRefused(Recoverable):
    """The broker refused a record whose time stamp is more than an hour ahead of its clock."""


class ControlAppender:
    """Appends to ``ops.control`` repeatedly with one client.

    Parameters
    ----------
    runtime, codec
        The deployment. The client connects in the background. Not thread-safe.
    within_s
        Timeout of an append, seconds.
    """

    def __init__(self, runtime: Runtime, codec: Codec, within_s: float = DELIVERY_SECONDS) -> None:
        self._runtime, self._codec, self._within_s = runtime, codec, within_s
        self._producer: Producer | None = None
        self.connect()

    def connect(self) -> None:
        """Create the client if there is none, so that it is connected before the first record."""
        if self._producer is None:
            # an idempotent producer waits half a second for its id, too long for a kill switch; a
            # duplicate command after a lost acknowledgement has no further effect
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
        Fatal
            A record is invalid, and no reader would take it; nothing was written.
        StampRefused
            This machine's clock is far ahead of theirs; nothing was written.
        Recoverable
            The brokers did not acknowledge in time; none, some or all of the records may be
            written.
        """
        for record in records:
            problem = problem_of(record)
            if problem is not None:
                raise Fatal(f"the {record.kind} record is not written to ops.control: {problem}")
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
        # the client's own timeout comes first, and its error names the reason
        left = producer.flush(self._within_s + 1.0)
        refused = next((one.refused for one in deliveries if one.refused is not None), None)
        if refused is not None or left:
            self._producer = None
            if refused is not None and refused[0].code() == TIMESTAMP_REFUSED:
                raise StampRefused(
                    "the brokers refuse the time stamp of a record of "
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
    """Return the configuration at the end of the log as read, None without one."""
    return log.state(log.end).config


def config_in_force(runtime: Runtime, codec: Codec, here: Config) -> Config:
    """Return the active configuration; the environment's while the log has none.

    Raises
    ------
    Fatal, Recoverable
        As ``read_control``.
    """
    return active_config(read_control(runtime, codec)) or here


def refuse_continuous_market(what: str, config: Config, log: ControlLog) -> None:
    """Refuse real prices and orders in a log of a synthetic market that trades at weekends.

    Parameters
    ----------
    what
        The command that would start.
    config
        The settings of this environment.
    log
        ``ops.control``, read to its end.

    Raises
    ------
    Fatal
        MARKET_CALENDAR=continuous in the active configuration; or in the environment, while no
        configuration is active.
    """
    active = active_config(log)
    if active is not None and active.market_calendar == "continuous":
        raise Fatal(
            f"{what} does not start: MARKET_CALENDAR=continuous is active in ops.control, so the "
            "log belongs to a synthetic market; use a separate log for OANDA (TOPIC_PREFIX)"
        )
    if active is None and config.market_calendar == "continuous":
        raise Fatal(
            f"{what} does not start: MARKET_CALENDAR=continuous is set here, which is for the "
            "synthetic market only; set MARKET_CALENDAR=fx or unset it"
        )


def seed_config(
    runtime: Runtime, codec: Codec, config: Config, log: ControlLog, now_ms: int
) -> ControlLog:
    """Write ``config`` as the active configuration if the log has none.

    Returns
    -------
    ControlLog
        ``log``, read to the end. It contains a configuration, possibly another one.

    Raises
    ------
    Fatal
        It would be the first configuration, and this installation cannot run it.
    """
    if active_config(log) is None:
        require_followable(config)
        said = Control("config", None, config.to_json(), "environment", "first start", now_ms)
        append_control(runtime, codec, [said])
        read_control(runtime, codec, log)
    return log
