"""The sources of ``manifold snapshot`` and how their candles are read."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Final, Literal, NamedTuple

from streams.candles.columns import SeriesKey
from streams.candles.file_names import file_names
from streams.candles.files import STANDARD_INPUT
from streams.candles.load_report import LoadReport
from streams.candles.series import read_series
from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.errors import Fatal
from streams.instants import GRANULARITY_MS, clock
from streams.instruments import decorated_pair, instrument_name, is_pair
from streams.kafka.control_topic import read_control
from streams.kafka.registry import open_codec
from streams.mirror.snapshots import read_valkey
from streams.records.codec import Codec
from streams.records.control import ControlLog
from streams.records.events import Candle
from streams.replay.snapshot_candles import Selection, config_at, days_between, read_log

UNNAMED: Final = "UNKNOWN"
Place = Literal["file", "log", "valkey"]
_NAMED = re.compile(r"(log|valkey):([^:]+)(?::([^:]+))?(?::([^:]+))?")
_OTHER_NAME = re.compile(r"[A-Z0-9]{2,12}_[A-Z0-9]{2,12}")
"""Instruments that are no pair of two currencies, such as SPX500_USD."""


class Source(NamedTuple):
    """Where the candles of one or several manifolds come from.

    Attributes
    ----------
    place
        ``file``, ``log`` or ``valkey``.
    name
        The file, or the instrument.
    span
        First and last UTC day of ``valkey:EUR_USD:2014-05-01:2014-05-02``; empty without.
    """

    place: Place
    name: str
    span: tuple[date, ...] = ()


class SnapshotInput(NamedTuple):
    """The candles of a manifold, and the configuration that it is computed with."""

    instrument: str
    candles: list[Candle]
    config: Config


def source_of(text: str) -> Source:
    """Parse a SOURCE argument.

    Raises
    ------
    Fatal
        The text is not a source, or names a day that does not exist.
    """
    if text == STANDARD_INPUT or Path(text).exists():
        return Source("file", text)
    named = _NAMED.fullmatch(text)
    if named is None:
        name = instrument_name(text)
        logged = is_pair(*name.partition("_")[::2]) or _OTHER_NAME.fullmatch(text)
        return Source("log", _instrument(text)) if logged else Source("file", text)
    first, last = named[3], named[4] or named[3]
    span = () if first is None else (day("source", first), day("source", last))
    if span and span[0] > span[1]:
        raise Fatal(f"{text}: the first day is after the last one")
    return Source("log" if named[1] == "log" else "valkey", _instrument(named[2]), span)


def _instrument(text: str) -> str:
    name = instrument_name(text)
    pair = decorated_pair(name)
    if pair is not None:
        raise Fatal(f"{text!r} is no instrument; write {pair}, if that pair is meant")
    return name


def day(option: str, text: str) -> date:
    """Parse a UTC day.

    Raises
    ------
    Fatal
        The text is not a day; the message names the option.
    """
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise Fatal(f"{option} {text!r} is not a day like 2014-05-30") from error


class Sources:
    """Reads the candles of sources.

    Parameters
    ----------
    chosen
        Selection of candles.
    instrument, granularity
        Instrument and bar length of files that name none; bar length of the log and of Valkey.
    now_ms
        The current time: it sets the newest days of log and Valkey; file candles that end later are
        refused.
    """

    def __init__(
        self, chosen: Selection, instrument: str | None, granularity: str | None, now_ms: int
    ) -> None:
        self._chosen, self._instrument, self._granularity = chosen, instrument, granularity
        self._now_ms = now_ms
        self._opened: tuple[Runtime, Codec, ControlLog] | None = None
        self.report = LoadReport()

    def read(self, source: Source) -> Iterator[SnapshotInput]:
        """Yield the candles of each manifold of a source.

        Raises
        ------
        Fatal, Recoverable
            It has no candles, or cannot be read.
        """
        if source.place == "file":
            yield from self._file(source.name)
            return
        chosen = self._chosen.counted_from(self._now_ms)
        if source.span:
            # as in the original, a range gives one manifold over all of its days
            days = days_between(*source.span)
            chosen = chosen._replace(days=days)
        length = None if self._granularity is None else self._granularity.strip().upper()
        if length is not None and length not in GRANULARITY_MS:
            known = ", ".join(GRANULARITY_MS)
            raise Fatal(f"--granularity {length} is not a bar length; use one of {known}")
        if source.place == "log":
            runtime, codec, control = self._log()
            config = config_at(control, chosen.until_ms) or Config.from_env()
        else:
            runtime, config = Runtime.from_env(), Config.from_env()
        if not (chosen.last or chosen.days):
            chosen = chosen._replace(last=config.candle_count)
        key = SeriesKey(source.name, length or config.candle_gran)
        if source.place == "log":
            candles = read_log(runtime, codec, key, chosen, config)
        else:
            candles = asyncio.run(read_valkey(runtime, key, chosen))
        parts = chosen.split(candles)
        if source.span:
            parts = [[candle for part in parts for candle in part]]
        if not any(parts):
            raise Fatal(f"{source.name}: no candle in {_words(chosen)}")
        for part in parts:
            yield SnapshotInput(source.name, part, config)

    def _log(self) -> tuple[Runtime, Codec, ControlLog]:
        if self._opened is None:
            runtime = Runtime.from_env()
            codec = asyncio.run(open_codec(runtime))
            self._opened = runtime, codec, read_control(runtime, codec)
        return self._opened

    def _file(self, path: str) -> Iterator[SnapshotInput]:
        config = Config.from_env()
        name, length = file_names(path, self._instrument, self._granularity)
        given = (name or UNNAMED, length or config.candle_gran)
        report = LoadReport()
        series = read_series([path], *given, report, self._now_ms)
        self.report.read += report.read
        self.report.refused += report.refused
        report.require_candles(series)
        if not series:
            yield SnapshotInput(given[0], [], config)
        for key in sorted(series):
            candles = list(series[key].candles())
            chosen = self._chosen.counted_from(candles[-1].bar_ms)
            parts = chosen.split(candles)
            if not any(parts):
                raise Fatal(f"{path}: {key.instrument}: no candle in {_words(chosen)}")
            for part in parts:
                yield SnapshotInput(key.instrument, part, config)


def _words(chosen: Selection) -> str:
    if not chosen.days:
        return f"the time up to {clock(chosen.at_ms)} UTC"
    first, last = min(chosen.days), max(chosen.days)
    return f"{first} (UTC)" if first == last else f"{first} to {last} (UTC)"
