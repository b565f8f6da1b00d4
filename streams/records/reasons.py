"""Reason codes: why an instrument is not eligible, and why a record or a decision was refused."""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class Documented(StrEnum):
    """An enum of codes, each with one line of documentation."""

    doc: str

    def __new__(cls, code: str, doc: str) -> Self:
        """Return the member of a code."""
        made = str.__new__(cls, code)
        made._value_ = code
        made.doc = doc
        return made


class Reason(Documented):
    """All values of ``reasons`` in a gate decision."""

    WARMING = "warming", "fewer than 129 candles so far, or (adaptive) too few bars for a direction"
    SIGNAL_STALE = "signal_stale", "the last signal is older than FRESH_MAX_SIGNAL_AGE_SEC"
    COHERENCE_BELOW_MIN = "coherence_below_min", "coherence < AUTO_MIN_COHERENCE"
    STABILITY_BELOW_MIN = "stability_below_min", "stability < GUARD_MIN_STABILITY"
    ENTROPY_ABOVE_MAX = "entropy_above_max", "entropy > AUTO_MAX_ENTROPY"
    RUPTURE_ABOVE_MAX = "rupture_above_max", "rupture > AUTO_MAX_RUPTURE"
    HAZARD_ABOVE_MAX = (
        "hazard_above_max",
        "lambda_hazard > AUTO_MAX_HAZARD, or ECHO_HAZARD_MAX in echo mode",
    )
    REPETITIONS_SHORT = (
        "repetitions_short",
        "count_1h < SESSION_PATTERN_MIN_OCCURRENCES, or ECHO_MIN_REPETITIONS in echo mode",
    )
    SESSION_CLOSED = "session_closed", "no session of the pair's two currencies is open"
    SESSION_NEAR_CLOSE = "session_near_close", "within SESSION_EXIT_MINUTES of the close"
    MARKET_CLOSED = (
        "market_closed",
        "the market is closed: a weekend or a holiday (MARKET_CALENDAR, MARKET_HOLIDAYS)",
    )
    SPAN_INTEGRITY = "span_integrity", "a longer slice of the backtest has fewer trades"
    TRADES_BELOW_FLOOR = "trades_below_floor", "fewer trades than the floor in the last evaluation"
    CALMAR_BELOW_FLOOR = (
        "calmar_below_floor",
        "calmar below its upper band, or none, in the last evaluation",
    )
    PNL_BELOW_FLOOR = "pnl_below_floor", "P&L below its upper band in the last evaluation"
    HYSTERESIS_WAIT = "hysteresis_wait", "the latch is closed: two consecutive passes open it"
    COOLDOWN = "cooldown", "in cooldown after four consecutive misses"
    KILL_SWITCH = "kill_switch", "the kill switch is engaged (execution only)"
    SPREAD_TOO_WIDE = "spread_too_wide", "spread > MAX_SPREAD_BPS (execution only)"


class Refusal(Documented):
    """Why a stage made a dead letter of a record that could be decoded."""

    INVALID_CANDLE = "invalid_candle", "the key, times, prices or volume of the candle are invalid"
    CROSSED_QUOTE = "crossed_quote", "a bid is above its ask"
    VOLUME_MISSING = "volume_missing", "the candle has no volume (ALLOW_MISSING_VOLUME accepts it)"
    CONFLICT = "conflict", "a candle of this bar with other numbers was accepted before"
    OUT_OF_ORDER = "out_of_order", "the bar is older than the instrument's last accepted one"
    NO_CONFIG = "no_config", "no watermark with a configuration came before the record"
    INVALID_WATERMARK = "invalid_watermark", "the key, times or names of the watermark are invalid"
    CONTROL_MISSING = (
        "control_missing",
        "the watermark is stamped with an offset of ops.control that did not exist",
    )


class DecisionRefusal(Documented):
    """Why an executor does not act on a gate decision or on weights."""

    AFTER_CLOCK = "after_clock", "its time is more than a minute ahead of the executor's clock"
    AFTER_CANDLES = (
        "after_candles",
        "its time is after the newest candle and watermark of the instrument in md.candles",
    )
    SOURCE_INVALID = (
        "source_invalid",
        "the header source names no record of the topic that the stage reads, a partition of other "
        "instruments, or a record not after that of the decision before",
    )
    SOURCE_NOT_COMMITTED = (
        "source_not_committed",
        "the stage has not committed the offset in the header source within 5 s",
    )
    CONTROL_MISSING = (
        "control_missing",
        "control_offset is after the end of ops.control, or before its first configuration",
    )
