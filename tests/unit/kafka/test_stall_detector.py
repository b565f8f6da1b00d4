"""When somebody stands still: a position that does not move although something is left."""

from __future__ import annotations

from streams.kafka.lag import StallDetector


def test_only_a_position_with_something_left_stands_still() -> None:
    now = [100.0]
    still = StallDetector[str](lambda: now[0])
    assert not still.note("gates", 7, 3)
    now[0] = 110.0
    assert still.note("gates", 7, 5)
    assert still.of("gates") == (7, 10.0)
    now[0] = 111.0
    assert not still.note("gates", 8, 4)
    assert still.of("gates") == (8, 0.0)
    now[0] = 120.0
    assert not still.note("gates", 8, 0)
    now[0] = 121.0
    assert still.note("gates", 8, 1)
    assert still.of("gates") == (8, 1.0)
