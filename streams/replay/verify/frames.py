"""Expected record values in the log for many candles of an instrument.

The columns are the fields of ``streams.pipeline.signals.signal``, ``manifold`` and
``decision_record``; a test checks that all fields are equal.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.candles.calendar import Calendar, calendar_of
from streams.core.gate_values import Decision
from streams.core.layout import NEAR_CLOSE, NEVER, OPEN
from streams.core.stream import format_signature
from streams.pipeline.columns import CandleSegment
from streams.pipeline.gate_records import Scope, found_of
from streams.pipeline.instrument_fold import Segment
from streams.records.bulk import BulkRecords, Column, Words
from streams.records.codec import Codec
from streams.records.reasons import Reason
from streams.records.topics import GATES, MANIFOLDS, SIGNALS

_SIDES = ("mid", "bid", "ask")
_PRICES = ("open", "high", "low", "close")
_METRICS = (
    *("coherence", "stability", "entropy", "rupture", "lambda_hazard"),
    *("count_1h", "first_seen_ms", "window_start_ms"),
)
_OF_DECISION = (
    *("bar_ms", "as_of_ms", "passes", "fails", "misses", "direction", "position"),
    *("cooldown_until_ms", "next_change_ms", "signal_bar_ms", "score"),
)
_OF_METRICS = (
    *("coherence", "stability", "entropy", "rupture", "lambda_hazard", "count_1h", "sigma_eff"),
)
_FLOORS = ("min_trades", "calmar_min", "pnl_min")
# bits of a decision's reasons, in the order of their codes in a record
_ORDER = sorted(range(len(Reason)), key=lambda bit: list(Reason)[bit].value)
_CODES = tuple(list(Reason)[bit].value for bit in _ORDER)


class SegmentOutput(NamedTuple):
    """The output of a segment of an instrument's candles, with its scope.

    Attributes
    ----------
    precision
        Decimals of the signatures.
    """

    scope: Scope
    precision: int
    segment: CandleSegment
    found: Segment


class FrameMaker:
    """Encodes the record values of three topics.

    Parameters
    ----------
    codec
        The schemas.
    """

    def __init__(self, codec: Codec) -> None:
        self._signals = BulkRecords("Signal", codec.schema_id(SIGNALS, "Signal"))
        self._manifolds = BulkRecords("Manifold", codec.schema_id(MANIFOLDS, "Manifold"))
        self._decisions = BulkRecords("GateDecision", codec.schema_id(GATES, "GateDecision"))

    def bars(self, output: SegmentOutput) -> tuple[list[bytes], list[bytes]]:
        """Return the signals and the manifolds of a segment, one of each per bar.

        All candles have a volume.
        """
        scope, _, _, found = output
        bars, metrics = found.bars, found.derived.metrics
        common = _common(scope) | _candles(output) | {name: metrics[name] for name in _METRICS}
        common |= {"signature": _signatures(metrics, output.precision), "volume_missing": False}
        of_signals = {
            "flip_ratio": metrics["flip_ratio"],
            "collapsed": metrics["collapsed"],
            "ones": metrics["ones"],
        }
        of_manifolds = {
            "count": metrics["count"],
            "t0_ms": metrics["t0_ms"],
            "t1_ms": metrics["t1_ms"],
            "sigma_eff": metrics["sigma_eff"],
            "lambda": metrics["lambda_"],
            "late": found.late.view(np.bool_),
        }
        n = len(bars.bar_ms)
        return (
            self._signals.write(common | of_signals, n),
            self._manifolds.write(common | of_manifolds, n),
        )

    def decisions(self, output: SegmentOutput) -> list[bytes]:
        """Return the decisions of a segment."""
        scope, rows = output.scope, output.found.derived.decisions
        signalled, evaluated = rows["has_signal"] != 0, rows["has_evaluation"] != 0
        session = rows["session_flags"]
        columns = _common(scope) | {name: rows[name] for name in _OF_DECISION}
        columns |= {f"metrics.{name}": rows[name] for name in _OF_METRICS}
        columns |= {f"floors.{name}": rows["floors"][name] for name in _FLOORS}
        columns |= _first_seen(output.found, rows)
        columns |= {
            "eligible": rows["reasons"] == 0,
            "metrics?": signalled,
            "metrics.lambda": rows["lambda_"],
            "no_candle": rows["no_candle"] != 0,
            "floors?": evaluated,
            "buffer": scope.buffer,
            "cooldown_until_ms?": rows["cooldown_until_ms"] != NEVER,
            "session_open": (session & OPEN) != 0,
            "near_close": (session & NEAR_CLOSE) != 0,
            "next_change_ms?": rows["next_change_ms"] != NEVER,
            "signal_bar_ms?": signalled,
            "score?": signalled,
            "mode": scope.config.gate_mode,
            "params_id": scope.params_id,
            "evaluation?": evaluated,
            "evaluation.as_of_ms": rows["evaluated_ms"],
            "evaluation.trades": rows["evaluated_trades"],
            "evaluation.calmar?": ~np.isnan(rows["evaluated_calmar"]),
            "evaluation.calmar": rows["evaluated_calmar"],
            "evaluation.pnl_total": rows["evaluated_pnl"],
            "evaluation.span_integrity_ok": rows["integrity_ok"] != 0,
        }
        return self._decisions.write(columns | _reasons(scope, rows), len(rows))


def _common(scope: Scope) -> dict[str, Column]:
    return {
        "instrument": scope.instrument,
        "granularity": scope.config.candle_gran,
        "config_id": scope.config_id,
        "control_offset": scope.control_offset,
    }


def _first_seen(found: Segment, rows: NDArray[Any]) -> dict[str, Column]:
    """Return ``first_seen_ms`` of the bars' signals; a bar without a candle has none."""
    has_candle = rows["no_candle"] == 0
    at = np.searchsorted(found.bars.bar_ms, rows["bar_ms"][has_candle])
    first_seen_ms = np.zeros(len(rows), np.int64)
    first_seen_ms[has_candle] = found.derived.metrics["first_seen_ms"][at]
    return {"metrics.first_seen_ms?": has_candle, "metrics.first_seen_ms": first_seen_ms}


def _candles(output: SegmentOutput) -> dict[str, Column]:
    bars, length_ms = output.found.bars, output.scope.config.granularity_ms
    columns: dict[str, Column] = {
        f"candle.{side}.{price}": bars.prices[4 * i + j]
        for i, side in enumerate(_SIDES)
        for j, price in enumerate(_PRICES)
    }
    return columns | {
        "bar_ms": bars.bar_ms,
        "as_of_ms": bars.bar_ms + length_ms,
        "price": bars.prices[3],
        "candle.bid?": bars.quoted,
        "candle.ask?": bars.quoted,
        "candle.volume": bars.volume,
        "gap_bars": _gaps(
            bars.bar_ms, output.found.before_ms, length_ms, calendar_of(output.scope.config)
        ),
    }


def _gaps(
    bar_ms: NDArray[np.int64], before_ms: NDArray[np.int64], length_ms: int, calendar: Calendar
) -> NDArray[np.int64]:
    gaps = np.zeros(len(bar_ms), np.int64)
    for at in np.flatnonzero((before_ms >= 0) & (before_ms != bar_ms - length_ms)).tolist():
        gaps[at] = calendar.missing_bars(int(before_ms[at]), int(bar_ms[at]), length_ms)
    return gaps


def _signatures(metrics: NDArray[Any], precision: int) -> Words:
    c, s, e = (metrics[name].astype(np.int64) for name in ("sig_c", "sig_s", "sig_e"))
    values = 10**precision + 1
    _, first, indices = np.unique(
        (c * values + s) * values + e, return_index=True, return_inverse=True
    )
    buckets = zip(c[first].tolist(), s[first].tolist(), e[first].tolist(), strict=True)
    return Words([_signature(*each, precision) for each in buckets], indices)


@lru_cache(maxsize=8192)
def _signature(c: int, s: int, e: int, precision: int) -> str:
    return format_signature(c, s, e, precision)


def _reasons(scope: Scope, rows: NDArray[Any]) -> dict[str, Column]:
    has = (rows["reasons"][:, np.newaxis] >> np.array(_ORDER, np.uint32) & 1).astype(np.bool_)
    row, which = np.nonzero(has)
    texts = Words(_CODES, which)
    counts = has.sum(axis=1)
    value, limit = np.full((2, len(row)), np.nan)
    change = np.full(len(row), NEVER, np.int64)
    for rank in np.flatnonzero(has.any(axis=0)).tolist():
        at = np.flatnonzero(which == rank)
        found = found_of(_CODES[rank], _of_rows(rows[row[at]]), scope)
        for column, content in zip((value, limit, change), found, strict=True):
            if content is not None:
                column[at] = content
    return {
        "reasons#": counts,
        "reasons": texts,
        "details#": counts,
        "details.reason": texts,
        "details.value?": ~np.isnan(value),
        "details.value": value,
        "details.limit?": ~np.isnan(limit),
        "details.limit": limit,
        "details.next_change_ms?": change != NEVER,
        "details.next_change_ms": change,
    }


def _of_rows(rows: NDArray[Any]) -> Decision:
    """Return decisions as one, with an array for each field."""
    return Decision._make(
        rows["floors"][name] if name in _FLOORS else rows[name] for name in Decision._fields
    )
