"""Accumulates a report from single rows or blocks, in bounded memory.

Gate decisions and weights are summed and dropped; trades are kept, about 120 bytes each. The same
blocks give the same bytes; the same rows in other blocks differ by rounding of sums only.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from streams import __version__
from streams.config.settings import Config
from streams.records.events import Event, GateDecision, SimulatedTrade, Summary, Weights
from streams.records.reasons import Reason
from streams.replay.report.allocation import ACTIONS, AllocationCells
from streams.replay.report.cells import Buckets, Int64s, buckets_for
from streams.replay.report.data import (
    FORMAT,
    NOT_MODELLED,
    ConfigRow,
    Header,
    Headline,
    InstrumentRow,
    ReportData,
    ReportMeta,
    TimeGrid,
    finite,
    share,
)
from streams.replay.report.gates import (
    OTHER,
    OTHER_DOC,
    TOP_REASONS,
    GateCells,
    Words,
    pass_rates,
    reason_word,
)
from streams.replay.report.trades import OrderedTrades, TradeColumns

BLOCK = 1 << 15
SUMMARY_DIGITS = 6


class _GateBlock:
    """Decisions of one instrument that are not summed yet."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.as_of_ms, self.eligible, self.reasons = array("q"), bytearray(), array("I")

    def take(self) -> tuple[Int64s, npt.NDArray[np.bool_], Words]:
        made = (
            np.array(self.as_of_ms, np.int64),
            np.array(np.frombuffer(bytes(self.eligible), np.uint8), np.bool_),
            np.array(self.reasons, np.uint32),
        )
        self.clear()
        return made


class ReportAccumulator:
    """Accumulates the rows of a report and creates it."""

    def __init__(self) -> None:
        self._trades = TradeColumns()
        self._summaries: dict[str, Summary] = {}
        self._summary_count = 0
        self._gates: dict[str, GateCells] = {}
        self._allocation = AllocationCells()
        self._range_ms: tuple[int, int] | None = None
        self._gate_blocks: dict[str, _GateBlock] = {}
        self._weights_block: list[Weights] = []
        self._words: dict[tuple[str, ...], int] = {}
        self._config_ids: set[str] = set()
        self._params_ids: set[str] = set()
        self._granularities: set[str] = set()

    # -- rows ------------------------------------------------------------------------------------

    def add_trades(self, trades: Iterable[SimulatedTrade]) -> None:
        """Add closed trades, in any order."""
        for trade in trades:
            self._trades.add(trade)
            self._stamp(trade)

    def add_summary(self, summary: Summary) -> None:
        """Add an evaluation; the latest of each instrument is shown."""
        self._stamp(summary)
        self._params_ids.add(summary.params_id)
        self._summary_count += 1
        known = self._summaries.get(summary.instrument)
        if known is None or summary.as_of_ms >= known.as_of_ms:
            self._summaries[summary.instrument] = summary

    def add_gates(
        self,
        instrument: str,
        as_of_ms: Int64s,
        eligible: npt.NDArray[np.bool_],
        reasons: Words,
    ) -> None:
        """Add gate decisions of one instrument.

        Parameters
        ----------
        instrument
            The instrument.
        as_of_ms
            Epoch milliseconds, int64, shape [n]; any order; ascending is fastest.
        eligible
            Verdicts, shape [n].
        reasons
            Words, uint32, shape [n]: bit i is set when ``list(Reason)[i]`` applies. Higher bits
            count as one other reason.

        Raises
        ------
        ValueError
            The shapes differ.
        Fatal
            An instant before 1970 or after the year 9999.
        """
        at = np.ascontiguousarray(as_of_ms, np.int64)
        verdicts, words = np.asarray(eligible, np.bool_), np.asarray(reasons, np.uint32)
        if (
            not at.ndim == verdicts.ndim == words.ndim == 1
            or len({*map(len, (at, verdicts, words))}) > 1
        ):
            raise ValueError(
                f"{instrument}: shapes {at.shape}, {verdicts.shape}, {words.shape} differ"
            )
        cells = self._gates.setdefault(instrument, GateCells())
        if len(at):
            cells.add(at, verdicts, words)
            self._reach(int(at.min()), int(at.max()))

    def add_weights(
        self,
        epoch_ms: Int64s,
        instruments: tuple[str, ...],
        weights: npt.NDArray[np.float64],
        exposure: npt.NDArray[np.float64],
        action: npt.NDArray[np.uint8],
    ) -> None:
        """Add epochs of the allocator.

        Parameters
        ----------
        epoch_ms
            Epoch milliseconds, int64, shape [m].
        instruments
            The instruments of the columns; one without an entry at an epoch has 0.
        weights, exposure
            Weights (sum 1) and fractions of the account, float64, shape [m, k].
        action
            0 published, 1 held, 2 cleared; uint8, shape [m].

        Raises
        ------
        ValueError
            The shapes do not fit.
        Fatal
            An instant before 1970 or after the year 9999.
        """
        at = np.ascontiguousarray(epoch_ms, np.int64)
        shares, exposures = np.asarray(weights, np.float64), np.asarray(exposure, np.float64)
        actions, shape = np.asarray(action, np.uint8), (len(at), len(instruments))
        if shares.shape != shape or exposures.shape != shape or actions.shape != at.shape:
            raise ValueError(
                f"weights {shares.shape}, exposure {exposures.shape}, action {actions.shape} "
                f"do not fit {shape[0]} epochs of {shape[1]} instruments"
            )
        if len(at):
            self._allocation.add(at, tuple(instruments), shares, exposures, actions)
            self._reach(int(at.min()), int(at.max()))

    def add_event(self, event: Event) -> None:
        """Add a decoded record; records that a report does not show are ignored."""
        if isinstance(event, GateDecision):
            self._stamp(event)
            word = self._words.get(event.reasons)
            if word is None:
                word = self._words[event.reasons] = reason_word(event.reasons)
            block = self._gate_blocks.setdefault(event.instrument, _GateBlock())
            block.as_of_ms.append(event.as_of_ms)
            block.eligible.append(event.eligible)
            block.reasons.append(word)
            if len(block.reasons) >= BLOCK:
                self.add_gates(event.instrument, *block.take())
        elif isinstance(event, Weights):
            self._stamp(event)
            self._weights_block.append(event)
            if len(self._weights_block) >= BLOCK:
                self._flush_weights()
        elif isinstance(event, SimulatedTrade):
            self.add_trades((event,))
        elif isinstance(event, Summary):
            self.add_summary(event)

    # -- the report ------------------------------------------------------------------------------

    def finish(self, meta: ReportMeta) -> ReportData:
        """Return the report of all rows so far; more rows may be added afterwards.

        Parameters
        ----------
        meta
            Information that is not in the rows.
        """
        for name, block in self._gate_blocks.items():
            self.add_gates(name, *block.take())
        self._flush_weights()
        instruments = sorted(
            {*meta.instruments, *self._gates, *self._allocation.instruments}
            | self._trades.instruments
            | self._summaries.keys()
        )
        buckets = self._buckets()
        trades = self._trades.ordered(instruments)
        guards = pass_rates(
            [self._gates[n].guards(n) for n in instruments if n in self._gates], meta.config
        )
        shown = buckets or Buckets(0, 1, 0)
        traded = [(at, n) for at, n in enumerate(instruments) if n in self._trades.instruments]
        return {
            "format": FORMAT,
            "header": self._header(meta),
            "instruments": instruments,
            "time": None if buckets is None else _grid(buckets),
            "headline": self._headline(trades, guards["together_share"]),
            "curves": {name: trades.curve(shown, at) for at, name in traded},
            "curve_all": trades.curve(shown) if traded else None,
            "table": [self._row(name, trades.figures(at)) for at, name in enumerate(instruments)],
            "trades": trades.listed(),
            "reason_docs": {r.value: r.doc for r in Reason} | {OTHER: OTHER_DOC},
            "gates": {n: self._gates[n].counts(shown) for n in instruments if n in self._gates},
            "guards": guards,
            "allocation": self._allocation.result(shown),
            "summaries": [
                finite(self._summaries[n], SUMMARY_DIGITS) for n in sorted(self._summaries)
            ],
            "config": _config_rows(meta.config),
        }

    def _buckets(self) -> Buckets | None:
        found = [one for one in (self._range_ms, self._trades.range_ms()) if one is not None]
        if not found:
            return None
        tables = [one.cells for one in self._gates.values()]
        tables += [self._allocation.epochs, *self._allocation.instruments.values()]
        cell_ms = max(one.cell_ms for one in tables)
        for one in tables:
            one.coarsen(cell_ms)
        return buckets_for(min(f for f, _ in found), max(last for _, last in found), cell_ms)

    def _header(self, meta: ReportMeta) -> Header:
        found = [one for one in (self._range_ms, self._trades.range_ms()) if one is not None]
        notes = list(meta.notes)
        if self._trades.left_out:
            notes.append(
                f"{self._trades.left_out:,} trades are omitted: their P&L, cost or time is not a "
                "finite number"
            )
        config_id = meta.config.config_id if meta.config else None
        granularities = self._granularities | ({meta.config.candle_gran} if meta.config else set())
        return {
            "title": meta.title,
            "source": meta.source,
            "program": f"manifold-streams {__version__}",
            "generated_ms": meta.generated_ms,
            "from_ms": min((first for first, _ in found), default=None),
            "to_ms": max((last for _, last in found), default=None),
            "asked_from_ms": meta.asked_from_ms,
            "asked_to_ms": meta.asked_to_ms,
            "granularities": sorted(granularities),
            "config_id": config_id,
            "config_ids": sorted(self._config_ids | ({config_id} if config_id else set())),
            "params_ids": sorted(self._params_ids | self._trades.params_ids),
            "params": [{"instrument": name, "value": text} for name, text in meta.params],
            "engines": sorted(set(meta.engines)),
            "log": list(meta.log),
            "notes": notes,
            "not_modelled": list(NOT_MODELLED),
        }

    def _headline(self, trades: OrderedTrades, together: float | None) -> Headline:
        sums = [one.totals() for one in self._gates.values()]
        decisions = sum(count for count, _, _ in sums)
        actions: Any = self._allocation.epochs.totals()
        return {
            "figures": trades.figures(),
            "decisions": decisions,
            "eligible_share": share(sum(eligible for _, eligible, _ in sums), decisions),
            "guards_together_share": together,
            "epochs": int(actions[0]),
            "published_share": share(int(actions[1]), int(actions[0])),
        }

    def _row(self, name: str, figures: Any) -> InstrumentRow:
        cells, summary = self._gates.get(name), self._summaries.get(name)
        decisions, eligible, reasons = cells.totals() if cells else (0, 0, {})
        # the most frequent first; ties by name, so that the order is defined
        top = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))[:TOP_REASONS]
        widest = (
            max(summary.slices, key=lambda one: one.days) if summary and summary.slices else None
        )
        return {
            "instrument": name,
            "figures": figures,
            "exposure": finite(widest.exposure, SUMMARY_DIGITS) if widest else None,
            "exposure_days": widest.days if widest else None,
            "decisions": decisions,
            "eligible_share": share(eligible, decisions),
            "top_reasons": [
                {"reason": reason, "share": share(count, decisions) or 0.0} for reason, count in top
            ],
        }

    # -- internals ------------------------------------------------------------------------------

    def _reach(self, first_ms: int, last_ms: int) -> None:
        known = self._range_ms or (first_ms, last_ms)
        self._range_ms = (min(first_ms, known[0]), max(last_ms, known[1]))

    def _stamp(self, event: GateDecision | Weights | SimulatedTrade | Summary) -> None:
        self._config_ids.add(event.config_id)
        self._granularities.add(event.granularity)

    def _flush_weights(self) -> None:
        block, self._weights_block = self._weights_block, []
        if not block:
            return
        entered = {entry.instrument for event in block for entry in event.entries}
        names = sorted(entered.union(*(event.universe for event in block)))
        place = {name: at for at, name in enumerate(names)}
        weights = np.zeros((len(block), len(names)))
        exposure = np.zeros((len(block), len(names)))
        for row, event in enumerate(block):
            for entry in event.entries:
                weights[row, place[entry.instrument]] = entry.weight
                exposure[row, place[entry.instrument]] = entry.target_exposure_pct
        self.add_weights(
            np.array([event.epoch_ms for event in block], np.int64),
            tuple(names),
            weights,
            exposure,
            np.array([ACTIONS.index(event.action) for event in block], np.uint8),
        )


def _grid(buckets: Buckets) -> TimeGrid:
    return {
        "start_ms": buckets.start_ms,
        "bucket_ms": buckets.bucket_ms,
        "count": buckets.count,
    }


def _config_rows(config: Config | None) -> list[ConfigRow]:
    if config is None:
        return []
    return [
        {
            "name": row["name"],
            "value": _text(row["value"]),
            "default": _text(row["default"]),
            "changed": row["default"] != "(computed)" and row["value"] != row["default"],
            "unit": row["unit"],
            "doc": row["doc"],
        }
        for row in config.table()
    ]


def _text(value: Any) -> str:
    if value is None or value == ():
        return "not set"
    if isinstance(value, tuple):
        return ", ".join(
            str(item) if isinstance(item, int) else f"{item[0]} {item[1]:g}" for item in value
        )
    return f"{value:g}" if isinstance(value, float) else str(value)
