"""``sep.signals`` (and ``sep.manifolds``, same transaction) from ``md.candles``.

A signal is the metrics of the window of the last 128 bits, from an instrument's 129th accepted
candle on (docs/spec/records.md, "What a stream record equals in the batch").
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from streams.candles.calendar import calendar_of
from streams.candles.rules import input_refusal
from streams.config.settings import Config
from streams.core import BarMetrics, CandleStream
from streams.errors import Fatal
from streams.pipeline.manifolds import manifold
from streams.pipeline.processor import (
    ControlledStep,
    LoadControl,
    LogStage,
    TopicEvent,
    dead_letter,
    read_row,
    write_row,
)
from streams.records.codec import Codec
from streams.records.control import ControlLog
from streams.records.events import Candle, CandlePrices, Ohlc, Signal, Watermark
from streams.records.log_record import RowChanges, Rows, SourceRecord
from streams.records.reasons import Refusal
from streams.records.topics import CANDLES, DEAD_LETTERS, MANIFOLDS, SIGNALS

STAGE = "signals"
LAST_ROW = "last"
WATERMARKS: Final = "vouched"
"""Key of the watermarks in the state of a partition; state written by earlier releases has it."""
WINDOW_CANDLES = 129


def signal(
    candle: Candle,
    prices: CandlePrices,
    metrics: BarMetrics,
    stamp: tuple[str, int],
    *,
    volume_missing: bool,
    gap_bars: int,
) -> Signal:
    """Return the signal record of the bar (docs/spec/trading-loop.md 1.3 to 1.7).

    Parameters are those of ``streams.pipeline.manifolds.manifold``.
    """
    return Signal(
        candle.instrument,
        candle.granularity,
        candle.bar_ms,
        candle.as_of_ms,
        stamp[0],
        stamp[1],
        metrics.window_start_ms,
        metrics.coherence,
        metrics.stability,
        metrics.entropy,
        metrics.rupture,
        metrics.flip_ratio,
        metrics.lambda_hazard,
        metrics.collapsed,
        metrics.signature,
        metrics.count_1h,
        metrics.first_seen_ms,
        metrics.ones,
        candle.mid.close,
        prices,
        volume_missing,
        gap_bars,
    )


class _Instrument:
    """One instrument's stream, and the fields of its last accepted candle that the rules need."""

    __slots__ = ("bar_ms", "dirty", "granularity", "prices", "since_missing", "stream")

    def __init__(self, stream: CandleStream, granularity: str) -> None:
        self.stream = stream
        self.granularity = granularity
        self.bar_ms = -1
        self.prices: CandlePrices | None = None
        self.since_missing = WINDOW_CANDLES  # number of candles since the last one without volume
        self.dirty = False

    def row(self) -> bytes:
        return write_row(
            {
                "granularity": self.granularity,
                "bar_ms": self.bar_ms,
                "prices": self.prices,
                "since_missing": self.since_missing,
            }
        )

    def read(self, content: dict[str, Any]) -> None:
        mid, bid, ask, volume = content["prices"]
        self.prices = CandlePrices(Ohlc(*mid), bid and Ohlc(*bid), ask and Ohlc(*ask), volume)
        self.bar_ms, self.since_missing = content["bar_ms"], content["since_missing"]


class SignalsStep(ControlledStep):
    """The fold of one partition of ``md.candles``.

    Parameters
    ----------
    control, rows
        As in ``ControlledStep``; rows are named ``<instrument>/last`` and ``<instrument>/<engine
        row>``.
    """

    def __init__(self, control: ControlLog, rows: Rows) -> None:
        super().__init__(control, rows)
        self.counts: Counter[str] = Counter()
        self._watermark_ms: dict[str, int] = dict(self.own(WATERMARKS, {}))
        self._instruments: dict[str, _Instrument] = {}
        self._dropped: list[bytes] = []
        self._restore(rows)

    def step(self, event: Candle | Watermark, at: SourceRecord) -> list[TopicEvent]:
        """Process a candle or a watermark; return signal and manifold, or a dead letter."""
        if isinstance(event, Watermark):
            refusal = input_refusal(event, at.key, at.timestamp_ms)
            return self._refuse(at, *refusal) if refusal else self._watermark(event)
        config = self.state.config
        if config is None:
            detail = "no watermark with a configuration before it: a feed writes one first"
            return self._refuse(at, Refusal.NO_CONFIG, detail)
        if event.granularity != config.candle_gran:
            self.counts["other_granularity"] += 1
            return []
        refusal = input_refusal(event, at.key, at.timestamp_ms)
        if refusal:
            return self._refuse(at, *refusal)
        return self._candle(event, at, config)

    def changes(self) -> RowChanges:
        """Return the rows that changed since the last call."""
        changed = self.own_changes()
        changed.update((row, None) for row in self._dropped)
        self._dropped.clear()
        for name, state in self._instruments.items():
            if state.dirty:
                state.dirty = False
                for row, content in state.stream.changed_rows().items():
                    changed[f"{name}/{row}".encode()] = content
                changed[f"{name}/{LAST_ROW}".encode()] = state.row()
        return changed

    def _candle(self, candle: Candle, at: SourceRecord, config: Config) -> list[TopicEvent]:
        prices = CandlePrices(candle.mid, candle.bid, candle.ask, candle.volume)
        state = self._instruments.get(candle.instrument)
        if state is not None and candle.bar_ms <= state.bar_ms:
            return self._not_newer(candle, prices, state, at)
        missing = candle.volume is None
        if missing and not config.allow_missing_volume:
            detail = "the candle has no volume; ALLOW_MISSING_VOLUME=1 accepts it and flags"
            return self._refuse(at, Refusal.VOLUME_MISSING, detail)
        if state is None:
            state = self._instruments[candle.instrument] = _new_instrument(config)
        gap = 0
        if 0 <= state.bar_ms != candle.bar_ms - config.granularity_ms:
            calendar = calendar_of(config)
            gap = calendar.missing_bars(state.bar_ms, candle.bar_ms, config.granularity_ms)
            self.counts["gap_bars"] += gap
        late = candle.as_of_ms <= self._watermark_ms.get(candle.instrument, -1)
        self.counts["late"] += late
        state.bar_ms, state.prices, state.dirty = candle.bar_ms, prices, True
        state.since_missing = 0 if missing else min(state.since_missing + 1, WINDOW_CANDLES)
        mid = candle.mid
        metrics = state.stream.step(candle.bar_ms, mid.high, mid.low, mid.close, candle.volume or 0)
        if metrics is None:
            return []
        stamp = (self.state.config_id, self.state.offset)
        flagged = state.since_missing < WINDOW_CANDLES
        return [
            (
                SIGNALS,
                signal(candle, prices, metrics, stamp, volume_missing=flagged, gap_bars=gap),
            ),
            (
                MANIFOLDS,
                manifold(
                    candle,
                    prices,
                    metrics,
                    stamp,
                    volume_missing=flagged,
                    gap_bars=gap,
                    late=late,
                ),
            ),
        ]

    def _not_newer(
        self, candle: Candle, prices: CandlePrices, state: _Instrument, at: SourceRecord
    ) -> list[TopicEvent]:
        if candle.bar_ms < state.bar_ms:
            detail = f"bar {candle.bar_ms} after bar {state.bar_ms} of {candle.instrument}"
            return self._refuse(at, Refusal.OUT_OF_ORDER, detail)
        if prices == state.prices:
            self.counts["duplicate"] += 1
            return []
        detail = f"bar {candle.bar_ms} of {candle.instrument} was accepted with other numbers"
        return self._refuse(at, Refusal.CONFLICT, detail)

    def _refuse(self, at: SourceRecord, reason: Refusal, detail: str) -> list[TopicEvent]:
        return [(DEAD_LETTERS, dead_letter(at, reason, detail, STAGE))]

    def _watermark(self, watermark: Watermark) -> list[TopicEvent]:
        before = self.state.config
        if self.follow(watermark) and before is not None:
            self._reconfigure(before)
        config = self.state.config
        ours = config is not None and watermark.granularity == config.candle_gran
        for name in watermark.instruments if ours else ():
            if self._watermark_ms.get(name, -1) < watermark.as_of_ms:
                self._watermark_ms[name] = watermark.as_of_ms
        self.keep(WATERMARKS, self._watermark_ms)
        return [(SIGNALS, watermark), (MANIFOLDS, watermark)]

    def _reconfigure(self, before: Config) -> None:
        config = self.state.config
        if config is None or config == before:
            return
        if config.candle_gran != before.candle_gran:
            # windows of another bar length are not comparable: every instrument restarts
            for name, state in self._instruments.items():
                self._dropped += [f"{name}/{row}".encode() for row in state.stream.row_names()]
                self._dropped.append(f"{name}/{LAST_ROW}".encode())
            self._instruments.clear()
            return
        for name in sorted(self._instruments):
            state = self._instruments[name]
            state.stream.reconfigure(*config.window_shape)
            state.dirty = True

    def _restore(self, rows: Rows) -> None:
        found: dict[str, dict[str, bytes]] = {}
        for key, content in rows.items():
            name, _, row = key.decode().rpartition("/")
            if name:
                found.setdefault(name, {})[row] = content
        for name in sorted(found):
            last = read_row(found[name].pop(LAST_ROW, None))
            if not last:
                raise Fatal(
                    f"the stored state of {name} has no row '{LAST_ROW}': derive again under "
                    "another prefix (manifold migrate --to-prefix P)"
                )
            stream = CandleStream.from_rows(found[name])
            state = self._instruments[name] = _Instrument(stream, last["granularity"])
            state.read(last)


def _new_instrument(config: Config) -> _Instrument:
    return _Instrument(CandleStream(*config.window_shape), config.candle_gran)


def signals_stage(
    codec: Codec, control: ControlLog, load_control: LoadControl | None = None
) -> LogStage:
    """Return the stage ``signals``: ``md.candles`` to ``sep.signals`` and ``sep.manifolds``."""
    outputs = (SIGNALS, MANIFOLDS)
    return LogStage(STAGE, CANDLES, outputs, codec, control, SignalsStep, load_control)
