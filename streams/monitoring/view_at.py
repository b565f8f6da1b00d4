"""Reads the state of one instrument from the log, now or at a past instant, for one answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.kafka.control_topic import read_control
from streams.kafka.partitioner import partition_of
from streams.kafka.reader import LogReader
from streams.monitoring.executor_status import NOT_ASKED, ExecutorState
from streams.monitoring.status import backwards, events_between
from streams.monitoring.view import LiveView
from streams.monitoring.why import Known
from streams.records.codec import Codec
from streams.records.control import ControlLog
from streams.records.events import Event, GateDecision, Weights
from streams.records.kill_switch import fold_kill_switch
from streams.records.log_record import RecordCoordinates
from streams.records.topics import CANDLES, FILLS, GATES, ORDERS, SIGNALS, WEIGHTS
from streams.records.trading_events import BrokerReport, OrderIntent
from streams.trading.holdings import Holding
from streams.trading.kill_switch.reader import KillSwitchState
from streams.trading.ledger import Ledger


class Read(NamedTuple):
    """The state read from the log.

    Attributes
    ----------
    held
        Account -> the executor's position in the instrument.
    """

    view: LiveView
    held: dict[str, Holding]


def read_instrument(
    runtime: Runtime, codec: Codec, instrument: str, at_ms: int | None = None
) -> Read:
    """Return the state of an instrument in the log, as of now or of an instant (epoch ms).

    Raises
    ------
    Fatal, Recoverable
        A topic is missing; no broker answers.
    """
    view = LiveView(_until(read_control(runtime, codec), at_ms))
    with LogReader(runtime) as reader:
        keyed = partition_of(instrument.encode(), len(reader.partitions(CANDLES)))
        for topic, partition in ((CANDLES, keyed), (SIGNALS, keyed), (GATES, 0), (WEIGHTS, 0)):
            # the gates' one partition is in the order of arrival: while candles are caught up one
            # instrument's later decisions may lie before another's earlier ones
            end = None
            if at_ms is not None and topic != GATES:
                end = reader.offset_at(topic, partition, at_ms + 1)
            event = _latest(reader, codec, topic, partition, instrument, end, at_ms)
            if event is not None:
                view.apply(RecordCoordinates(topic, partition, 0), event)
        held = _orders(reader, codec, instrument, view, at_ms)
    return Read(view, held)


def known_in_the_past(read: Read, config: Config, at_ms: int) -> Known:
    """Return the input of an explanation as of a past instant."""
    said = fold_kill_switch(read.view.control.records)
    kill_switch = KillSwitchState(
        said.engaged, said.why, said.since_ms, said.actor, said.reason, said.offset, said, None
    )
    return Known(
        read.view, read.view.config or config, kill_switch, NOT_ASKED, at_ms, True, read.held
    )


def known_now(
    read: Read, config: Config, kill_switch: KillSwitchState, executor: ExecutorState, now_ms: int
) -> Known:
    """Return the input of an explanation as of now."""
    view = read.view
    return Known(view, view.config or config, kill_switch, executor, now_ms, False, read.held)


def _until(control: ControlLog, at_ms: int | None) -> ControlLog:
    """Return ``ops.control`` as of an instant: up to the first later record."""
    if at_ms is None:
        return control
    then = ControlLog()
    for offset, record in control.records:
        if record.as_of_ms > at_ms:
            break
        then.append(offset, record)
    return then


def _latest(
    reader: LogReader,
    codec: Codec,
    topic: str,
    partition: int,
    instrument: str,
    end: int | None,
    at_ms: int | None,
) -> Event | None:
    for events in backwards(reader, codec, topic, partition, end):
        for event in reversed(events):
            if isinstance(event, GateDecision) and at_ms is not None and event.as_of_ms > at_ms:
                continue
            if isinstance(event, Weights) or getattr(event, "instrument", None) == instrument:
                return event
    return None


def _orders(
    reader: LogReader, codec: Codec, instrument: str, view: LiveView, at_ms: int | None
) -> dict[str, Holding]:
    """Apply the orders of an instrument to the view; return the open position per account."""
    keyed = partition_of(instrument.encode(), len(reader.partitions(ORDERS)))
    books: dict[str, Ledger] = {}
    for topic in (ORDERS, FILLS):
        for event in _of(reader, codec, topic, keyed, instrument, at_ms):
            view.apply(RecordCoordinates(topic, keyed, 0), event)
            if isinstance(event, OrderIntent):
                made = Ledger(event.account_id, event.mode)
                books.setdefault(event.account_id, made).take_intent(event)
            elif event.account_id in books:
                books[event.account_id].take_report(event)
    return {
        account: ledger.holdings[instrument]
        for account, ledger in books.items()
        if instrument in ledger.holdings
    }


def _of(
    reader: LogReader, codec: Codec, topic: str, partition: int, instrument: str, at_ms: int | None
) -> Iterator[OrderIntent | BrokerReport]:
    low, high = reader.bounds(topic, partition)
    for event in events_between(reader, codec, topic, partition, low, high):
        if not isinstance(event, OrderIntent | BrokerReport) or event.instrument != instrument:
            continue
        if at_ms is None or _known_ms(event) <= at_ms:
            yield event


def _known_ms(event: OrderIntent | BrokerReport) -> int:
    """Return when a record was written: an order may follow a much older decision."""
    return event.placed_ms if isinstance(event, OrderIntent) else event.as_of_ms
