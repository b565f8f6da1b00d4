"""When a closing that did not work is tried again: over days, on a clock that takes no time."""

from __future__ import annotations

import itertools

import pytest

from streams.candles.calendar import FX
from streams.candles.market_clock import market_at
from streams.instants import instant_ms
from streams.trading.closing_pauses import (
    FIRST_PAUSE_S,
    NO_ANSWER_MOST_S,
    REFUSED_MOST_S,
    ClosingPauses,
)

TRADE = ("EUR_USD", "41")


def ms(text: str) -> int:
    """Return an instant in UTC as epoch milliseconds."""
    return instant_ms("instant", text)


FRIDAY = ms("2026-11-27T21:58:30")
"""Half a minute before the market closes for the weekend."""
REOPENS = ms("2026-11-29T22:05:00")


def tries(
    until_ms: int, reason: str, from_ms: int = FRIDAY, *, reached: bool = True, step_ms: int = 1000
) -> list[int]:
    """Return when a closing that is refused with ``reason`` each time goes out."""
    pauses, found = ClosingPauses(), []
    for at_ms in range(from_ms, until_ms, step_ms):
        now = at_ms / 1000
        if not pauses.held_back(TRADE, now, at_ms):
            found.append(at_ms)
            pauses.refused(TRADE, reason, now, at_ms, reached=reached)
    return found


def test_a_halted_weekend_takes_a_handful_of_orders() -> None:
    found = tries(REOPENS + 1000, "MARKET_HALTED")
    before, after = [at for at in found if at < REOPENS], [at for at in found if at >= REOPENS]
    assert len(before) <= 8, "the last minute before the weekend, by doubled pauses"
    assert after == [REOPENS], "the first try is at the reopening"
    # the position was to be closed in the weekend: one order until it is over
    assert tries(REOPENS + 1000, "MARKET_HALTED", FRIDAY + 3_600_000) == [
        FRIDAY + 3_600_000, REOPENS,
    ]  # fmt: skip


def test_a_halt_on_a_holiday_is_tried_again_at_its_opening() -> None:
    christmas, opens = ms("2025-12-25T12:00:00"), ms("2025-12-25T22:05:00")
    assert tries(opens + 1000, "MARKET_HALTED", christmas) == [christmas, opens]


def test_a_halt_in_an_open_market_is_tried_ever_more_rarely() -> None:
    begun = ms("2026-11-24T12:00:00")
    assert market_at(FX, begun).open
    found = tries(begun + 86_400_000 // 4, "MARKET_HALTED", begun)
    gaps = [(b - a) / 1000 for a, b in itertools.pairwise(found)]
    assert gaps[:8] == sorted(gaps[:8])
    assert max(gaps) == REFUSED_MOST_S
    assert len(found) < 40


@pytest.mark.parametrize("reached", [True, False])
def test_the_pause_doubles_up_to_its_longest(reached: bool) -> None:
    begun = ms("2026-11-24T12:00:00")
    pauses, waits, now = ClosingPauses(), [], 0.0
    for _ in range(20):
        made = pauses.refused(TRADE, "X", now, begun, reached=reached)
        waits.append(made.not_before - now)
        now = made.not_before
    most_s = REFUSED_MOST_S if reached else NO_ANSWER_MOST_S
    assert waits == [min(FIRST_PAUSE_S * 2**n, most_s) for n in range(20)]


def test_a_halt_holds_back_every_trade_of_the_instrument_and_no_other() -> None:
    pauses = ClosingPauses()
    at_ms = ms("2026-11-28T12:00:00")
    pauses.refused(TRADE, "MARKET_HALTED", 0.0, at_ms, reached=True)
    assert pauses.held_back(("EUR_USD", "42"), 100.0, at_ms + 100_000)
    assert not pauses.held_back(("GBP_USD", "7"), 0.0, at_ms)
    assert pauses.halted == ["EUR_USD"]
    words = pauses.reason_of(("EUR_USD", "42"))
    assert words.startswith("MARKET_HALTED (tried once since 2026-11-28 12:00:00 UTC")
    assert "the market opens at 2026-11-29 22:05:00 UTC" in words
    pauses.worked(TRADE, 0.0)
    assert pauses.halted == [] and pauses.reason_of(TRADE) == ""


def test_the_venues_word_that_it_trades_again_wakes_a_halted_closing_once() -> None:
    begun = ms("2026-11-24T12:00:00")
    pauses = ClosingPauses()
    for _ in range(10):
        pauses.refused(TRADE, "MARKET_HALTED", 0.0, begun, reached=True)
    pauses.saw("EUR_USD", True)
    assert pauses.held_back(TRADE, 1.0, begun), "it was never seen closed: no news"
    pauses.saw("EUR_USD", False)
    assert pauses.held_back(TRADE, 1.0, begun)
    pauses.saw("EUR_USD", True)
    assert not pauses.held_back(TRADE, 1.0, begun)
    pauses.refused(TRADE, "MARKET_HALTED", 1.0, begun, reached=True)
    pauses.saw("EUR_USD", True)
    assert pauses.held_back(TRADE, 2.0, begun)


def test_a_venue_that_trades_at_the_weekend_is_not_held_back_by_the_calendar() -> None:
    at_ms = ms("2026-11-28T12:00:00")
    pauses = ClosingPauses()
    pauses.refused(TRADE, "MARKET_HALTED", 0.0, at_ms, reached=True)
    pauses.saw("EUR_USD", True)
    assert not pauses.held_back(TRADE, 1.0, at_ms + 1000)


def test_what_did_not_reach_the_venue_is_tried_as_soon_as_it_answers() -> None:
    begun = ms("2026-11-24T12:00:00")
    pauses = ClosingPauses()
    for _ in range(8):
        pauses.refused(TRADE, "not sent", 0.0, begun, reached=False)
        pauses.refused(("GBP_USD", "7"), "INSUFFICIENT_LIQUIDITY", 0.0, begun, reached=True)
    pauses.answering()
    assert not pauses.held_back(TRADE, 1.0, begun)
    assert pauses.held_back(("GBP_USD", "7"), 1.0, begun)
