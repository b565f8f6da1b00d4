"""``bt.trades``, ``bt.summaries`` and ``opt.gates`` from ``sep.manifolds``.

Each instrument has a strict rolling backtest of its trading rule, and a gate that decides by its
result (docs/spec/strict-backtest.md; the fold is cpp/backtest/gate.hpp). A decision lists every
reason that applies, not only the first.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from streams.candles.calendar import calendar_of
from streams.candles.sessions import SessionState, session_state
from streams.config.run_parameters import params_id
from streams.config.settings import MAX_SLICE_DAYS, Config
from streams.core.gate import GateStream
from streams.core.layout import DECIDED, EVALUATED, TRADED, rules_of
from streams.errors import Fatal
from streams.pipeline.gate_records import (
    Scope,
    bar_of,
    decision_record,
    flags_of,
    scope_of,
    summary_record,
    trade_record,
)
from streams.pipeline.processor import (
    ControlledStep,
    LoadControl,
    LogStage,
    PartitionProcessor,
    TopicEvent,
    dead_letter,
)
from streams.records.codec import Codec
from streams.records.control import ControlLog, ControlState
from streams.records.events import Manifold, Watermark
from streams.records.log_record import RowChanges, Rows, SourceRecord
from streams.records.reasons import Refusal
from streams.records.topics import DEAD_LETTERS, GATES, MANIFOLDS, SUMMARIES, TRADES

STAGE = "gates"
HISTORY_MS = MAX_SLICE_DAYS * 86_400_000

Run = tuple[str, str]
"""The identity of a run: the hash of its parameters, and the granularity of its bars."""

LoadHistory = Callable[[SourceRecord, frozenset[str], int], Awaitable[dict[str, list[Manifold]]]]
"""Reads the manifolds of some instruments before a source record in its partition, stamped later
than a time (epoch ms)."""


class _Instrument:
    """One instrument's gate and the configuration of its run."""

    __slots__ = ("config", "gate", "run", "scope")

    def __init__(self, gate: GateStream, config: Config, run: Run) -> None:
        self.gate, self.config, self.run = gate, config, run
        self.scope: Scope | None = None


class GatesStep(ControlledStep):
    """The fold of one partition of ``sep.manifolds``.

    Parameters
    ----------
    control, rows
        As in ``ControlledStep``; rows are named ``<instrument>/<row of the gate>``.
    """

    def __init__(self, control: ControlLog, rows: Rows) -> None:
        super().__init__(control, rows)
        self._instruments: dict[str, _Instrument] = {}
        self._history: dict[tuple[int, str], Sequence[Manifold]] = {}
        self._changed: dict[str, None] = {}
        self._restore(rows)

    def step(self, event: Manifold | Watermark, at: SourceRecord) -> list[TopicEvent]:
        """Process a manifold or a watermark; return its trades, summaries and decisions."""
        if isinstance(event, Watermark):
            return self._watermark(event, at)
        config = self.state.config
        if config is None:
            detail = "no watermark with a configuration before it"
            return [(DEAD_LETTERS, dead_letter(at, Refusal.NO_CONFIG, detail, STAGE))]
        if event.granularity != config.candle_gran:
            return []  # from before a change of CANDLE_GRAN; a run has bars of one length
        name = event.instrument
        each = self._instruments.get(name) or self._begin(name)
        scope = self._scope(name, each)
        if event.bar_ms <= each.gate.last_bar_ms:
            detail = f"bar {event.bar_ms} after bar {each.gate.last_bar_ms} of {name}"
            return [(DEAD_LETTERS, dead_letter(at, Refusal.OUT_OF_ORDER, detail, STAGE))]
        session = _session(name, event.as_of_ms, each.config)
        gate = each.gate
        changed = gate.step(bar_of(event, session), late=event.late)
        self._changed[name] = None
        derived: list[TopicEvent] = []
        if changed & TRADED:
            derived.append((TRADES, trade_record(gate.trade(), scope)))
        decision = None
        if changed & DECIDED:
            decision = decision_record(gate.decision(), scope, event.first_seen_ms)
        if changed & EVALUATED:
            eligible = decision is not None and decision.eligible
            summary = summary_record(gate.evaluation(), scope, eligible=eligible)
            derived.append((SUMMARIES, summary))
        if decision is not None:
            derived.append((GATES, decision))
        return derived

    def changes(self) -> RowChanges:
        """Return the rows that changed since the last call."""
        changed = self.own_changes()
        for name in self._changed:
            for row, content in self._instruments[name].gate.changed_rows().items():
                changed[f"{name}/{row}".encode()] = content
        self._changed.clear()
        return changed

    def runs(self) -> dict[str, Run]:
        """Return the identity of each instrument's run."""
        return {name: each.run for name, each in self._instruments.items()}

    def provide_history(self, at: SourceRecord, found: Mapping[str, Sequence[Manifold]]) -> None:
        """Store the history that the watermark ``at`` needs."""
        self._history.update({(at.offset, name): past for name, past in found.items()})

    def _watermark(self, watermark: Watermark, at: SourceRecord) -> list[TopicEvent]:
        if self.follow(watermark):
            self._reconfigure(watermark, at)
        derived: list[TopicEvent] = []
        config = self.state.config
        if config is not None and watermark.granularity == config.candle_gran:
            bar_ms = watermark.as_of_ms - config.granularity_ms
            for name in watermark.instruments:
                each = self._instruments.get(name) or self._begin(name)
                if each.gate.decided_ms >= watermark.as_of_ms:
                    continue
                session = _session(name, watermark.as_of_ms, each.config)
                each.gate.decide_without_candle(
                    bar_ms, watermark.as_of_ms, session.next_change_ms, flags_of(session)
                )
                self._changed[name] = None
                record = decision_record(each.gate.decision(), self._scope(name, each))
                derived.append((GATES, record))
        derived.append((GATES, watermark))
        return derived

    def _scope(self, name: str, each: _Instrument) -> Scope:
        # a scope changes only with the offset of ops.control
        if each.scope is None or each.scope.control_offset != self.state.offset:
            state = self.state
            each.scope = scope_of(name, each.config, state.config_id, state.offset, each.run[0])
        return each.scope

    def _begin(self, name: str, number: int = 0) -> _Instrument:
        config = self.state.config_of(name)
        assert config is not None  # called only with a configuration
        gate = GateStream(rules_of(config, name), number)
        made = self._instruments[name] = _Instrument(gate, config, _run_of(config))
        return made

    def _reconfigure(self, watermark: Watermark, at: SourceRecord) -> None:
        restarting = restarting_runs(self.runs(), self.state)
        for name in sorted(self._instruments):
            config = self.state.config_of(name)
            each = self._instruments[name]
            if name in restarting:
                self._refold(name, watermark, at)
            elif config is not None and config != each.config:
                each.config = config
                each.gate.adopt(rules_of(config, name))

    def _refold(self, name: str, watermark: Watermark, at: SourceRecord) -> None:
        """Fold the history under the new parameters (docs/spec/strict-backtest.md 6)."""
        before = self._instruments[name].gate
        past = self._history.pop((at.offset, name), None)
        if past is None:
            raise Fatal(f"the history of {name} before {at.coordinates} was not fetched")
        each = self._begin(name, before.run_number + 1)
        for event in past:
            recent = event.as_of_ms > watermark.as_of_ms - HISTORY_MS
            if recent and event.granularity == each.config.candle_gran:
                session = _session(name, event.as_of_ms, each.config)
                each.gate.step(bar_of(event, session), late=True)  # its decisions remain valid
        each.gate.set_decided_ms(before.decided_ms)
        self._changed[name] = None

    def _restore(self, rows: Rows) -> None:
        found: dict[str, dict[str, bytes]] = {}
        for key, content in rows.items():
            name, _, row = key.decode().rpartition("/")
            if name:
                found.setdefault(name, {})[row] = content
        for name in sorted(found):
            config = self.state.config_of(name)
            if config is None:
                raise Fatal(
                    f"the stored state of {name} has no configuration: derive again under another "
                    "prefix (manifold migrate --to-prefix P)"
                )
            gate = GateStream.from_rows(found[name], rules_of(config, name))
            self._instruments[name] = _Instrument(gate, config, _run_of(config))


def restarting_runs(before: Mapping[str, Run], state: ControlState) -> dict[str, Run]:
    """Return the instruments whose run restarts when ``state`` takes effect, with the new
    identity."""
    found = {}
    for name, run in before.items():
        config = state.config_of(name)
        if config is not None and _run_of(config) != run:
            found[name] = _run_of(config)
    return found


def _run_of(config: Config) -> Run:
    return params_id(config), config.candle_gran


def _session(name: str, at_ms: int, config: Config) -> SessionState:
    return session_state(calendar_of(config), name, at_ms, config.session_exit_minutes)


class GatesStage(LogStage):
    """The stage ``gates``: a log stage that also reads the history of runs that restart."""

    def __init__(
        self,
        codec: Codec,
        control: ControlLog,
        load_control: LoadControl | None,
        load_history: LoadHistory | None,
    ) -> None:
        outputs = (TRADES, SUMMARIES, GATES)
        super().__init__(STAGE, MANIFOLDS, outputs, codec, control, GatesStep, load_control)
        self._load_history = load_history

    async def prepare(self, records: Sequence[SourceRecord], processor: PartitionProcessor) -> None:
        """As ``LogStage``; also read the history that watermarks in ``records`` need."""
        await super().prepare(records, processor)
        step = processor.step
        assert isinstance(step, GatesStep)
        state, runs = step.state, step.runs()
        met: dict[str, None] = {}
        for record in records:
            name = (record.key or b"").decode(errors="replace")
            if not name.startswith("~"):
                met[name] = None
                continue
            event = self.read(record)
            refused = record.place in self._control.refused_watermarks
            if refused or not isinstance(event, Watermark):
                continue
            if event.control_offset > state.offset:
                for name in met:
                    config = state.config_of(name)
                    if name not in runs and config is not None:
                        runs[name] = _run_of(config)
                state = self._control.state(event.control_offset)
                restarting = restarting_runs(runs, state)
                if restarting:
                    await self._provide(step, record, event, restarting)
                runs.update(restarting)
            met.update(dict.fromkeys(event.instruments))

    async def _provide(
        self, step: GatesStep, record: SourceRecord, event: Watermark, names: Collection[str]
    ) -> None:
        if self._load_history is None:
            raise Fatal(
                f"new parameters of {', '.join(sorted(names))} at {record.coordinates} need their "
                "history, which this run cannot read"
            )
        since_ms = event.as_of_ms - HISTORY_MS
        found = await self._load_history(record, frozenset(names), since_ms)
        step.provide_history(record, {name: found.get(name, []) for name in names})


def gates_stage(
    codec: Codec,
    control: ControlLog,
    load_control: LoadControl | None = None,
    load_history: LoadHistory | None = None,
) -> GatesStage:
    """Return the stage ``gates``: ``sep.manifolds`` to trades, summaries and decisions."""
    return GatesStage(codec, control, load_control, load_history)
