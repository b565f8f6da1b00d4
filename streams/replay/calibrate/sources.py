"""Where windows come from: candle files through the metrics core, or ``sep.manifolds`` of a log."""

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
from streams.replay.calibrate.windows import COUNT, METRICS, Guard, Windows, guards_of

ROWS = 65_536
"""Candles the core is given at once."""

Progress = Callable[[str, int, int | None], None]


class Columnar(Protocol):
    """Candles of one series, however they were collected."""

    def columns(self) -> CandleColumns:
        """Return them, ascending."""
        ...

    def __len__(self) -> int: ...


class TimeRange(NamedTuple):
    """Which windows count: the ends of their bars, both included, None for no limit."""

    from_ms: int | None = None
    to_ms: int | None = None
    instruments: tuple[str, ...] = ()


class Found(NamedTuple):
    """The windows of a source.

    Attributes
    ----------
    source
        What it is, in words.
    config
        The settings in force, without parameters of single instruments.
    windows
        One element per instrument that has windows, by name.
    notes
        What was left out, in sentences.
    """

    source: str
    config: Config
    windows: list[Windows]
    notes: list[str]


def windows_of_series(
    found: MutableMapping[SeriesKey, Columnar],
    config: Config,
    stretch: TimeRange,
    source: str,
    progress: Progress = lambda what, done, total: None,
) -> Found:
    """Run candles through the metrics core; each series is taken out of ``found`` when it is read.

    All candles are run, whatever the stretch is: windows begin before it.

    Raises
    ------
    Fatal
        There are no candles of CANDLE_GRAN or of a wanted instrument, or none with a volume where
        a missing one is not allowed.
    """
    keys = sorted(key for key in found if key.granularity == config.candle_gran)
    if not keys:
        there = sorted({key.granularity for key in found}) or ["no candles"]
        raise Fatal(f"the files hold {', '.join(there)}, CANDLE_GRAN is {config.candle_gran}")
    chosen = _chosen([key.instrument for key in keys], stretch.instruments, "the files hold")
    sought, notes, windows, done = guards_of(config), [], [], 0
    total = sum(len(found[key]) for key in keys if key.instrument in chosen)
    for key in keys:
        one = found.pop(key)
        if key.instrument not in chosen:
            continue
        columns, note = _with_volume(key.instrument, one.columns(), config)
        notes += [note] if note else []
        made = Windows(key.instrument, config, sought)
        _run(columns, config, stretch, made)
        done += len(one)
        progress("windows", done, total)
        windows.append(made)
    return Found(source, config, [one for one in windows if one.total], notes)


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
            f"the candles of {instrument} have no volume, and without it the metrics mean "
            "something else; ALLOW_MISSING_VOLUME=1 counts them as 0"
        )
    note = f"{instrument}: {count:,} candles have no volume and are left out, as by a worker"
    return columns.where(~without), note


def _run(columns: CandleColumns, config: Config, stretch: TimeRange, into: Windows) -> None:
    stream = CandleStream(*config.window_shape)
    out = np.empty(ROWS, METRICS_DTYPE)
    high, low, close = columns.prices[1:4]
    for start in range(0, len(columns.bar_ms), ROWS):
        at = slice(start, start + ROWS)
        rows = stream.run(columns.bar_ms[at], high[at], low[at], close[at], columns.volume[at], out)
        as_of_ms = rows["t1_ms"] + GRANULARITY_MS[config.candle_gran]
        _add(into, stretch, as_of_ms, {name: rows[name] for name in (*METRICS, COUNT)})


def _add(
    into: Windows, stretch: TimeRange, as_of_ms: NDArray[np.int64], values: dict[str, NDArray[Any]]
) -> None:
    first = 0 if stretch.from_ms is None else int(np.searchsorted(as_of_ms, stretch.from_ms))
    last = len(as_of_ms)
    if stretch.to_ms is not None:
        last = int(np.searchsorted(as_of_ms, stretch.to_ms, side="right"))
    into.add(as_of_ms[first:last], {name: found[first:last] for name, found in values.items()})


def windows_of_log(
    runtime: Runtime,
    codec: Codec,
    stretch: TimeRange,
    progress: Progress = lambda what, done, total: None,
) -> Found:
    """Read the committed records of ``sep.manifolds``, of the bar length in force.

    Raises
    ------
    Fatal
        A topic is missing, the log has no configuration yet, or nothing of a wanted instrument.
    Recoverable
        No broker answers.
    """
    control = read_control(runtime, codec)
    state = control.state(control.end)
    if state.config is None:
        raise Fatal("the log holds no configuration yet: nothing has been derived")
    reading = _LogReading(codec, state.config, stretch)
    with LogReader(runtime) as reader:
        bounds = reader.all_bounds(MANIFOLDS, reader.partitions(MANIFOLDS))
        total, done = sum(high - low for low, high in bounds.values()), 0
        for partition, (low, high) in bounds.items():
            start = low
            if stretch.from_ms is not None and high > low:
                start = max(low, reader.offset_at(MANIFOLDS, partition, stretch.from_ms))
            for batch in reader.read(MANIFOLDS, partition, start, high):
                for name, columns in reading.columns(batch).items():
                    if name not in reading.windows:
                        config = state.config_of(name) or state.config
                        reading.windows[name] = Windows(name, config, reading.sought)
                    _add(reading.windows[name], stretch, *columns)
                progress(MANIFOLDS, done + batch[-1].record.offset + 1 - low, total)
            done += high - low
    _chosen(sorted(reading.seen), stretch.instruments, "the log holds")
    source = f"{MANIFOLDS} of the log" + (
        f", prefix {runtime.topic_prefix}" if runtime.topic_prefix else ""
    )
    windows = [one for _, one in sorted(reading.windows.items()) if one.total]
    return Found(source, state.config, windows, reading.notes())


class _LogReading:
    """What has been read of ``sep.manifolds`` so far."""

    def __init__(self, codec: Codec, config: Config, stretch: TimeRange) -> None:
        self._codec, self._granularity = codec, config.candle_gran
        self._wanted = {name.encode() for name in stretch.instruments}
        self.sought: list[Guard] = guards_of(config)
        self.windows: dict[str, Windows] = {}
        self.seen: set[str] = set()
        self._unreadable = self._other = 0

    def columns(
        self, batch: list[LogRecord]
    ) -> dict[str, tuple[NDArray[np.int64], dict[str, NDArray[Any]]]]:
        """Return instrument -> ends of bars and metrics, of the records that count."""
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
