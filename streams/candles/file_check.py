"""Check that a candle file contains what its name, header and options say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.candles.columns import SeriesKey
from streams.candles.file_names import ask_granularity, ask_instrument, read_file_name
from streams.candles.files import Refused
from streams.candles.rules import bar_step_ms
from streams.candles.spacing import Spacing, other_spacing, spacing_words, uneven_spacing
from streams.candles.times import TimeColumn, TimeForm
from streams.errors import Fatal
from streams.instants import GRANULARITY_MS, clock

FEW = 3
"""Number of refused rows up to which a file is not refused as a whole."""
SHARE = 0.1
"""Share of refused rows from which a file is refused as a whole."""


class SeriesFound(NamedTuple):
    """Contents of a file for one instrument and bar length.

    Attributes
    ----------
    rows
        Accepted candles, including duplicates.
    first_bar_ms, last_bar_ms
        Starts of the first and the last bar, epoch ms.
    side
        Which prices the file has.
    time_zone
        How the times were read.
    """

    file: str
    instrument: str
    granularity: str
    rows: int
    first_bar_ms: int
    last_bar_ms: int
    side: str
    time_zone: str

    def text(self) -> str:
        """Return a one-line description."""
        span = f"{clock(self.first_bar_ms)} to {clock(self.last_bar_ms)}"
        return (
            f"{self.file}: {self.instrument} {self.granularity}, {self.rows:,} rows, {span}, "
            f"times {self.time_zone}, prices {self.side}"
        )


class _Held:
    """Rows of one series read so far."""

    def __init__(self) -> None:
        self.parts: list[NDArray[np.int64]] = []
        self.bids = self.asks = self.derived = 0

    def bars(self) -> NDArray[np.int64]:
        return np.concatenate(self.parts)


class FileCheck:
    """Checks one file while its candles are read.

    Parameters
    ----------
    path
        The file.
    times
        The time column of its reader.
    """

    def __init__(self, path: str, times: TimeColumn) -> None:
        self._path, self._times = path, times
        self._held: dict[SeriesKey, _Held] = {}
        self.repeats = 0

    def add(
        self,
        key: SeriesKey,
        bar_ms: NDArray[np.int64],
        prices: NDArray[np.float64],
        derived: NDArray[np.bool_],
    ) -> None:
        """Add candles of a series; prices [12, n] as in ``bulk_csv.Block``."""
        held = self._held.setdefault(key, _Held())
        held.parts.append(bar_ms)
        held.bids += int((~np.isnan(prices[4])).sum())
        held.asks += int((~np.isnan(prices[8])).sum())
        held.derived += int(derived.sum())

    def finish(self, read: int, refused: Sequence[Refused]) -> list[SeriesFound]:
        """Finish the check; return the contents of the file.

        Parameters
        ----------
        read
            Number of rows, including refused rows.
        refused
            Its refused rows.

        Raises
        ------
        Fatal
            The contents do not match; the message names the file, the finding and what to do.
        """
        self._check_refused(read, refused)
        found = []
        for key, held in sorted(self._held.items()):
            bars = held.bars()
            ordered = bars if (bars[1:] > bars[:-1]).all() else np.unique(bars)
            self.repeats += len(bars) - len(ordered)
            self._check_side(key, held, len(bars))
            self._check_spacing(key, ordered)
            first, last = int(ordered[0]), int(ordered[-1])
            side, zone = _side(held, len(bars)), self._times.form.zone
            found.append(SeriesFound(self._path, *key, len(bars), first, last, side, zone))
        self._check_epoch()
        return found

    def _refuse(self, said: str) -> Fatal:
        return Fatal(f"{self._path}: no row is accepted: {said}")

    def _check_refused(self, read: int, refused: Sequence[Refused]) -> None:
        reasons = Counter(one.reason for one in refused)
        if not self._held and reasons.keys() == {"no_instrument"}:
            raise self._refuse(ask_instrument(self._path))
        if not self._held and reasons.keys() == {"no_granularity"}:
            raise self._refuse(ask_granularity(self._path))
        if _many(reasons["bad_time"], read):
            first = next(one for one in refused if one.reason == "bad_time")
            raise self._refuse(
                f"{reasons['bad_time']:,} of {read:,} rows have an unreadable time, the first in "
                f"line {first.line}: {first.detail}; write times as 2014-05-01T00:05:00Z"
            )
        astray = len(self._times.misaligned)
        if not astray:
            return
        first = next((one for one in refused if one.reason == "not_a_bar_start"), refused[0])
        parts = [held.bars() for held in self._held.values()]
        every = np.unique(np.concatenate([*parts, np.array(self._times.misaligned, np.int64)]))
        lengths = [GRANULARITY_MS[key.granularity] for key in self._held] or [1]
        spacing = uneven_spacing(every, bar_step_ms(min(lengths)))
        if spacing is None and not _many(astray, read):
            return
        said = f"{astray:,} of {read:,} rows: {first.detail} (line {first.line})"
        if spacing is not None:
            said += f"; bars are {spacing_words(spacing.distance_ms)} apart"
        form = self._times.form
        if form is TimeForm.EPOCH_S:
            said += "; 10 digits are read as epoch seconds, they may be YYMMDDHHMM"
        raise self._refuse(
            f"{said}; give the bars' length (--granularity) and times that are starts of bars"
        )

    def _check_spacing(self, key: SeriesKey, bars: NDArray[np.int64]) -> None:
        found: Spacing | None = other_spacing(bars, GRANULARITY_MS[key.granularity])
        if found is None:
            return
        raise self._refuse(
            f"{key.instrument} {key.granularity}: bars from {clock(found.from_ms)} on are "
            f"{spacing_words(found.distance_ms)} apart; give the bars' true length "
            "(--granularity, or the file's granularity column), and bars of one length a file"
        )

    def _check_side(self, key: SeriesKey, held: _Held, count: int) -> None:
        sides = read_file_name(self._path).sides
        if len(sides) == 1 and not held.bids and not held.asks and count:
            side = sides[0]
            raise self._refuse(
                f"its name says {side}, its columns are read as mid prices of {key.instrument}; "
                f"name them {side}_open, {side}_high, {side}_low, {side}_close and add those of "
                "the other side, or rename the file if the prices are mid"
            )

    def _check_epoch(self) -> None:
        if self._times.form is not TimeForm.EPOCH_S or not self._held:
            return
        seconds = np.concatenate([held.bars() for held in self._held.values()]) // 1000
        if _could_be_digits(seconds).all():
            raise self._refuse(
                f"its times, such as {int(seconds[0])}, can be epoch seconds or YYMMDDHHMM; write "
                "them as 2014-05-01T00:05:00Z"
            )

    def check_conflicts(self, read: int, conflicts: int) -> None:
        """Refuse a file whose rows contradict each other.

        Parameters
        ----------
        read
            Number of its rows.
        conflicts
            Rows with other numbers for a bar than an earlier row.

        Raises
        ------
        Fatal
            There are many such rows, and the file itself has several rows per bar.
        """
        if _many(conflicts, read) and self.repeats >= conflicts:
            raise self._refuse(
                f"{conflicts:,} of {read:,} rows have other numbers for a bar than a row before; "
                "the file may have two instruments, two sides or two bar lengths, or dates "
                "without a time of day"
            )


def _many(count: int, read: int) -> bool:
    return count > FEW and count > SHARE * read


def _side(held: _Held, rows: int) -> str:
    if held.bids == held.asks == rows:
        return "bid and ask (mid derived)" if held.derived == rows else "mid, bid and ask"
    if not held.bids and not held.asks:
        return "mid"
    return "mid, some with bid or ask"


def _could_be_digits(seconds: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which epoch seconds could also be read as YYMMDDHHMM."""
    minute, hour = seconds % 100, seconds // 100 % 100
    day, month = seconds // 10_000 % 100, seconds // 1_000_000 % 100
    found: NDArray[np.bool_] = (minute < 60) & (hour < 24) & (day > 0) & (day < 32)
    return found & (month > 0) & (month < 13)
