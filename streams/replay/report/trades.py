"""Closed trades in columns: figures, the curve of cumulative P&L, and the listed rows."""

from __future__ import annotations

import math
from array import array
from typing import Any

import numpy as np
import numpy.typing as npt

from streams.records.events import SimulatedTrade
from streams.replay.report.cells import LAST_MS, Buckets, Int64s
from streams.replay.report.data import Curve, TradeFigures, TradeSample, rounded, share

Floats = npt.NDArray[np.float64]

LAST_SHOWN = 3_000
EXTREMES_SHOWN = 100
INTEGERS = ("as_of_ms", "entry_bar_ms", "exit_bar_ms", "bars_held", "direction")
NUMBERS = ("pnl_bps", "cost_bps", "mae_bps", "mfe_bps", "entry_price", "exit_price")
DIGITS = {"entry_price": 6, "exit_price": 6}
BPS_DIGITS = 3


class TradeColumns:
    """The trades of a report in order of arrival; about 120 bytes each.

    Attributes
    ----------
    left_out
        Number of omitted trades: their P&L, cost or times are not finite or out of range.
    """

    def __init__(self) -> None:
        self._integers = {name: array("q") for name in INTEGERS}
        self._numbers = {name: array("d") for name in NUMBERS}
        self._assumed = bytearray()
        self._codes = {name: array("i") for name in ("instrument", "exit_reason", "params_id")}
        self._names: dict[str, dict[str, int]] = {name: {} for name in self._codes}
        self._ids: list[str] = []
        self.left_out = 0

    def add(self, trade: SimulatedTrade) -> None:
        """Add a trade."""
        if not (
            math.isfinite(trade.pnl_bps)
            and math.isfinite(trade.cost_bps)
            and 0 <= trade.as_of_ms <= LAST_MS
        ):
            self.left_out += 1
            return
        for name, whole in self._integers.items():
            whole.append(getattr(trade, name))
        for name, number in self._numbers.items():
            number.append(getattr(trade, name))
        for name, codes in self._codes.items():
            known = self._names[name]
            codes.append(known.setdefault(getattr(trade, name), len(known)))
        self._assumed.append(trade.cost_assumed)
        self._ids.append(trade.trade_id)

    @property
    def instruments(self) -> set[str]:
        """All instruments with trades."""
        return set(self._names["instrument"])

    @property
    def params_ids(self) -> set[str]:
        """All parameter sets with trades."""
        return set(self._names["params_id"])

    def range_ms(self) -> tuple[int, int] | None:
        """Return the first and the last exit time."""
        at = self._integers["as_of_ms"]
        return (min(at), max(at)) if at else None

    def ordered(self, instruments: list[str]) -> OrderedTrades:
        """Return the trades ordered by exit, independent of the order of arrival.

        Parameters
        ----------
        instruments
            All instruments of the report; their indices are the codes.
        """
        place = {name: at for at, name in enumerate(instruments)}
        columns: dict[str, npt.NDArray[Any]] = {}
        for name, values in (self._integers | self._numbers).items():
            columns[name] = np.array(values)
        columns["assumed"] = np.frombuffer(bytes(self._assumed), np.uint8)
        names: dict[str, list[str]] = {}
        for name, codes in self._codes.items():
            known = self._names[name]
            names[name] = instruments if name == "instrument" else sorted(known)
            to = place if name == "instrument" else {n: at for at, n in enumerate(names[name])}
            change = np.array([to[n] for n in known], np.int64)
            columns[name] = change[np.array(codes, np.int64)]
        ids = np.array(self._ids, dtype=object)
        order = np.lexsort(
            (
                np.argsort(np.argsort(ids, kind="stable"), kind="stable"),
                columns["entry_bar_ms"],
                columns["instrument"],
                columns["as_of_ms"],
            )
        )
        columns = {name: values[order] for name, values in columns.items()}
        return OrderedTrades(columns, names, ids[order].tolist())


class OrderedTrades:
    """Trades by exit, then instrument, then entry.

    Parameters
    ----------
    columns
        Field name of the record -> array of shape [trades].
    names
        Column -> names of its codes.
    ids
        The trades' ids.
    """

    def __init__(
        self, columns: dict[str, npt.NDArray[Any]], names: dict[str, list[str]], ids: list[str]
    ) -> None:
        self._columns, self._names, self._ids = columns, names, ids

    def figures(self, instrument: int | None = None) -> TradeFigures:
        """Return the figures of all trades, or of one instrument's trades, by its code."""
        picked = self._picked(instrument)
        pnl, cost = picked["pnl_bps"], picked["cost_bps"]
        count, total, paid = len(pnl), float(pnl.sum()), float(cost.sum())
        lost = float(-pnl[pnl < 0].sum())
        held = picked["bars_held"]
        return {
            "trades": count,
            "wins": int((pnl > 0).sum()),
            "win_rate": share(int((pnl > 0).sum()), count),
            "pnl_bps": _bps(total),
            "gross_bps": _bps(total + paid),
            "cost_bps": _bps(paid),
            "cost_per_trade_bps": _bps(paid / count) if count else None,
            "cost_share": share(paid, total + paid) if total + paid > 0 else None,
            "cost_assumed": int(picked["assumed"].sum()),
            "max_drawdown_bps": _bps(float(self._curve(picked)[2].max(initial=0.0))),
            "profit_factor": share(float(pnl[pnl > 0].sum()), lost, 4) if lost > 0 else None,
            "avg_hold_bars": round(float(held.mean()), 2) if count else None,
            "best_bps": _bps(float(pnl.max())) if count else None,
            "worst_bps": _bps(float(pnl.min())) if count else None,
        }

    def curve(self, buckets: Buckets, instrument: int | None = None) -> Curve:
        """Return the curve of all trades, or of one instrument's, over the buckets."""
        at, equity, drawdown = self._curve(self._picked(instrument))
        place = buckets.index(at)
        last = np.searchsorted(place, np.arange(buckets.count), side="right") - 1
        # entry 0 of the padded arrays is the state before the first trade
        shown = np.concatenate(([0.0], equity))[last + 1]
        deepest = np.concatenate(([0.0], drawdown))[last + 1]
        np.maximum.at(deepest, place, drawdown)
        return {"equity_bps": rounded(shown, 2), "drawdown_bps": rounded(deepest, 2)}

    def listed(self) -> TradeSample:
        """Return the last trades, and the best and the worst of all trades."""
        total = len(self._ids)
        keep = np.zeros(total, bool)
        keep[max(0, total - LAST_SHOWN) :] = True
        # stable, so that the same trades give the same list
        by_pnl = np.argsort(self._columns["pnl_bps"], kind="stable")
        keep[by_pnl[:EXTREMES_SHOWN]] = True
        keep[by_pnl[max(0, total - EXTREMES_SHOWN) :]] = True
        rows = np.flatnonzero(keep)
        columns: dict[str, list[Any]] = {}
        for name in ("instrument", "exit_reason", "params_id", *INTEGERS):
            columns[name] = self._columns[name][rows].tolist()
        for name in NUMBERS:
            digits = DIGITS.get(name, BPS_DIGITS)
            columns[name] = rounded(self._columns[name][rows].tolist(), digits)
        columns["cost_assumed"] = self._columns["assumed"][rows].tolist()
        columns["trade_id"] = [self._ids[row] for row in rows]
        sentence = f"all {total:,} trades"
        if len(rows) < total:
            sentence = (
                f"the last {LAST_SHOWN:,} of {total:,} trades, and the {EXTREMES_SHOWN} best and "
                f"the {EXTREMES_SHOWN} worst by P&L of the whole time; the figures are of all"
            )
        return {
            "total": total,
            "shown": len(rows),
            "sentence": sentence if total else "no trades",
            "exit_reasons": self._names["exit_reason"],
            "params_ids": self._names["params_id"],
            "columns": columns,
        }

    def _picked(self, instrument: int | None) -> dict[str, npt.NDArray[Any]]:
        if instrument is None:
            return self._columns
        mask = self._columns["instrument"] == instrument
        return {name: values[mask] for name, values in self._columns.items()}

    @staticmethod
    def _curve(picked: dict[str, npt.NDArray[Any]]) -> tuple[Int64s, Floats, Floats]:
        """Return times, equity and drawdown after them; one entry per time.

        Trades closed at the same time are added together, because their order is undefined.
        """
        at, pnl = picked["as_of_ms"], picked["pnl_bps"]
        if not len(at):
            return at, pnl, pnl
        instants, starts = np.unique(at, return_index=True)
        equity = np.cumsum(np.add.reduceat(pnl, starts))
        peak = np.maximum(np.maximum.accumulate(equity), 0.0)
        return instants, equity, peak - equity


def _bps(value: float) -> float:
    return round(value, BPS_DIGITS) + 0.0
