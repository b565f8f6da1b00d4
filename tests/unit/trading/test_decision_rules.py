"""Which decisions and weights an executor acts on, and which no stage can have written."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from typing import Any

import pytest

from streams.errors import Recoverable
from streams.kafka.follower import DecodedRecord
from streams.kafka.partitioner import partition_of
from streams.process.clock_skew import MAX_SKEW_MS
from streams.records.control import ControlLog
from streams.records.events import Control, Event, Watermark
from streams.records.reasons import DecisionRefusal as Because
from streams.records.topics import CANDLES, GATES, MANIFOLDS, WEIGHTS
from streams.trading.decision_checks import ANSWER_S, CANDLE_WAIT_S, WAIT_S, DecisionChecks
from streams.trading.decision_rules import KnownInputs
from streams.trading.metrics import ExecutorMetrics
from tests.support.execution_bench import decision, weights
from tests.support.executor_stand import CONFIG

MINUTE = 60_000
NOW_MS = int(time.time() * 1000) // MINUTE * MINUTE
BAR_MS = NOW_MS - 3_600_000
"""End of the newest bar in md.candles, an hour ago."""
YEAR_2096 = 3_976_214_400_000
COMMITTED = 40
LAST_MANIFOLD = f"{MANIFOLDS}-0-39"


def control_log() -> ControlLog:
    """Return a log whose configuration is at offset 1."""
    log = ControlLog()
    log.append(0, Control("pause", "EUR_USD", "{}", "test", "test", 0))
    log.append(1, Control("config", None, CONFIG.to_json(), "test", "test", 0))
    return log


def known_inputs() -> KnownInputs:
    """Return inputs of EUR_USD up to BAR_MS, and of GBP_USD up to a minute later."""
    inputs = KnownInputs()
    inputs.take_input(0, Watermark(BAR_MS, "M1", 2, ("EUR_USD",)))
    inputs.take_input(1, Watermark(BAR_MS + MINUTE, "M1", 2, ("GBP_USD",)))
    inputs.take_committed({(MANIFOLDS, 0): COMMITTED, (GATES, 0): COMMITTED})
    return inputs


def decided(
    as_of_ms: int = BAR_MS, source: str = f"{MANIFOLDS}-0-39", **more: Any
) -> DecodedRecord:
    fields = {"instrument": "EUR_USD", "control_offset": 2, "granularity": "M1"} | more
    made = decision(0, 1, bar_ms=as_of_ms - MINUTE, as_of_ms=as_of_ms, **fields)
    return DecodedRecord(GATES, 0, 7, made, source)


def weighed(as_of_ms: int = BAR_MS, source: str = f"{GATES}-0-39", **more: Any) -> DecodedRecord:
    times = {"as_of_ms": as_of_ms, "epoch_ms": as_of_ms, "bar_ms": as_of_ms - MINUTE}
    made = weights(0, EUR_USD=0.05)._replace(**{"control_offset": 2} | times | more)
    return DecodedRecord(WEIGHTS, 0, 7, made, source)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (decided(), None),
        (decided(BAR_MS - 3 * MINUTE), None),
        (decided(YEAR_2096), Because.AFTER_CLOCK),
        (decided(NOW_MS + 2 * MAX_SKEW_MS), Because.AFTER_CLOCK),
        (decided(BAR_MS + 1), Because.AFTER_CANDLES),
        (decided(BAR_MS + MINUTE), Because.AFTER_CANDLES),
        (decided(BAR_MS + MINUTE, instrument="GBP_USD"), None),
        (decided(BAR_MS + 2 * MINUTE, instrument="GBP_USD"), Because.AFTER_CANDLES),
        (decided(granularity="H1"), Because.AFTER_CANDLES),
        (decided(instrument="AUD_USD"), None),
        (decided(BAR_MS + MINUTE, instrument="AUD_USD"), Because.AFTER_CANDLES),
        (decided(instrument="AUD_USD", source=f"{MANIFOLDS}-9-0"), Because.AFTER_CANDLES),
        (decided(source=f"{MANIFOLDS}-0-{COMMITTED}"), Because.SOURCE_NOT_COMMITTED),
        (decided(source=f"{MANIFOLDS}-1-0"), Because.SOURCE_NOT_COMMITTED),
        (decided(source=""), Because.SOURCE_INVALID),
        (decided(source="sep.manifolds-0-x"), Because.SOURCE_INVALID),
        (decided(source=f"{CANDLES}-0-39"), Because.SOURCE_INVALID),
        (decided(control_offset=1), Because.CONTROL_MISSING),
        (decided(control_offset=3), Because.CONTROL_MISSING),
        (weighed(), None),
        (weighed(BAR_MS + MINUTE), None),
        (weighed(YEAR_2096), Because.AFTER_CLOCK),
        (weighed(BAR_MS + 2 * MINUTE), Because.AFTER_CANDLES),
        (weighed(source=f"{GATES}-0-{COMMITTED}"), Because.SOURCE_NOT_COMMITTED),
        (weighed(source=f"{MANIFOLDS}-0-39"), Because.SOURCE_INVALID),
        (weighed(control_offset=9), Because.CONTROL_MISSING),
    ],
)
def test_what_contradicts_the_inputs_is_named(
    record: DecodedRecord, reason: Because | None
) -> None:
    found = known_inputs().contradiction(record, NOW_MS, control_log())
    assert (found and found.reason) == reason, found
    assert found is None or found.detail


def test_a_committed_offset_stays_committed() -> None:
    inputs = known_inputs()
    inputs.take_committed({(MANIFOLDS, 0): 3})
    assert inputs.contradiction(decided(), NOW_MS, control_log()) is None


def test_a_later_decision_has_a_later_source_in_the_partition_of_its_instrument() -> None:
    inputs = known_inputs()
    inputs.take_decision(decided(BAR_MS - MINUTE, f"{MANIFOLDS}-0-30"))
    inputs.take_decision(decided(BAR_MS - 2 * MINUTE, f"{MANIFOLDS}-0-39"))
    for offset, reason in ((29, Because.SOURCE_INVALID), (30, Because.SOURCE_INVALID), (31, None)):
        found = inputs.contradiction(
            decided(BAR_MS, f"{MANIFOLDS}-0-{offset}"), NOW_MS, control_log()
        )
        assert (found and found.reason) == reason
    old = decided(BAR_MS - MINUTE, f"{MANIFOLDS}-0-3")
    assert inputs.contradiction(old, NOW_MS, control_log()) is None, "no news in any case"
    for count in (2, 3, 7):
        own, checked = partition_of(b"EUR_USD", count), KnownInputs(count)
        checked.take_input(0, Watermark(BAR_MS, "M1", 2, ("EUR_USD",)))
        checked.take_committed({(MANIFOLDS, p): COMMITTED for p in range(count)})
        for partition in range(count):
            found = checked.contradiction(
                decided(source=f"{MANIFOLDS}-{partition}-1"), NOW_MS, control_log()
            )
            assert (found is None) == (partition == own), (partition, own, found)


class Answers:
    """The brokers: what they answer, and how often they were asked."""

    def __init__(self) -> None:
        self.offsets = {(MANIFOLDS, 0): COMMITTED, (GATES, 0): COMMITTED}
        self.candles: list[DecodedRecord] = []
        self.away = False
        self.sources: dict[str, Event] = {}
        self.asked: list[Collection[int] | None] = []
        self.requests = 0

    def committed(self, timeout_s: float) -> dict[tuple[str, int], int]:
        """Return the committed offsets."""
        self.requests += 1
        if self.away:
            raise Recoverable("no broker answers")
        return dict(self.offsets)

    def newest(self, partitions: Collection[int] | None) -> list[DecodedRecord]:
        """Return the end of md.candles."""
        self.asked.append(partitions)
        return self.candles

    def source_of(self, record: DecodedRecord) -> Event | None:
        """Return the record that a decision names as its source."""
        return self.sources.get(record.source)


class Checked:
    """Checks with a clock of their own."""

    def __init__(self, inputs: KnownInputs | None = None) -> None:
        self.now, self.answers, self.metrics = 100.0, Answers(), ExecutorMetrics()
        self.checks = DecisionChecks(
            known_inputs() if inputs is None else inputs, self.answers, control_log(),
            self.metrics, lambda: self.now,
        )  # fmt: skip

    def ask(self, after_s: float = 0.0) -> list[DecodedRecord]:
        """Let time pass, ask, and return what may be acted on."""
        self.now += after_s
        asyncio.run(self.checks.ask())
        return self.checks.release()

    @property
    def reasons(self) -> list[str]:
        """The reasons of what was refused, oldest first."""
        return [one.reason for one in reversed(self.checks.refused)]


def test_what_is_covered_by_a_known_commit_is_acted_on_without_a_request() -> None:
    at = Checked()
    assert at.checks.arrive(decided()) and at.checks.arrive(weighed())
    assert at.checks.next_s() is None and at.answers.requests == 0


def test_an_offset_commit_that_becomes_visible_later_is_waited_for() -> None:
    at, record = Checked(), decided(source=f"{MANIFOLDS}-0-41")
    assert not at.checks.arrive(record)
    assert at.checks.next_s() == 0.0
    assert at.ask() == []
    assert at.ask(WAIT_S - 0.1) == [] and not at.checks.refused
    at.answers.offsets[MANIFOLDS, 0] = 42
    assert at.ask() == [record]
    assert at.checks.next_s() is None and not at.checks.refused and not at.checks.trouble


def test_an_offset_that_is_not_committed_in_time_is_refused_and_counted() -> None:
    at, forged = Checked(), decided(source=f"{MANIFOLDS}-0-1000041")
    assert not at.checks.arrive(forged)
    assert at.ask(WAIT_S) == []
    (found,) = at.checks.refused
    assert found.reason == Because.SOURCE_NOT_COMMITTED and found.instrument == "EUR_USD"
    assert "committed up to offset 40" in found.detail and found.offset == 7
    assert at.checks.next_s() is None and not at.checks.trouble and not at.checks.unconfirmed
    labels = {"topic": GATES, "reason": "source_not_committed"}
    value = at.metrics.registry.get_sample_value("manifold_refused_decisions_total", labels)
    assert value == 1.0


def test_a_forged_one_that_waits_holds_up_no_true_one() -> None:
    at = Checked()
    assert not at.checks.arrive(decided(source=f"{MANIFOLDS}-0-1000041"))
    assert at.checks.arrive(decided()) and at.checks.arrive(weighed())


def test_a_later_record_of_a_partition_releases_the_earlier_ones_first() -> None:
    at = Checked()
    first, second = (decided(BAR_MS - n * MINUTE, f"{MANIFOLDS}-0-{42 - n}") for n in (1, 0))
    assert not at.checks.arrive(first) and not at.checks.arrive(second)
    at.answers.offsets[MANIFOLDS, 0] = 43
    assert at.ask() == [first, second]


def test_one_after_the_newest_candle_is_refused_after_reading_the_end_of_the_candles() -> None:
    at = Checked()
    assert not at.checks.arrive(decided(BAR_MS + MINUTE))
    assert at.ask() == [] and at.answers.asked == [] and not at.checks.refused
    assert at.ask(CANDLE_WAIT_S) == [] and at.answers.asked == [{0}]
    assert at.reasons == ["after_candles"]
    assert not at.checks.arrive(weighed(BAR_MS + 2 * MINUTE))
    assert at.ask(CANDLE_WAIT_S) == [] and at.answers.asked == [{0}, None]
    assert at.reasons == ["after_candles"] * 2


def test_a_candle_that_was_not_read_yet_is_found_at_the_end_of_the_log() -> None:
    at, record = Checked(), decided(BAR_MS + MINUTE)
    assert not at.checks.arrive(record)
    there = Watermark(BAR_MS + MINUTE, "M1", 2, ("EUR_USD",))
    at.answers.candles = [DecodedRecord(CANDLES, 0, 5, there, "")]
    assert at.ask(CANDLE_WAIT_S) == [record] and not at.checks.refused


def test_a_candle_found_late_gives_the_offset_its_full_time() -> None:
    at, record = Checked(), decided(BAR_MS + MINUTE, f"{MANIFOLDS}-0-41")
    assert not at.checks.arrive(record)
    there = Watermark(BAR_MS + MINUTE, "M1", 2, ("EUR_USD",))
    at.answers.candles = [DecodedRecord(CANDLES, 0, 5, there, "")]
    assert at.ask(CANDLE_WAIT_S) == [] and not at.checks.refused
    at.answers.offsets[MANIFOLDS, 0] = 42
    assert at.ask(1.0) == [record]


def test_without_an_answer_nothing_opens_and_what_it_closes_is_closed() -> None:
    at, record = Checked(), decided(source=f"{MANIFOLDS}-0-41")
    at.answers.away = True
    assert not at.checks.arrive(record)
    assert at.ask(WAIT_S) == [] and not at.checks.refused and not at.checks.unconfirmed
    assert at.ask(ANSWER_S) == []
    assert at.checks.unconfirmed == {"EUR_USD": record.event}
    assert "cannot be checked" in at.checks.trouble and "no broker answers" in at.checks.trouble
    assert at.metrics.registry.get_sample_value("manifold_unconfirmed_decisions") == 1.0
    at.answers.away = False
    at.answers.offsets[MANIFOLDS, 0] = 42
    assert at.ask(1.0) == [record]
    assert not at.checks.unconfirmed and not at.checks.trouble


def test_a_group_without_any_commit_is_no_proof_against_a_decision() -> None:
    inputs = KnownInputs()
    inputs.take_input(0, Watermark(BAR_MS, "M1", 2, ("EUR_USD",)))
    at, record = Checked(inputs), decided()
    at.answers.offsets = {(GATES, 0): 3}
    assert not at.checks.arrive(record)
    assert at.ask(WAIT_S + ANSWER_S) == [] and not at.checks.refused
    assert "there is none for sep.manifolds" in at.checks.trouble
    at.answers.offsets[MANIFOLDS, 0] = 40
    assert at.ask(1.0) == [record]


def test_what_names_a_later_offset_of_the_control_log_waits_for_it() -> None:
    at, record = Checked(), decided(control_offset=3)
    assert not at.checks.arrive(record) and at.checks.lacks_control
    assert at.ask(WAIT_S - 0.1) == [] and not at.checks.refused
    assert at.ask(0.1) == [] and at.reasons == ["control_missing"]


def test_a_true_decision_whose_commit_was_late_counts_before_the_next_one() -> None:
    at = Checked()
    late, source = decided(BAR_MS - MINUTE, f"{MANIFOLDS}-0-41"), f"{MANIFOLDS}-0-42"
    forged = decided(BAR_MS - MINUTE, source)
    for record in (late, forged):
        assert not at.checks.arrive(record)
    assert at.ask(WAIT_S) == [] and at.reasons == ["source_not_committed"] * 2
    at.answers.offsets[MANIFOLDS, 0] = 44
    made_from = Watermark(BAR_MS - MINUTE, "M1", 2, ("EUR_USD", "USD_JPY"))
    at.answers.sources = {
        late.source: made_from,
        source: made_from._replace(instruments=("USD_JPY",)),
    }
    following = decided(BAR_MS, f"{MANIFOLDS}-0-43")
    assert not at.checks.arrive(following)
    assert at.ask() == [late, following]
    assert at.checks.arrive(decided(BAR_MS, f"{MANIFOLDS}-0-43")), "it is settled"


def test_only_the_last_refusals_are_kept_and_all_are_counted() -> None:
    at = Checked()
    for _ in range(50):
        assert not at.checks.arrive(decided(YEAR_2096))
    assert len(at.checks.refused) == 20 and at.checks.counts == {"after_clock": 50}
