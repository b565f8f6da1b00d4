"""What an answer of a broker makes known of a bar, and what it does not."""

from __future__ import annotations

import random

import pytest

from streams.candles.calendar import FX
from streams.candles.columns import digest
from streams.feeds.oanda_instrument import (
    MOST_VERSIONS,
    InstrumentFeed,
    Resume,
    Settled,
    horizon_ms,
    next_bar_end,
    not_waited_for,
    take_ended_bars,
)
from streams.oanda.shapes import BrokerCandle
from streams.records.events import Candle, Ohlc

M1 = 60_000
MONDAY = 1_709_535_600_000
"""2024-03-04 07:00 UTC."""
FRIDAY_CLOSE = 1_709_330_340_000
"""2024-03-01 16:59 New York, 21:59 UTC."""
SUNDAY_OPEN = 1_709_503_500_000
"""2024-03-03 17:05 New York, 22:05 UTC."""
PAGE = 5000


def given(at: int, close: float = 1.1, *, complete: bool = True, volume: int = 5) -> BrokerCandle:
    bar_ms = MONDAY + at * M1 if at < 1 << 32 else at
    return BrokerCandle(
        bar_ms,
        complete,
        Ohlc(close, close, close, close),
        Ohlc(close - 0.0001, close - 0.0001, close - 0.0001, close - 0.0001),
        Ohlc(close + 0.0001, close + 0.0001, close + 0.0001, close + 0.0001),
        True,
        volume,
    )


def feed(frontier_ms: int = MONDAY, name: str = "EUR_USD", **resume: object) -> InstrumentFeed:
    return InstrumentFeed(
        name,
        "M1",
        Resume(frontier_ms, **resume),  # type: ignore[arg-type]
        FX,
        settle_ms=500,
        absent_after_ms=5_000,
        reread_bars=3,
    )


def end(at: int) -> int:
    return MONDAY + (at + 1) * M1


def written(one: InstrumentFeed) -> list[tuple[int, tuple[int, ...], bool]]:
    """Take what is ready: (bar, bars of the candles, vouched), bars counted from MONDAY."""
    taken = [
        (
            (bar.as_of_ms - MONDAY) // M1 - 1,
            tuple((candle.bar_ms - MONDAY) // M1 for candle in bar.candles),
            bar.settles_bar,
        )
        for bar in one.ready
    ]
    one.ready.clear()
    return taken


def test_complete_candles_are_written_in_order_and_the_present_one_is_not() -> None:
    one = feed()
    one.take([given(0), given(1), given(2, complete=False)], end(1) + 600, PAGE)
    assert written(one) == [(0, (0,), True), (1, (1,), True)]
    assert one.frontier_ms == end(1)


def test_a_candle_of_an_older_engine_is_not_revised_by_the_same_quotes() -> None:
    first = feed()
    first.take([given(0), given(1)], end(1) + 600, PAGE)
    logged = [candle for bar in first.ready for candle in bar.candles]
    # the log holds OANDA's own mid of them, which is rounded otherwise
    old = [c._replace(mid=Ohlc(*(p + 5e-6 for p in c.mid)), mid_derived=False) for c in logged]
    again = feed(
        end(1), last_bar_ms=logged[-1].bar_ms, versions={c.bar_ms: {digest(c)} for c in old}
    )
    assert again.take([given(0), given(1), given(2)], end(2) + 600, PAGE) == []
    assert written(again) == [(2, (2,), True)]
    revised = again.take([given(0), given(1, 1.2), given(2)], end(2) + 900, PAGE)
    assert [(notice.kind, notice.bar_ms) for notice in revised] == [("revised", MONDAY + M1)]


def test_a_candle_that_the_stages_refuse_is_written_and_said() -> None:
    one = feed()
    good = given(0)
    crossed = good._replace(bid=good.ask, ask=good.bid)
    [notice] = one.take([crossed], end(0) + 600, PAGE)
    assert (notice.kind, notice.bar_ms) == ("refused", MONDAY)
    assert notice.detail.startswith("crossed_quote: open: the bid 1.1001 is over the ask 1.099")
    assert written(one) == [(0, (0,), True)]


def test_what_was_written_is_not_written_again() -> None:
    one = feed()
    for _ in range(3):
        one.take([given(0), given(1)], end(1) + 600, PAGE)
    assert written(one) == [(0, (0,), True), (1, (1,), True)]


def test_a_bar_without_a_candle_is_vouched_for_only_when_asked_late_enough() -> None:
    one = feed()
    one.take([given(0)], end(1) + 4_999, PAGE)
    assert written(one) == [(0, (0,), True)]
    one.take([given(0)], end(1) + 5_000, PAGE)
    assert written(one) == [(1, (), True)]


def test_a_later_candle_does_not_hurry_a_bar_that_may_still_come() -> None:
    one = InstrumentFeed(
        "EUR_USD", "S5", Resume(MONDAY), FX, settle_ms=0, absent_after_ms=8_000, reread_bars=3
    )
    later = given(0)._replace(bar_ms=MONDAY + 5_000)
    one.take([later], MONDAY + 10_000, PAGE)
    assert not one.ready
    one.take([later._replace(bar_ms=MONDAY), later], MONDAY + 11_000, PAGE)
    assert [bar.as_of_ms - MONDAY for bar in one.ready] == [5_000, 10_000]


def test_a_failed_question_makes_nothing_known() -> None:
    one = feed()
    one.take([given(0)], end(0) + 600, PAGE)
    one.failed("no answer")
    assert (one.frontier_ms, one.trouble) == (end(0), "no answer")
    one.take([given(0), given(1)], end(1) + 600, PAGE)
    assert one.trouble is None


def test_a_bar_that_has_a_candle_which_is_not_complete_is_waited_for_however_long() -> None:
    one = feed()
    one.take([given(0, complete=False), given(1)], end(30), PAGE)
    assert written(one) == []
    one.take([given(0), given(1)], end(30) + 1, PAGE)
    assert written(one)[:3] == [(0, (0,), True), (1, (1,), True), (2, (), True)]


def test_a_candle_that_becomes_incomplete_again_holds_nothing_up() -> None:
    one = feed()
    one.take([given(0), given(1)], end(1), PAGE)
    one.take([given(0), given(1, complete=False), given(2)], end(2), PAGE)
    assert written(one)[-1] == (2, (2,), True)


def test_behind_the_last_candle_of_a_full_page_nothing_is_known() -> None:
    one = feed()
    one.take([given(0), given(2)], end(500), page=2)
    assert written(one) == [(0, (0,), True), (1, (), True), (2, (2,), True)]
    assert one.ask_ms <= end(500)
    one.take([given(0), given(2), given(5)], end(500), page=PAGE)
    assert [bar for bar, _, _ in written(one)] == list(range(3, 500))


def test_a_revised_candle_is_written_once_before_what_is_newer() -> None:
    one = feed()
    one.take([given(0), given(1)], end(1), PAGE)
    written(one)
    notices = one.take([given(0), given(1, 1.2), given(2)], end(2), PAGE)
    assert [(n.kind, (n.bar_ms - MONDAY) // M1) for n in notices] == [("revised", 1)]
    assert written(one) == [(1, (1,), False), (2, (2,), True)]
    for close in (1.2, 1.1, 1.2):  # there and back: both are known
        assert not one.take([given(1, close), given(2)], end(2), PAGE)
    assert written(one) == []


def test_revised_in_volume_alone_is_revised() -> None:
    one = feed()
    one.take([given(0)], end(0), PAGE)
    assert [n.kind for n in one.take([given(0, volume=6)], end(0), PAGE)] == ["revised"]


def test_a_bar_that_is_revised_without_end_is_not_written_without_end() -> None:
    one = feed()
    for version in range(50):
        one.take([given(0, 1.1 + version / 1000)], end(0), PAGE)
    assert len(written(one)) == MOST_VERSIONS


def test_only_the_last_candles_are_read_again() -> None:
    one = feed()
    one.take([given(at) for at in range(10)], end(9), PAGE)
    written(one)
    assert one.from_ms == MONDAY + 7 * M1
    assert not one.take([given(at, 1.3) for at in range(7)], end(9), PAGE)
    assert len(one.take([given(at, 1.3) for at in range(7, 10)], end(9), PAGE)) == 3


def test_a_late_candle_is_written_before_the_next_and_said() -> None:
    one = feed()
    one.take([given(0)], end(1) + 5_000, PAGE)
    assert written(one) == [(0, (0,), True), (1, (), True)]
    notices = one.take([given(0), given(1), given(2)], end(2), PAGE)
    assert [n.kind for n in notices] == ["late"]
    assert written(one) == [(1, (1,), False), (2, (2,), True)]


def test_a_candle_older_than_the_newest_is_written_once_and_said() -> None:
    one = feed()
    one.take([given(0), given(2)], end(2) + 5_000, PAGE)
    written(one)
    for expected in (["late"], []):
        notices = one.take([given(0), given(1), given(2)], end(2) + 6_000, PAGE)
        assert [n.kind for n in notices] == expected
    assert written(one) == [(1, (1,), False)]


def test_the_same_bar_twice_in_an_answer() -> None:
    one = feed()
    notices = one.take([given(0), given(0), given(0, 1.2), given(1)], end(1), PAGE)
    assert written(one) == [(0, (0, 0), True), (1, (1,), True)]
    assert [n.kind for n in notices] == ["revised"]


def logged(at: int, close: float = 1.1) -> tuple[int, set[int]]:
    candle = given(at, close)
    event = Candle(
        "EUR_USD", "M1", candle.bar_ms, candle.bar_ms + M1, candle.mid, candle.bid, candle.ask,
        False, candle.volume, "oanda",
    )  # fmt: skip
    return candle.bar_ms, {digest(event)}


def test_a_new_process_goes_on_where_the_log_ends() -> None:
    versions = dict([logged(0), logged(1)])
    one = feed(end(4), last_bar_ms=MONDAY + M1, versions=versions)
    assert one.from_ms == MONDAY
    notices = one.take([given(0), given(1), given(3), given(5)], end(5), PAGE)
    # bar 3 was vouched for without a candle by the one before
    assert [n.kind for n in notices] == ["late"]
    assert written(one) == [(3, (3,), False), (5, (5,), True)]


def test_a_new_process_knows_what_was_revised_already() -> None:
    bar_ms, first = logged(0)
    _, second = logged(0, 1.2)
    one = feed(end(0), last_bar_ms=bar_ms, versions={bar_ms: first | second})
    assert not one.take([given(0, 1.2)], end(0), PAGE)
    assert not one.take([given(0, 1.1)], end(0), PAGE)
    assert len(one.take([given(0, 1.3)], end(0), PAGE)) == 1


def test_a_log_of_another_source_is_gone_on_from_and_not_compared_with() -> None:
    one = feed(end(1), last_bar_ms=MONDAY + M1)
    assert one.from_ms == MONDAY + M1
    assert not one.take([given(1, 1.9), given(2)], end(2), PAGE)
    assert written(one) == [(2, (2,), True)]


def test_no_bar_of_a_closed_market_is_vouched_for() -> None:
    one = feed(FRIDAY_CLOSE - M1)
    one.take([], SUNDAY_OPEN - 1, PAGE)
    assert [bar.as_of_ms for bar in one.ready] == [FRIDAY_CLOSE]
    assert one.next_end_ms == SUNDAY_OPEN + M1


def test_after_the_close_it_is_asked_once_more_and_then_at_the_open() -> None:
    one = feed(FRIDAY_CLOSE)
    one.take([], FRIDAY_CLOSE + 1_000, PAGE)
    assert one.ask_ms == FRIDAY_CLOSE + 3 * M1 + 500
    after = given(FRIDAY_CLOSE)
    one.take([after], one.ask_ms, PAGE)
    assert [bar.as_of_ms for bar in one.ready] == [FRIDAY_CLOSE + M1]
    one.take([after], one.ask_ms, PAGE)
    assert one.ask_ms == SUNDAY_OPEN + M1 + 500


def test_a_bar_is_asked_for_when_it_is_due_and_then_ever_less_often() -> None:
    one = feed()
    one.take([], MONDAY + 100, PAGE)
    assert one.ask_ms == end(0) + 500
    waits = []
    for _ in range(6):
        asked_ms = one.ask_ms
        one.take([given(0, complete=False)], asked_ms, PAGE)
        waits.append(one.ask_ms - asked_ms)
    assert waits == sorted(waits)
    assert 0 < waits[0] <= 500
    assert waits[-1] == 2_000


def test_who_is_overdue_is_no_longer_waited_for_and_who_catches_up_is() -> None:
    quiet, prompt = feed(name="GBP_USD"), feed()
    for each in (quiet, prompt):
        each.take([given(0)], end(0) + 1_000, PAGE)
    prompt.take([given(1)], end(1) + 1_000, PAGE)
    quiet.take([given(1, complete=False)], end(1) + 9_000, PAGE)
    assert prompt.frontier_ms == end(1) and quiet.frontier_ms == end(0)

    def given_up(now_ms: int, written: int = end(1), began: int = MONDAY) -> dict[str, int]:
        return not_waited_for(
            [quiet, prompt], now_ms, written_ms=written, began_ms=began, wait_ms=10_000
        )

    assert given_up(end(1) + 10_499) == {}
    assert given_up(end(1) + 10_500) == {"GBP_USD": end(1)}
    assert given_up(end(1) + 59_000) == {"GBP_USD": end(1)}
    # nothing is written of the others: no epoch waits
    assert given_up(end(1) + 59_000, written=end(0)) == {}
    # the feed has only begun to ask
    assert given_up(end(1) + 59_000, began=end(1) + 58_000) == {}
    # it has just settled a bar, though an old one
    prompt.take([given(2), given(3)], end(3) + 1_000, PAGE)
    quiet.take([given(1), given(2, complete=False)], end(4), PAGE)
    assert given_up(end(4) + 9_999, written=end(3)) == {}
    assert given_up(end(4) + 10_000, written=end(3)) == {"GBP_USD": end(3)}


def test_next_bar_end_of_every_instant_of_a_week_is_the_first_of_market_hours() -> None:
    chance = random.Random(5)
    for _ in range(500):
        at = chance.randrange(FRIDAY_CLOSE - 86_400_000, SUNDAY_OPEN + 86_400_000)
        found = next_bar_end(FX, at, M1)
        assert found > at
        closed = FRIDAY_CLOSE <= at < SUNDAY_OPEN + M1
        assert found == (SUNDAY_OPEN + M1 if closed else at // M1 * M1 + M1)


def test_instruments_go_on_side_by_side_while_they_wait_for_each_other() -> None:
    one, two = feed(), feed(name="USD_JPY")
    one.take([given(at) for at in range(100)], end(99), PAGE)
    assert horizon_ms([one, two], [True, True]) == end(0)
    two.take([given(at) for at in range(3)], end(2), PAGE)
    until = horizon_ms([one, two], [True, True])
    order = [(bar.as_of_ms, bar.instrument) for bar in take_ended_bars([one, two], until)]
    assert order == sorted(order)
    assert order[-1] == (end(3), "EUR_USD")
    assert horizon_ms([one, two], [True, False]) > end(99)
    assert len(take_ended_bars([one, two], horizon_ms([one, two], [False, False]))) == 96


@pytest.mark.parametrize("seed", range(20))
def test_however_answers_come_every_candle_is_written_once_and_in_order(seed: int) -> None:
    """A venue with quiet bars, late completions, pages and failures; nothing is revised."""
    chance = random.Random(seed)
    bars = 80
    there = [at for at in range(bars) if chance.random() > 0.2]
    slow = {at: end(at) + chance.randrange(0, 4_900) for at in there}
    one, taken = feed(), list[Settled]()
    now = MONDAY
    while now < end(bars) + 20_000:
        now = max(now + 1, one.ask_ms + chance.randrange(0, 3_000))
        if chance.random() < 0.1:
            one.failed("cut")
            continue
        page = chance.choice([4, 7, PAGE])
        answer = [
            given(at, complete=now >= slow[at])
            for at in there
            if MONDAY + at * M1 >= one.from_ms and now >= MONDAY + at * M1
        ]
        if one.take(answer[:page], now, page):
            raise AssertionError("nothing was revised or late")
        while one.ready:
            taken.append(one.ready.popleft())
    assert [c.bar_ms for bar in taken for c in bar.candles] == [MONDAY + a * M1 for a in there]
    assert [bar.as_of_ms for bar in taken][:bars] == [end(at) for at in range(bars)]
