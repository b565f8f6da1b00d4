"""Creates an executor: fences the former one, then reads its state from the log."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.config.trading import Trading
from streams.kafka.control_topic import read_control, seed_config
from streams.kafka.follower import DecodedRecord, LogFollower, PartitionKey, invalid_record
from streams.kafka.reader import LogReader, LogRecord
from streams.kafka.spans import Span, full_range, read_spans
from streams.records.codec import Codec
from streams.records.config_following import FollowedConfig
from streams.records.control import ControlLog
from streams.records.events import Candle, GateDecision, Weights
from streams.records.log_record import InvalidRecord
from streams.records.topics import CANDLES, CONTROL, FILLS, GATES, ORDERS, WEIGHTS
from streams.records.trading_events import AccountState, BrokerReport, OrderIntent
from streams.records.validation import problem_of
from streams.trading.brokers.broker import Broker
from streams.trading.brokers.paper_book import PaperRules
from streams.trading.context import ExecutorContext
from streams.trading.decision_checks import DecisionChecks
from streams.trading.decision_rules import KnownInputs
from streams.trading.dispatch import Dispatch, KillSwitchSource
from streams.trading.journal import Journal
from streams.trading.ledger import Ledger
from streams.trading.log_inputs import TAIL as CANDLE_TAIL
from streams.trading.log_inputs import LogInputs
from streams.trading.metrics import ExecutorMetrics
from streams.trading.nav_history import NavPoint
from streams.trading.operator_commands import commands_of
from streams.trading.order_log import why_blocked
from streams.trading.paper import PaperBroker
from streams.trading.runs import Runs, WeightsHistory

log = logging.getLogger("manifold.executor")

TAIL = 5_000
"""Minimum number of records read per partition: enough for the last decisions and prices."""


async def open_parts(
    runtime: Runtime,
    codec: Codec,
    trading: Trading,
    config: Config,
    kill: KillSwitchSource,
    venue: Broker | None,
    *,
    only_flatten: bool = False,
) -> ExecutorContext:
    """Take an account over and return the parts of its executor.

    Parameters
    ----------
    config
        The settings of this environment; the active ones are followed.
    venue
        The broker; None for the paper account.
    only_flatten
        Whether it only closes, which works under any configuration.

    Raises
    ------
    Fatal
        The active configuration cannot be followed, or a topic is missing.
    Recoverable
        A broker does not answer.
    """
    account_id = venue.account_id if venue is not None else trading.paper_account_id
    mode = venue.mode if venue is not None else "paper"
    journal = await asyncio.to_thread(Journal, runtime, codec, account_id)
    followed = FollowedConfig(config)
    control = await asyncio.to_thread(_control, runtime, codec, config)
    active = followed.look(control, refuse=not only_flatten)
    ledger = Ledger(account_id, mode)
    spans = await asyncio.to_thread(fold_orders, runtime, codec, ledger)
    decisions, decided = await asyncio.to_thread(_decided, runtime, codec, ledger)
    broker = venue
    if broker is None:
        broker = PaperBroker(_rules(trading, active), active.granularity_ms, ledger)
    paper = broker if isinstance(broker, PaperBroker) else None
    back, resume_ms = (TAIL, paper.resume_ms) if paper else (CANDLE_TAIL, {})
    candles, found = await asyncio.to_thread(_candles, runtime, codec, back, resume_ms)
    spans |= decisions | candles
    inputs = KnownInputs(len(candles))
    for one in found:
        inputs.take_input(one.partition, one.event)
    if paper:
        recall(paper, found, active.candle_gran)
    if ledger.intents:
        broker.expect_access()
    cursor = ledger.cursor or (await broker.account()).last_transaction_id
    metrics = ExecutorMetrics(followed)
    metrics.invalid.set(len(ledger.invalid))
    blocked = why_blocked(ledger.invalid, commands_of(control.records, account_id).checked)
    if blocked:
        log.error("%s", blocked)
    partitions = [partition for _, partition in candles]
    checks = DecisionChecks(inputs, LogInputs(runtime, codec, partitions), control, metrics)
    for one in decided:  # they wait for the first answer about committed offsets
        if isinstance(one.event, GateDecision | Weights):
            checks.arrive(one)
    joined = {n: held.joined for n, held in ledger.holdings.items() if not held.by_operator}
    ends = {place: end for place, (_, end) in spans.items()} | {(CONTROL, 0): control.end}
    return ExecutorContext(
        runtime, codec, trading, control, broker, ledger, Runs(joined), WeightsHistory(),
        LogFollower(runtime, codec, ends, report_invalid=(ORDERS, FILLS)),
        Dispatch(journal, broker, ledger, kill, metrics, cursor), kill, metrics,
        followed, checks,
    )  # fmt: skip


def _control(runtime: Runtime, codec: Codec, config: Config) -> ControlLog:
    log = read_control(runtime, codec)
    return seed_config(runtime, codec, config, log, int(time.time() * 1000))


def _rules(trading: Trading, config: Config) -> PaperRules:
    return PaperRules(
        trading.paper_account_id,
        trading.paper_balance,
        trading.paper_currency,
        trading.paper_margin_rate,
        config.backtest_cost_bps,
    )


def fold_orders(runtime: Runtime, codec: Codec, ledger: Ledger) -> dict[PartitionKey, Span]:
    """Read the whole order log into a ledger; invalid records are listed in ``ledger.invalid``.

    Returns
    -------
    dict
        The offset ranges that were read.

    Raises
    ------
    Fatal
        A topic is missing.
    Recoverable
        No broker answers.
    """
    with LogReader(runtime) as reader:
        refused: list[LogRecord] = []
        spans = full_range(reader, (ORDERS, FILLS))
        found = read_spans(reader, codec, spans, refused)
    ledger.invalid += [invalid_record(codec, one) for one in refused]
    apply_order_log(ledger, found)
    return spans


def apply_order_log(ledger: Ledger, found: Iterable[DecodedRecord]) -> None:
    """Apply the order log to a ledger: intents, then reports.

    Within an instrument in log order; NAV values by time, from the newest record of the limits'
    reference values on. Records that are invalid are left out and listed in ``ledger.invalid``.
    """
    records = [one for one in found if _valid(ledger, one)]
    worth: list[tuple[int, float | None]] = []
    states: list[NavPoint] = []
    for one in records:
        if isinstance(one.event, OrderIntent):
            _apply(ledger, one, ledger.take_intent)
            if one.event.order_id in ledger.intents:
                worth.append((one.event.placed_ms, one.event.nav))
    for one in records:
        if isinstance(one.event, BrokerReport):
            _apply(ledger, one, ledger.take_report)
            if one.event.order_id in ledger.intents:
                worth.append((one.event.time_ms, one.event.nav))
    for one in records:
        if isinstance(one.event, AccountState):
            _apply(ledger, one, ledger.take_state)
            if ledger.state is one.event:
                states.append(NavPoint(one.event.as_of_ms, one.event.nav, one.event.amount))
    for at_ms, nav in sorted(worth, key=lambda pair: pair[0]):
        ledger.observe(at_ms, nav)
    told = [NavPoint(at_ms, nav) for at_ms, nav in worth if nav is not None]
    ledger.nav_history.recall([*states, *told])


def _valid(ledger: Ledger, one: DecodedRecord) -> bool:
    problem = problem_of(one.event)
    if problem is not None:
        ledger.invalid.append(InvalidRecord(one.topic, one.partition, one.offset, problem))
    return problem is None


def _apply(ledger: Ledger, one: DecodedRecord, take: Callable[[Any], None]) -> None:
    try:
        take(one.event)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        problem = f"it cannot be applied: {type(error).__name__}: {error}"
        ledger.invalid.append(InvalidRecord(one.topic, one.partition, one.offset, problem))


def _decided(
    runtime: Runtime, codec: Codec, ledger: Ledger
) -> tuple[dict[PartitionKey, Span], list[DecodedRecord]]:
    entries = [held.entry_ms for held in ledger.holdings.values() if not held.by_operator]
    with LogReader(runtime) as reader:
        spans = {}
        for topic in (GATES, WEIGHTS):
            low, end = reader.bounds(topic, 0)
            start = max(low, end - TAIL)
            if entries and topic == GATES:
                start = min(start, reader.offset_at(topic, 0, min(entries)))
            spans[topic, 0] = (start, end)
        return spans, read_spans(reader, codec, spans)


def _candles(
    runtime: Runtime, codec: Codec, back: int, resume_ms: Mapping[str, int]
) -> tuple[dict[PartitionKey, Span], list[DecodedRecord]]:
    with LogReader(runtime) as reader:
        spans = {}
        for place, (low, end) in full_range(reader, (CANDLES,)).items():
            start = max(low, end - back)
            if resume_ms:
                start = min(start, reader.offset_at(*place, min(resume_ms.values())))
            spans[place] = (start, end)
        return spans, read_spans(reader, codec, spans)


def recall(broker: PaperBroker, found: Iterable[DecodedRecord], granularity: str) -> None:
    """Apply the candles of the log to a paper account.

    By time across partitions, because the value of one instrument's fill may need the price of
    another.
    """
    candles = [c.event for c in found if isinstance(c.event, Candle)]
    for candle in sorted(candles, key=lambda c: c.as_of_ms):
        if candle.granularity == granularity:
            broker.recall(candle)
