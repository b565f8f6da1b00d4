"""How long the last value of an instrument counts as fresh.

Used for the TTL of ``ws:last:manifold`` in the mirror, and for staleness in failure signals, the
checklist and ``/status`` of the hydrator.
"""

from __future__ import annotations

from typing import Final

from streams.config.settings import Config

LEAST_MS: Final = 300_000
MARGIN_MS: Final = 60_000
SETTLE_MS: Final = 500
"""Default of FEED_SETTLE_MS."""
STEP_BARS: Final = 4
"""Distance between the windows over which repetitions are counted, in bars."""
MOST_STEPS: Final = 128
WINDOW_BARS: Final = 129
LONGEST_LOOKBACK_MINUTES: Final = 1_440
MINUTE_MS: Final = 60_000


def fresh_for_ms(granularity_ms: int, settle_ms: int = SETTLE_MS) -> int:
    """Return how long a value is fresh after the end of its bar, ms.

    300 s as in the profile; with longer bars, until the next value is due.

    Parameters
    ----------
    granularity_ms
        Bar length.
    settle_ms
        Delay between a bar's end and the request for its candle (FEED_SETTLE_MS).
    """
    return max(LEAST_MS, granularity_ms + settle_ms + MARGIN_MS)


def lookback_problems(config: Config, settle_ms: int = SETTLE_MS) -> list[str]:
    """Return problems of the repetition lookback with bar length and key TTL; empty when none.

    Parameters
    ----------
    config
        The active settings.
    settle_ms
        As in ``fresh_for_ms``.
    """
    minutes, length_ms = config.echo_lookback_minutes, config.granularity_ms
    said = f"ECHO_LOOKBACK_MINUTES={minutes}"
    echo = config.gate_mode == "echo"
    name = "ECHO_MIN_REPETITIONS" if echo else "SESSION_PATTERN_MIN_OCCURRENCES"
    wanted = config.echo_min_repetitions if echo else config.session_pattern_min_occurrences
    steps = min(MOST_STEPS, (config.candle_count - WINDOW_BARS) // STEP_BARS)
    most = 1 + min(steps, minutes * MINUTE_MS // (STEP_BARS * length_ms))
    problems = []
    if wanted > most:
        problems.append(
            f"{said} and CANDLE_COUNT={config.candle_count} contain at most {most} windows of "
            f"{config.candle_gran} ({STEP_BARS} bars apart), {name} requires {wanted}: "
            f"nothing will be eligible; set {name}={most}"
            + _or_lookback((wanted - 1) * STEP_BARS * length_ms if wanted - 1 <= steps else None)
        )
    alive_ms = fresh_for_ms(length_ms, settle_ms)
    if minutes * MINUTE_MS < alive_ms:
        problems.append(
            f"{said} is shorter than the TTL of ws:last:manifold with bars of "
            f"{config.candle_gran} ({alive_ms / 1000:g} s): its count_1h may include windows "
            f"outside the lookback when it is read; check its ts_ms as well{_or_lookback(alive_ms)}"
        )
    return problems


def _or_lookback(least_ms: int | None) -> str:
    minutes = LONGEST_LOOKBACK_MINUTES + 1 if least_ms is None else -(-least_ms // MINUTE_MS)
    possible = minutes <= LONGEST_LOOKBACK_MINUTES
    return f", or ECHO_LOOKBACK_MINUTES={minutes} at least" if possible else ""
