"""A made-up year of many instruments, in blocks as a replay hands them over; seeded."""

from __future__ import annotations

import numpy as np

from streams.config.settings import Config
from streams.records.events import Floors, SimulatedTrade, Summary, SummarySlice
from streams.records.reasons import Reason
from streams.replay.report.accumulate import ReportAccumulator
from streams.replay.report.data import ReportMeta

START_MS = 1_735_689_600_000
MINUTE_MS = 60_000
DAY_MIN = 1440
PAIRS_28 = tuple(
    f"{base}_{quote}"
    for at, base in enumerate(("EUR", "GBP", "AUD", "NZD", "USD", "CAD", "CHF", "JPY"))
    for quote in ("EUR", "GBP", "AUD", "NZD", "USD", "CAD", "CHF", "JPY")[at + 1 :]
)
CONFIG = Config(auto_max_entropy=0.85, tzdata_version="2025.2")
EXITS = ("target", "stop", "slope_reversal", "max_hold", "session_close")


def gate_rows(
    minutes: int, rng: np.random.Generator, pass_rate: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return as_of_ms, eligible and reason words of one instrument, a minute apart."""
    bit = {reason: np.uint32(1 << at) for at, reason in enumerate(Reason)}
    at = np.arange(1, minutes + 1)
    minute, weekday = at % DAY_MIN, (at // DAY_MIN + 2) % 7
    season = pass_rate * (0.6 + 0.4 * np.sin(at / (37 * DAY_MIN)))
    words = np.zeros(minutes, np.uint32)
    fails = {
        Reason.COHERENCE_BELOW_MIN: 1 - season,
        Reason.STABILITY_BELOW_MIN: 0.25,
        Reason.ENTROPY_ABOVE_MAX: 0.2,
        Reason.RUPTURE_ABOVE_MAX: 0.05,
        Reason.REPETITIONS_SHORT: 0.15,
        Reason.CALMAR_BELOW_FLOOR: 0.3,
        Reason.PNL_BELOW_FLOOR: 0.12,
        Reason.HYSTERESIS_WAIT: 0.02,
        Reason.COOLDOWN: 0.01,
    }
    for reason, share in fails.items():
        words |= (rng.random(minutes) < share) * bit[reason]
    closed = (minute < 480) | (minute >= 1020)
    words |= closed * bit[Reason.SESSION_CLOSED]
    words |= (weekday >= 5) * (bit[Reason.MARKET_CLOSED] | bit[Reason.SIGNAL_STALE])
    words[:129] |= bit[Reason.WARMING]
    return START_MS + at * MINUTE_MS, words == 0, words


def trades_of(
    name: str, count: int, minutes: int, rng: np.random.Generator
) -> list[SimulatedTrade]:
    """Return closed trades of one instrument, spread over the time."""
    entries = np.sort(rng.integers(130, minutes - 40, count)) * MINUTE_MS + START_MS
    held, pnl = rng.integers(1, 31, count), rng.normal(0.06, 6.5, count)
    cost = rng.uniform(0.6, 2.2, count)
    return [
        SimulatedTrade(
            name, "M1", int(entry + (bars - 1) * MINUTE_MS), int(entry + bars * MINUTE_MS),
            CONFIG.config_id, 7, f"{at:016x}", 1 if at % 2 else -1, int(entry), 1.08213,
            int(entry + (bars - 1) * MINUTE_MS), 1.08213 * (1 + gain / 1e4), EXITS[at % 5],
            int(bars), float(paid), float(gain), -abs(float(gain)) - 1, abs(float(gain)) + 1,
            at % 50 == 0, "f00dcafe00112233",
        )
        for at, (entry, bars, gain, paid) in enumerate(zip(entries, held, pnl, cost, strict=True))
    ]  # fmt: skip


def summary_of(name: str, as_of_ms: int, rng: np.random.Generator) -> Summary:
    """Return an evaluation with the usual three slices."""
    slices = tuple(
        SummarySlice(days, days * 10, 0.52, float(rng.normal(5, 20)), float(rng.normal(0, 0.002)),
                     0.004, float(rng.normal(0.3, 0.5)), 3.1, 0.9, 1.1, 1.08, 0.11, 14.2, 1.4)
        for days in (14, 30, 60)
    )  # fmt: skip
    return Summary(
        name, "M1", as_of_ms - MINUTE_MS, as_of_ms, CONFIG.config_id, 7, "f00dcafe00112233", 30,
        slices, Floors(10.0, 0.21, 0.0004), 720, True,
    )  # fmt: skip


def made_year(
    days: int = 365,
    pairs: tuple[str, ...] = PAIRS_28,
    trades: int = 3_800,
    pass_rate: float = 0.35,
    seed: int = 7,
) -> ReportAccumulator:
    """Return an accumulator that has taken in ``days`` of minutes and ``trades`` per pair."""
    rng, accumulator, minutes = np.random.default_rng(seed), ReportAccumulator(), days * DAY_MIN
    for name in pairs:
        at, eligible, words = gate_rows(minutes, rng, pass_rate)
        accumulator.add_gates(name, at, eligible, words)
        accumulator.add_trades(trades_of(name, trades, minutes, rng))
        accumulator.add_summary(summary_of(name, int(at[-1]), rng))
    for start in range(0, minutes, 100_000):
        count = min(100_000, minutes - start)
        wanted = rng.random((count, len(pairs)))
        # the places of Top-K move slowly, as scores do
        wanted += 2 * np.sin(np.arange(start, start + count)[:, None] / 9e3 + np.arange(len(pairs)))
        weights = np.where(wanted >= np.sort(wanted, axis=1)[:, [-min(3, len(pairs))]], 1 / 3, 0.0)
        action = rng.choice(np.array([0, 1, 2], np.uint8), count, p=[0.5, 0.2, 0.3])
        weights[action == 2] = 0
        epochs = START_MS + np.arange(start + 1, start + count + 1) * MINUTE_MS
        accumulator.add_weights(epochs, pairs, weights, weights * 0.3, action)
    return accumulator


def made_meta() -> ReportMeta:
    """Return what a caller tells of that year."""
    return ReportMeta(
        source="a made-up year",
        config=CONFIG,
        engines=("qfh-2.0.0",),
        log=(
            {
                "topic": "opt.gates",
                "partition": 0,
                "start": 0,
                "end": 15_242_400,
                "records": 15_242_392,
            },
        ),
    )
