"""Whatever decodes: no reader of the log ends because of a record, and none takes a senseless one.

Records of every type are made, most of them with a value that makes no sense, and run through what
the processes compute from the log, without a broker. ``MANIFOLD_INVALID_RECORDS`` says how many.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from copy import deepcopy
from functools import lru_cache
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from prometheus_client import generate_latest

from streams.config.settings import Config, UnknownSettings
from streams.kafka.follower import DecodedRecord
from streams.kafka.reader import LogRecord
from streams.mirror.shapes import Retention, writes_of
from streams.monitoring.describe import gate_view, order_view, weights_view
from streams.monitoring.executor_status import ExecutorState
from streams.monitoring.log_probe import epoch_facts
from streams.monitoring.orders import order_facts
from streams.monitoring.view import LiveView
from streams.monitoring.why import Known, explain
from streams.pipeline.processor import record_key
from streams.pipeline.worker.metrics import WorkerMetrics
from streams.records.codec import DecodeError
from streams.records.control import (
    ControlLog,
    best_config,
    control_key,
    control_problem,
    global_config,
)
from streams.records.events import Control, DeadLetter, GateDecision, Weights
from streams.records.kill_switch import KillSwitch, Unreadable, after
from streams.records.log_record import Output, RecordCoordinates, SourceRecord
from streams.records.topics import CONTROL, DEAD_LETTERS
from streams.records.trading_events import AccountState, BrokerReport, OrderIntent
from streams.records.validation import VALID, problem_of, stamp_problem
from streams.replay.report.accumulate import ReportAccumulator
from streams.replay.report.data import ReportMeta
from streams.replay.report.page import report_json
from streams.replay.tail import record_json
from streams.service.channels import frame_of
from streams.service.metrics import ServiceMetrics
from streams.trading.account_command import record_account
from streams.trading.kill_switch.reader import KillSwitchState
from streams.trading.ledger import Ledger
from streams.trading.operator_commands import commands_of
from streams.trading.operator_orders import orders_of
from streams.trading.runs import Runs, WeightsHistory
from streams.trading.start import apply_order_log as fold_orders
from tests.property.pipeline.test_stages_property import STAGES, control, one_log, whole
from tests.property.replay.test_verify_columns import batches
from tests.support.invalid_records import CODEC, Made, records
from tests.support.sample_events import BARE_SAMPLES, SAMPLES
from tests.support.stage_bench import Bench, essence

TOTAL = int(os.environ.get("MANIFOLD_INVALID_RECORDS", "20000"))
AT_ONCE = 250
ROUNDS = -(-TOTAL // AT_ONCE)
SEEDS = st.integers(0, 2**32)
NOW_MS = 1_704_880_800_000
FOLDS = settings(
    max_examples=ROUNDS,
    deadline=None,
    database=None,
    phases=[Phase.generate],  # a seed does not shrink
    report_multiple_bugs=False,
)


def decoded(made: Made) -> Any:
    try:
        event = CODEC.decode(made.topic, made.value)
        if isinstance(event, Control):
            control_problem(event)
    except (DecodeError, UnknownSettings):
        return None  # settings of a newer version end a reader, which says so
    return event


def refused_by_codec(made: Made) -> bool:
    try:
        CODEC.decode(made.topic, made.value)
    except DecodeError:
        return True
    return False


def test_every_sample_is_valid() -> None:
    for event in (*SAMPLES.values(), *BARE_SAMPLES.values()):
        assert problem_of(event) is None
    assert {type(event) for event in SAMPLES.values()} <= set(VALID)


def test_what_only_some_records_of_the_product_have_is_valid() -> None:
    order: Any = SAMPLES["OrderIntent"]
    report: Any = SAMPLES["BrokerReport"]
    candle: Any = SAMPLES["Candle"]
    for event in (
        order._replace(entry_bar_ms=-1),  # an operator's order
        order._replace(placed_ms=0, bar_ms=order.as_of_ms),
        report._replace(time_ms=0, side="", price=None, reason=None),
        report._replace(realized_pl=-1e9, nav=-5.0),
        candle._replace(volume=None, bid=None),
        candle._replace(volume=2**63 - 1),
    ):
        assert problem_of(event) is None


def test_the_records_are_of_all_types_valid_and_invalid() -> None:
    found = Counter((type(m.event), decoded(m) is not None) for m in records(1, 3_000))
    assert found.keys() >= {(type(e), ok) for e in SAMPLES.values() for ok in (True, False)}


@FOLDS
@given(SEEDS)
def test_every_reader_takes_every_record(seed: int) -> None:
    made = list(records(seed, AT_ONCE))
    for one in made:
        decoded_or_described(one)
    view_and_why(made)
    mirrored(made)
    ledger_of(made)
    control_of(made)
    executed(made)
    if seed % 16 == 0:  # takes a second
        reported(made)
    for stage in STAGES:
        staged(stage, made)


def decoded_or_described(made: Made) -> None:
    """``manifold tail`` prints every record."""
    record = SourceRecord(made.topic, 0, 7, made.timestamp_ms, made.key, made.value)
    shown = record_json(CODEC, LogRecord(record, {}), made.topic)
    assert json.dumps(shown)
    early = stamp_problem(made.event, made.timestamp_ms)
    assert ("invalid" in shown) == (refused_by_codec(made) or early is not None)
    try:
        event = CODEC.decode(made.topic, made.value)
    except DecodeError as error:
        assert error.detail
        assert len(error.detail) < 1_000
    else:
        assert problem_of(event) is None


def view_and_why(made: Sequence[Made]) -> None:
    view = LiveView()
    for offset, one in enumerate(made):
        try:
            event: Any = CODEC.decode(one.topic, one.value)
        except DecodeError:
            if one.topic == CONTROL:
                view.control.refuse(offset, "invalid")
            continue
        place = RecordCoordinates(one.topic, 0, offset)
        view.apply(place, event)
        frame = frame_of(place, one.timestamp_ms, event, view.state, 60)
        assert frame is None or json.loads(frame.text, parse_constant=refuse_constant)
        if isinstance(event, GateDecision):
            json.dumps(gate_view(event, view.config), allow_nan=False)
        elif isinstance(event, Weights):
            json.dumps([weights_view(event), epoch_facts(event)], allow_nan=False)
    orders = [json.dumps(order_view(*pair)) for pair in view.newest_orders(50)]
    assert len(orders) <= 50
    order_facts(view.orders.values(), view.reports, NOW_MS, 3_600_000)
    kill = KillSwitchState(True, ("test",), None, "", "", None, None, None)
    executor = ExecutorState("absent", None, "no executor")
    known = Known(view, view.config or Config(), kill, executor, NOW_MS)
    for name in (*view.instruments[:3], "EUR_USD"):
        json.dumps(explain(name, known).as_dict(), allow_nan=False)


def refuse_constant(text: str) -> None:
    raise AssertionError(f"{text} is not JSON")


def mirrored(made: Sequence[Made]) -> None:
    for one in made:
        event = decoded(one)
        for write in () if event is None else writes_of(event, 60, Retention(100, 100)):
            for text in (getattr(write, "value", ""), getattr(write, "member", "")):
                if text[:1] in "{[":
                    json.loads(text or "{}", parse_constant=refuse_constant)


def ledger_of(made: Sequence[Made]) -> None:
    for account, mode in (("101-004-1-001", "practice"), ("paper", "paper")):
        ledger = Ledger(account, mode)
        for one in made:
            event = decoded(one)
            if isinstance(event, OrderIntent):
                ledger.take_intent(event)
            elif isinstance(event, BrokerReport):
                ledger.take_report(event)
            elif isinstance(event, AccountState):
                ledger.take_state(event)
        for held in ledger.holdings.values():
            assert held.units >= 0


def control_of(made: Sequence[Made]) -> None:
    log, switch = ControlLog(), KillSwitch()
    for offset, one in enumerate(made):
        if one.topic != CONTROL:
            continue
        try:
            event: Any = CODEC.decode(CONTROL, one.value)
        except DecodeError as error:
            log.refuse(offset, str(error))
            kind = error.event.kind if isinstance(error.event, Control) else ""
            was = switch
            switch = after(switch, offset, Unreadable(one.key, str(error), one.timestamp_ms, kind))
            assert switch.engaged if kind == "kill_switch" else not kind or switch == was
            continue
        if decoded(one) is None:
            continue
        log.append(offset, event)
        switch = after(switch, offset, event)
        if (offset, event) in log.records[-1:]:
            control_key(event)
            if event.kind == "params":
                json.dumps(best_config(event), allow_nan=False)
            elif event.kind == "config":
                json.dumps(global_config(event), allow_nan=False)
    state = log.state(log.end)
    for name in ("EUR_USD", *state.params):
        state.config_of(name)
    for at_ms in (0, NOW_MS, 1 << 62):
        state.universe.members(at_ms)
    commands_of(log.records, "paper")


def executed(made: Sequence[Made]) -> None:
    """What an executor reads at its start, and goes on to follow."""
    runs, allocation, ledger = Runs(), WeightsHistory(), Ledger("paper", "paper")
    found = [
        DecodedRecord(one.topic, 0, offset, event, "sep.manifolds-0-7")
        for offset, one in enumerate(made)
        if (event := decoded(one)) is not None
    ]
    fold_orders(ledger, found)
    for one in found:
        if isinstance(one.event, GateDecision):
            runs.take(one.event, one.source)
        elif isinstance(one.event, Weights):
            allocation.take(one.event)
        elif isinstance(one.event, Control):
            record_account(one.event)
    orders_of([(one.offset, one.event) for one in found if isinstance(one.event, Control)], "paper")


@lru_cache
def metrics() -> tuple[WorkerMetrics, ServiceMetrics]:
    return WorkerMetrics(), ServiceMetrics()


def reported(made: Sequence[Made]) -> None:
    """The report of the log, and the metrics of what is derived."""
    accumulator, view = ReportAccumulator(), LiveView()
    worker, service = metrics()
    for offset, one in enumerate(made):
        event = decoded(one)
        if event is None:
            continue
        accumulator.add_event(event)
        view.apply(RecordCoordinates(one.topic, 0, offset), event)
        source = SourceRecord(one.topic, 0, offset, one.timestamp_ms, one.key, one.value)
        output = Output(one.topic, 0, one.key or b"", one.value, one.timestamp_ms, (), event)
        worker.processed("gates", 0, [source], [output], 0.1)
    service.show_view(view)
    generate_latest(worker.registry)
    generate_latest(service.registry)
    report = accumulator.finish(ReportMeta())
    assert report_json(report)


@lru_cache
def open_stage(stage: str) -> Bench:
    partition, log = one_log(stage)
    bench = Bench(stage, deepcopy(control()), partition)  # it keeps what was refused
    bench.fold(log[:150])
    return bench


def staged(stage: str, made: Sequence[Made]) -> None:
    bench = open_stage(stage)
    bench.offset = max(bench.offset, 1_000)
    for one in made:
        if one.topic != bench.stage.source and len(one.value) % 8:
            continue
        event = decoded(one)
        if event is not None and getattr(event, "control_offset", 0) > control().end:
            continue  # a watermark of control that is not there yet
        record = bench.record(one.value, one.key)._replace(timestamp_ms=one.timestamp_ms)
        outputs = bench.fold([record])
        letters = [o for o in outputs if isinstance(o.event, DeadLetter)]
        assert len(letters) <= 1
        assert not letters or len(outputs) == 1
        for output in outputs:
            assert problem_of(output.event) is None
            assert output.key == record_key(output.event)
    bench.restart()


# -- between valid records -----------------------------------------------------------------------


def refused(made: Made, source: str) -> bool:
    """Return whether a stage must make a dead letter of the record."""
    try:
        event = CODEC.decode(source, made.value)
    except DecodeError:
        return True
    return made.key != record_key(event) or made.timestamp_ms < getattr(event, "as_of_ms", 0)


def intruders(seed: int, source: str, count: int) -> Iterator[Made]:
    for one in records(seed, 100_000):
        if count and refused(one, source):
            count -= 1
            yield one
        if not count:
            return


@pytest.mark.parametrize("stage", STAGES)
@settings(
    max_examples=max(6, ROUNDS // 4),
    deadline=None,
    database=None,
    phases=[Phase.generate],
    report_multiple_bugs=False,
)
@given(SEEDS, st.data())
def test_an_invalid_record_changes_nothing_but_its_own_dead_letter(
    stage: str, seed: int, data: st.DataObject
) -> None:
    partition, log = one_log(stage)
    places = sorted(data.draw(st.lists(st.integers(0, len(log)), min_size=1, max_size=40)))
    bench = Bench(stage, deepcopy(control()), partition)  # it keeps what was refused
    mixed, start = [], 0
    for place, one in zip(places, intruders(seed, bench.stage.source, len(places)), strict=True):
        mixed += log[start:place]
        strange = SourceRecord(
            bench.stage.source, partition, 0, one.timestamp_ms, one.key, one.value
        )
        mixed.append(strange)
        start = place
    mixed = [r._replace(offset=n) for n, r in enumerate([*mixed, *log[start:]])]
    outputs: list[Output] = []
    for batch in batches(mixed, data.draw(st.integers(1, 200))):
        outputs += bench.fold(batch)
    wanted, rows = whole(stage)
    letters = [o for o in wanted if o.topic == DEAD_LETTERS]
    found = [o for o in outputs if o.topic != DEAD_LETTERS]
    assert [essence(o) for o in found] == [essence(o) for o in wanted if o.topic != DEAD_LETTERS]
    assert len(outputs) - len(found) == len(letters) + len(places)
    assert bench.rows == rows
