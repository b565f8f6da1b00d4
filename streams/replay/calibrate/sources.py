"""Sources of windows: candle files through the metrics core, or ``sep.manifolds`` of a log."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from streams.candles.columns import NO_VOLUME, CandleColumns, SeriesKey
from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.core import METRICS_DTYPE, CandleStream
from streams.errors import Fatal
from streams.instants import GRANULARITY_MS
from streams.kafka.control_topic import read_control
from streams.kafka.decoding import decode_record
from streams.kafka.reader import LogReader, LogRecord
from streams.records.codec import Codec, DecodeError
from streams.records.events import WATERMARK_KEY, Manifold
from streams.records.topics import MANIFOLDS
from streams.replay.calibrate.windows import COUNT, METRICS, ActiveGuard, Windows, guards_of
from streams.replay.report.collect import TimeRange

ROWS = 65_536
"""Number of candles per call of the core."""

Progress = Callable[[str, int, int | None], None]


class Columnar(Protocol):
    """Candles of one series."""

    def columns(self) -> CandleColumns:
        """Return the candles, ascending."""
        ...

    def __len__(self) -> int: ...


class SourceWindows(NamedTuple):
    """The windows of a source.

    Attributes
    ----------
    source
        Description of the source.
    config
        The settings in force, without parameters of single instruments.
    windows
        One element per instrument that has windows, by name.
    notes
        What was left out, as sentences.
    """

    source: str
    config: Config
    windows: list[Windows]
    notes: list[str]


def windows_of_series(
    found: MutableMapping[SeriesKey, Columnar],
    config: Config,
    time_range: TimeRange,
    source: str,
    progress: Progress = lambda what, done, total: None,
) -> SourceWindows:
    """Run candles through the metrics core; each series is removed from ``found`` when it is read.

    All candles are run, whatever the time range, because windows begin before it.

    Raises
    ------
    Fatal
        There are no candles of CANDLE_GRAN or of a requested instrument, or none with a volume
        although it is required.
    """
    keys = sorted(key for key in found if key.granularity == config.candle_gran)
    if not keys:
        there = sorted({key.granularity for key in found}) or ["no candles"]
        raise Fatal(f"the files hold {', '.join(there)}, CANDLE_GRAN is {config.candle_gran}")
    chosen = _chosen([key.instrument for key in keys], time_range.instruments, "the files hold")
    to_calibrate, notes, windows, done = guards_of(config), [], [], 0
    total = sum(len(found[key]) for key in keys if key.instrument in chosen)
    for key in keys:
        one = found.pop(key)
        if key.instrument not in chosen:
            continue
        columns, note = _with_volume(key.instrument, one.columns(), config)
        notes += [note] if note else []
        made = Windows(key.instrument, config, to_calibrate)
        _run(columns, config, time_range, made)
        done += len(one)
        progress("windows", done, total)
        windows.append(made)
    return SourceWindows(source, config, [one for one in windows if one.total], notes)


def _with_volume(
    instrument: str, columns: CandleColumns, config: Config
) -> tuple[CandleColumns, str | None]:
    without = columns.volume == NO_VOLUME
    count = int(without.sum())
    if not count:
        return columns, None
    if config.allow_missing_volume:
        note = f"{instrument}: {count:,} candles have no volume and count as 0"
        return columns._replace(volume=np.maximum(columns.volume, 0)), note
    if count == len(without):
        raise Fatal(
            f"the candles of {instrument} have no volume, and without it the metrics are not "
            "comparable; ALLOW_MISSING_VOLUME=1 counts them as 0"
        )
    note = f"{instrument}: {count:,} candles have no volume and are left out, as by a worker"
    return columns.where(~without), note


def _run(columns: CandleColumns, config: Config, time_range: TimeRange, into: Windows) -> None:
    stream = CandleStream(*config.window_shape)
    out = np.empty(ROWS, METRICS_DTYPE)
    high, low, close = columns.prices[1:4]
    for start in range(0, len(columns.bar_ms), ROWS):
        at = slice(start, start + ROWS)
        rows = stream.run(columns.bar_ms[at], high[at], low[at], close[at], columns.volume[at], out)
        as_of_ms = rows["t1_ms"] + GRANULARITY_MS[config.candle_gran]
        _add(into, time_range, as_of_ms, {name: rows[name] for name in (*METRICS, COUNT)})


def _add(
    into: Windows,
    time_range: TimeRange,
    as_of_ms: NDArray[np.int64],
    values: dict[str, NDArray[Any]],
) -> None:
    first = 0 if time_range.from_ms is None else int(np.searchsorted(as_of_ms, time_range.from_ms))
    last = len(as_of_ms)
    if time_range.to_ms is not None:
        last = int(np.searchsorted(as_of_ms, time_range.to_ms, side="right"))
    into.add(as_of_ms[first:last], {name: found[first:last] for name, found in values.items()})


def windows_of_log(
    runtime: Runtime,
    codec: Codec,
    time_range: TimeRange,
    progress: Progress = lambda what, done, total: None,
) -> SourceWindows:
    """Read the committed records of ``sep.manifolds``, of the bar length in force.

    Raises
    ------
    Fatal
        A topic is missing, or the log has no configuration, or no records of a requested
        instrument.
    Recoverable
        No broker answers.
    """
    control = read_control(runtime, codec)
    state = control.state(control.end)
    if state.config is None:
        raise Fatal("the log holds no configuration yet: nothing has been derived")
    reading = _LogReading(codec, state.config, time_range)
    with LogReader(runtime) as reader:
        bounds = reader.all_bounds(MANIFOLDS, reader.partitions(MANIFOLDS))
        total, done = sum(high - low for low, high in bounds.values()), 0
        for partition, (low, high) in bounds.items():
            start = low
            if time_range.from_ms is not None and high > low:
                start = max(low, reader.offset_at(MANIFOLDS, partition, time_range.from_ms))
            for batch in reader.read(MANIFOLDS, partition, start, high):
                for name, columns in reading.columns(batch).items():
                    if name not in reading.windows:
                        config = state.config_of(name) or state.config
                        reading.windows[name] = Windows(name, config, reading.to_calibrate)
                    _add(reading.windows[name], time_range, *columns)
                progress(MANIFOLDS, done + batch[-1].record.offset + 1 - low, total)
            done += high - low
    _chosen(sorted(reading.seen), time_range.instruments, "the log holds")
    source = f"{MANIFOLDS} of the log" + (
        f", prefix {runtime.topic_prefix}" if runtime.topic_prefix else ""
    )
    windows = [one for _, one in sorted(reading.windows.items()) if one.total]
    return SourceWindows(source, state.config, windows, reading.notes())


class _LogReading:
    """The records of ``sep.manifolds`` read so far."""

    def __init__(self, codec: Codec, config: Config, time_range: TimeRange) -> None:
        self._codec, self._granularity = codec, config.candle_gran
        self._wanted = {name.encode() for name in time_range.instruments}
        self.to_calibrate: list[ActiveGuard] = guards_of(config)
        self.windows: dict[str, Windows] = {}
        self.seen: set[str] = set()
        self._unreadable = self._other = 0

    def columns(
        self, batch: list[LogRecord]
    ) -> dict[str, tuple[NDArray[np.int64], dict[str, NDArray[Any]]]]:
        """Return instrument -> bar ends and metrics of the records that count."""
        rows: dict[str, list[tuple[float, ...]]] = {}
        for found in batch:
            key = found.record.key or b""
            if key == WATERMARK_KEY:
                continue
            self.seen.add(key.decode(errors="replace"))
            if self._wanted and key not in self._wanted:
                continue
            try:
                event = decode_record(self._codec, found.record)
            except DecodeError:
                self._unreadable += 1
                continue
            if not isinstance(event, Manifold):
                continue
            if event.granularity != self._granularity:
                self._other += 1
                continue
            rows.setdefault(event.instrument, []).append(
                (event.as_of_ms, *(getattr(event, name) for name in (*METRICS, COUNT)))
            )
        made = {}
        for name, lines in rows.items():
            as_of_ms, *metrics = (np.array(column) for column in zip(*lines, strict=True))
            made[name] = (as_of_ms, dict(zip((*METRICS, COUNT), metrics, strict=True)))
        return made

    def notes(self) -> list[str]:
        """Return what was left out."""
        said = []
        if self._other:
            said.append(
                f"{self._other:,} windows of another bar length than CANDLE_GRAN are left out"
            )
        if self._unreadable:
            said.append(f"{self._unreadable:,} records could not be read and are left out")
        return said


def _chosen(there: Sequence[str], wanted: Sequence[str], said: str) -> set[str]:
    missing = sorted(set(wanted) - set(there))
    if missing:
        raise Fatal(f"{said} {', '.join(there) or 'nothing'}, not {', '.join(missing)}")
    return set(wanted or there)
