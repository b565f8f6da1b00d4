"""``risk.weights`` from ``opt.gates``: one record per epoch, independent of arrival order.

An epoch closes when every member of its universe has a decision for it or later; the latest
decision of each member not after the epoch is used (architecture: "Time across instruments").
Members that the feed does not wait for (``streams.pipeline.not_waited_for``) do not delay an epoch.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from typing import Any, NamedTuple

from streams.config.settings import Config
from streams.pipeline.allocation import Candidate, Held, allocate
from streams.pipeline.not_waited_for import NotWaitedFor
from streams.pipeline.processor import (
    ControlledStep,
    LoadControl,
    LogStage,
    TopicEvent,
    read_row,
    write_row,
)
from streams.records.codec import Codec
from streams.records.control import ControlLog, ControlState
from streams.records.events import (
    EchoGate,
    GateDecision,
    Watermark,
    WeightEntry,
    WeightGate,
    Weights,
)
from streams.records.log_record import RowChanges, Rows, SourceRecord
from streams.records.topics import GATES, WEIGHTS

STAGE = "weights"
DECISION_ROWS = b"d/"
LEAST_BARS_FRESH = 3


class Verdict(NamedTuple):
    """The fields of a gate decision that an epoch uses; the last two belong to the echo mode."""

    as_of_ms: int
    eligible: bool
    cooldown: bool
    buffer: float
    score: float | None
    echo: EchoGate | None = None
    signal_bar_ms: int | None = None


class Timeline:
    """The ``ops.control`` offset in force at an epoch: the highest of the watermarks before it.

    Watermarks of many partitions arrive interleaved, and one partition may be days ahead; only
    their times count, not their order of arrival.
    """

    def __init__(self, steps: list[tuple[int, int]]) -> None:
        self._steps = steps

    @property
    def steps(self) -> list[tuple[int, int]]:
        """(as_of_ms, control_offset), both ascending."""
        return self._steps

    def offset(self, epoch_ms: int) -> int:
        """Return the offset in force at the epoch; 0 before the first watermark."""
        index = bisect_left(self._steps, (epoch_ms, -1))
        return self._steps[index - 1][1] if index else 0

    def add(self, as_of_ms: int, offset: int) -> bool:
        """Add a watermark; return whether it changes anything."""
        if self.offset(as_of_ms + 1) >= offset:
            return False
        kept = [step for step in self._steps if step[0] < as_of_ms or step[1] > offset]
        insort(kept, (as_of_ms, offset))
        self._steps = kept
        return True

    def forget_before(self, epoch_ms: int) -> None:
        """Drop entries that no epoch after ``epoch_ms`` needs."""
        index = bisect_left(self._steps, (epoch_ms + 1, -1))
        self._steps = self._steps[max(0, index - 1) :]


class WeightsStep(ControlledStep):
    """The fold of ``opt.gates``; a row per decision that an open epoch may still need."""

    def __init__(self, control: ControlLog, rows: Rows) -> None:
        super().__init__(control, rows)
        self._timeline = Timeline([(a, o) for a, o in self.own("timeline", [])])
        self._not_waited_for = NotWaitedFor(self.own("not_waited_for", {}))
        self._last_epoch_ms: int = self.own("last_epoch_ms", -1)
        entries = tuple(WeightEntry(*entry) for entry in self.own("held", []))
        self._held = Held(entries, self.own("held_since_ms", None))
        self._decisions: dict[str, list[Verdict]] = {}
        self._open: list[int] = []
        self._waiting_for: str | None = None
        self._waiting_ms = -1  # the waiting epoch; meaningless when no instrument is waited for
        self._changed: dict[tuple[str, int], Verdict | None] = {}
        for key in sorted(rows):
            if key.startswith(DECISION_ROWS):
                name, _, _ = key[len(DECISION_ROWS) :].decode().rpartition("/")
                self._remember(name, _verdict(*read_row(rows[key])["decision"]))

    def step(self, event: GateDecision | Watermark, at: SourceRecord) -> list[TopicEvent]:
        """Process a decision or a watermark; return the weights of the epochs it closes."""
        if isinstance(event, Watermark):
            return [(WEIGHTS, weights) for weights in self.on_watermark(event)]
        until_ms = event.cooldown_until_ms
        cooldown = until_ms is not None and until_ms > event.as_of_ms
        verdict = Verdict(event.as_of_ms, event.eligible, cooldown, event.buffer, event.score)
        if event.mode == "echo" and event.metrics is not None:
            found = event.metrics
            echo = EchoGate(found.count_1h, found.lambda_hazard, found.first_seen_ms)
            verdict = verdict._replace(echo=echo, signal_bar_ms=event.signal_bar_ms)
        return [(WEIGHTS, weights) for weights in self.on_decision(event.instrument, verdict)]

    def on_watermark(self, watermark: Watermark) -> list[Weights]:
        """Process a watermark; return the weights of the epochs it closes."""
        passed = False
        for name in watermark.not_waited_for:
            kept = self._decisions.get(name)
            decided_ms = kept[-1].as_of_ms if kept else -1
            passed |= self._not_waited_for.add(name, watermark.as_of_ms, decided_ms)
        if passed:
            self.keep("not_waited_for", self._not_waited_for.spans)
        since_ms = self._not_waited_for.effective_ms(watermark)
        grown = self._timeline.add(since_ms, watermark.control_offset)
        if grown:
            self.keep("timeline", self._timeline.steps)
        if not (grown or passed):
            return []
        self._reopen()
        return self._close()

    def on_decision(self, name: str, verdict: Verdict) -> list[Weights]:
        """Process a decision; return the weights of the epochs it closes."""
        if not self._remember(name, verdict):
            return []
        self._changed[name, verdict.as_of_ms] = self._decisions[name][-1]
        waits = self._waiting_for not in (None, name)
        # an epoch before the waiting one may have another universe and wait for no instrument
        if waits and verdict.as_of_ms >= self._waiting_ms:
            return []
        return self._close()

    def changes(self) -> RowChanges:
        """Return the rows that changed since the last call."""
        # encoded here: most decisions of a catch-up are no longer needed at the end of the batch
        changed: RowChanges = {
            _row_name(*at): None if verdict is None else write_row({"decision": verdict})
            for at, verdict in self._changed.items()
        }
        self._changed = {}
        return changed | self.own_changes()

    def _remember(self, name: str, decision: Verdict) -> bool:
        kept = self._decisions.setdefault(name, [])
        if kept and kept[-1].as_of_ms >= decision.as_of_ms:
            return False
        kept.append(_with_first_seen(decision, kept[-1]) if kept else decision)
        if decision.as_of_ms > self._last_epoch_ms:
            heappush(self._open, decision.as_of_ms)
        return True

    def _reopen(self) -> None:
        """Check every time that is not closed: with other control records it may be an epoch.

        So a restarted step, which has only its rows, closes the same epochs.
        """
        self._waiting_for = None
        self._open = [
            decision.as_of_ms
            for kept in self._decisions.values()
            for decision in kept
            if decision.as_of_ms > self._last_epoch_ms
        ]
        heapify(self._open)

    def _close(self) -> list[Weights]:
        closed: list[Weights] = []
        while self._open:
            epoch_ms = self._open[0]
            if epoch_ms <= self._last_epoch_ms:
                heappop(self._open)
                continue
            state = self._control.state(self._timeline.offset(epoch_ms))
            members = state.universe.members(epoch_ms)
            self._waiting_for = self._not_there_yet(members, epoch_ms)
            if self._waiting_for is not None:
                self._waiting_ms = epoch_ms
                break
            heappop(self._open)
            if state.config is not None and self._is_epoch(epoch_ms, members, state.config):
                closed.append(self._weights(epoch_ms, members, state, state.config))
        return closed

    def _not_there_yet(self, members: tuple[str, ...], epoch_ms: int) -> str | None:
        for name in members:
            kept = self._decisions.get(name)
            there_ms = kept[-1].as_of_ms if kept else -1
            if max(there_ms, self._not_waited_for.until_ms(name)) < epoch_ms:
                return name
        return None

    def _is_epoch(self, epoch_ms: int, members: tuple[str, ...], config: Config) -> bool:
        if epoch_ms % (config.alloc_interval_sec * 1000):
            return False
        counted = (self._latest(name, epoch_ms) for name in members)
        return any(decision and decision.as_of_ms == epoch_ms for decision in counted)

    def _latest(self, name: str, epoch_ms: int) -> Verdict | None:
        kept = self._decisions.get(name, [])
        index = _latest_index(kept, self._not_waited_for.counted_ms(name, epoch_ms))
        return kept[index] if index >= 0 else None

    def _weights(
        self, epoch_ms: int, members: tuple[str, ...], state: ControlState, config: Config
    ) -> Weights:
        oldest_ms = oldest_fresh_ms(epoch_ms, config)
        candidates, gates = [], []
        for name in members:
            decision = self._latest(name, epoch_ms)
            if decision is None:
                continue
            eligible = decision.eligible and decision.as_of_ms >= oldest_ms
            candidates.append(Candidate(name, eligible, decision.cooldown, decision.score))
            gates.append(
                WeightGate(
                    *(name, eligible, decision.cooldown, decision.buffer, decision.as_of_ms),
                    decision.echo,
                )
            )
        outcome = allocate(epoch_ms, members, candidates, self._held, config)
        self._closed(epoch_ms, outcome.held, state)
        return Weights(
            config.candle_gran,
            epoch_ms - config.granularity_ms,
            epoch_ms,
            state.config_id,
            state.offset,
            epoch_ms,
            members,
            tuple(gate.instrument for gate in gates),
            outcome.entries,
            tuple(gates),
            outcome.action,
            outcome.held.since_ms,
            outcome.reason,
            config.alloc_top_k,
            config.gate_mode,
        )

    def _closed(self, epoch_ms: int, held: Held, state: ControlState) -> None:
        """Record that the epoch is closed and drop the decisions that no later epoch needs."""
        self._last_epoch_ms, self._held, self.state = epoch_ms, held, state
        self._timeline.forget_before(epoch_ms)
        self.keep("last_epoch_ms", epoch_ms)
        self.keep("held", held.entries)
        self.keep("held_since_ms", held.since_ms)
        self.keep("timeline", self._timeline.steps)
        self.keep("control_offset", state.offset)
        self._forget(epoch_ms)

    def _forget(self, epoch_ms: int) -> None:
        for name, kept in self._decisions.items():
            if len(kept) == 1:
                continue
            index = _latest_index(kept, self._not_waited_for.counted_ms(name, epoch_ms))
            if index > 0:
                for decision in kept[:index]:
                    at = (name, decision.as_of_ms)
                    if self._changed.pop(at, None) is None:  # otherwise it was never written
                        self._changed[at] = None
                del kept[:index]
        if self._not_waited_for.forget_before(epoch_ms):
            self.keep("not_waited_for", self._not_waited_for.spans)


def _verdict(as_of_ms: int, *fields: Any) -> Verdict:
    """Return the verdict of a row; rows of versions without the echo fields end with the score."""
    read = Verdict(as_of_ms, *fields)
    return read if read.echo is None else read._replace(echo=EchoGate(*read.echo))


def _with_first_seen(decision: Verdict, before: Verdict) -> Verdict:
    """Return the verdict of a bar without a candle, with the signal fields of the previous one."""
    echo, known = decision.echo, before.echo
    if echo is None or echo.first_seen_ms is not None or known is None:
        return decision
    if decision.signal_bar_ms != before.signal_bar_ms:
        return decision
    return decision._replace(echo=echo._replace(first_seen_ms=known.first_seen_ms))


def _latest_index(kept: Sequence[Verdict], epoch_ms: int) -> int:
    """Return the index of the latest decision up to an epoch, -1 if there is none."""
    # the first entry is the decision used in the previous epoch: the result is near the front
    index = -1
    for decision in kept:
        if decision.as_of_ms > epoch_ms:
            break
        index += 1
    return index


def oldest_fresh_ms(epoch_ms: Any, config: Config) -> Any:
    """Return the oldest decision that counts at an epoch (or at many epochs: an array of int64)."""
    bars_ms = LEAST_BARS_FRESH * config.granularity_ms
    return epoch_ms - max(config.gates_blob_max_age_sec * 1000, bars_ms)


def _row_name(name: str, as_of_ms: int) -> bytes:
    # zero-padded, so that the names of an instrument's rows sort by time
    return DECISION_ROWS + f"{name}/{as_of_ms:015d}".encode()


def gates_blob(weights: Weights) -> dict[str, object]:
    """Return the profile's gates blob of an epoch (docs/spec/trading-loop.md 2.1).

    In echo mode it also contains the inputs of the gates, and the buffers are 0, because there is
    no hysteresis.
    """
    echo = weights.mode == "echo"
    blob: dict[str, object] = {
        "ts": weights.epoch_ms,
        "gates": {gate.instrument: int(gate.eligible) for gate in weights.gates},
        "cooldowns": {gate.instrument: int(gate.cooldown) for gate in weights.gates},
        "bufs": {gate.instrument: 0 if echo else gate.buffer for gate in weights.gates},
    }
    if echo:
        found = {gate.instrument: gate.echo for gate in weights.gates if gate.echo is not None}
        blob["repetition"] = {
            name: {"count_1h": one.count_1h, "first_seen_ms": one.first_seen_ms}
            for name, one in found.items()
        }
        blob["hazard"] = {name: one.hazard for name, one in found.items()}
    return blob


def status_object(weights: Weights, interval_sec: int) -> dict[str, object]:
    """Return the allocator's status of an epoch (docs/spec/trading-loop.md 4.6).

    Ages are in event time: the age of the blob is the distance to the oldest decision used.
    """
    oldest_ms = min((gate.decided_ms for gate in weights.gates), default=weights.epoch_ms)
    eligible = [gate.instrument for gate in weights.gates if gate.eligible]
    return {
        "ts": weights.epoch_ms // 1000,
        "ts_ms": weights.epoch_ms,
        "interval": interval_sec,
        "interval_sec": interval_sec,
        "top_k": weights.top_k,
        "blob_ts_ms": weights.epoch_ms,
        "blob_age_ms": weights.epoch_ms - oldest_ms,
        "stale": weights.action == "held",
        "eligible": eligible,
        "eligible_count": len(eligible),
        "scores": {entry.instrument: entry.score for entry in weights.entries},
        "weights": {entry.instrument: entry.weight for entry in weights.entries},
        "target_exposure_pct": {e.instrument: e.target_exposure_pct for e in weights.entries},
        "action": weights.action,
        "reason": weights.reason,
        "held_since_ms": weights.held_since_ms,
    }


def weights_stage(
    codec: Codec, control: ControlLog, load_control: LoadControl | None = None
) -> LogStage:
    """Return the stage ``weights``: ``opt.gates`` to ``risk.weights``."""
    return LogStage(STAGE, GATES, (WEIGHTS,), codec, control, WeightsStep, load_control)
