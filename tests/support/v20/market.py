"""A seeded market: any instant's ticks without the history before it, the same on every machine.

The middle price at whole minutes is a random walk laid out by halving (each minute's level follows
from two others and a hash), so a minute of ten years ago costs what this minute costs. Ticks lie
between two levels with noise and a spread of their own. Only whole numbers are used: points.
Prices placed by hand lie over it, and an instrument can be held so that only they count.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b
from math import isqrt
from typing import NamedTuple
from zoneinfo import ZoneInfo

from tests.support.v20.instruments import INSTRUMENTS, Instrument

MINUTE_MS = 60_000
TOP_MINUTES = 1 << 16
NEW_YORK, AUCKLAND = ZoneInfo("America/New_York"), ZoneInfo("Pacific/Auckland")
QUIET_PERMILLE = 20
ACTIVITY = (4, 4, 4, 3, 3, 4, 6, 8, 9, 8, 7, 7, 9, 10, 10, 9, 8, 7, 5, 4, 3, 3, 3, 4)
"""Most ticks of a minute by UTC hour, less one."""


class Tick(NamedTuple):
    """One price: bid and ask in points."""

    time_ms: int
    bid: int
    ask: int


@lru_cache(maxsize=200_000)
def _local_minutes(hour: int) -> int:
    offset = datetime.fromtimestamp(hour * 3600, UTC).astimezone(NEW_YORK).utcoffset()
    assert offset is not None
    return hour * 60 + int(offset.total_seconds()) // 60


def is_open(time_ms: int) -> bool:
    """Return whether OANDA trades: Sunday 17:05 to Friday 16:59 New York, a pause at 17:00."""
    minute = time_ms // MINUTE_MS
    local = _local_minutes(minute // 60) + minute % 60
    weekday, of_day = (local // 1440 + 3) % 7, local % 1440
    if weekday == 5:
        return False
    if weekday == 6:
        return of_day >= 1025
    if weekday == 4:
        return of_day < 1019
    return not 1019 <= of_day < 1025


def in_nzd_pause(time_ms: int) -> bool:
    """Return whether OANDA does not trade NZD: 06:59 to 07:05 by Auckland's clock."""
    local = datetime.fromtimestamp(time_ms / 1000, AUCKLAND)
    return 419 <= local.hour * 60 + local.minute < 425


class Market:
    """All instruments' prices at any instant.

    Parameters
    ----------
    seed
        Everything follows from it, per instrument.
    always_open
        Without weekends and daily pauses, for tests that may run on any day.
    next_tick
        A candle is complete with the first tick after its end.
    nzd_pause
        Pairs with NZD pause at 07:00 in Auckland.
    """

    def __init__(
        self,
        seed: int = 1,
        always_open: bool = False,
        next_tick: bool = False,
        nzd_pause: bool = False,
    ) -> None:
        self.always_open, self.next_tick, self.nzd_pause = always_open, next_tick, nzd_pause
        self.walks = {name: _Walk(seed, each, always_open) for name, each in INSTRUMENTS.items()}
        self.halted: set[str] = set()

    def trading(self, name: str, time_ms: int) -> bool:
        """Return whether orders are filled at this instant."""
        if self.nzd_pause and "NZD" in name and in_nzd_pause(time_ms):
            return False
        return name not in self.halted and (self.always_open or is_open(time_ms))

    def ticks(self, name: str, after_ms: int, to_ms: int) -> Iterator[Tick]:
        """Yield the ticks in (after, to]."""
        walk = self.walks[name]
        for minute in range((after_ms + 1) // MINUTE_MS, to_ms // MINUTE_MS + 1):
            for tick in walk.minute(minute):
                if after_ms < tick.time_ms <= to_ms:
                    yield tick

    def is_complete(self, name: str, end_ms: int, now_ms: int) -> bool:
        """Return whether a candle that ends at ``end_ms`` is complete."""
        if end_ms > now_ms:
            return False
        return not self.next_tick or self.at(name, now_ms).time_ms >= end_ms

    def at(self, name: str, time_ms: int) -> Tick:
        """Return the price that holds: the last tick at or before the instant."""
        return self.walks[name].at(time_ms)

    def place(self, name: str, time_ms: int, bid: int, ask: int, hold: bool = True) -> None:
        """Put a tick by hand; with ``hold`` the market makes no others from then on."""
        self.walks[name].place(Tick(time_ms, bid, ask), hold)

    def release(self, name: str, time_ms: int) -> None:
        """Let the market make ticks again."""
        self.walks[name].release(time_ms)


class _Walk:
    """One instrument."""

    def __init__(self, seed: int, instrument: Instrument, always_open: bool) -> None:
        self._key = blake2b(f"{seed}/{instrument.name}".encode(), digest_size=32).digest()
        self.instrument = instrument
        self._always_open = always_open
        variance = 3 * instrument.sigma**2
        self._amplitude = [isqrt(variance * (2 << j)) // 2 for j in range(17)]
        self._levels: dict[int, int] = {}
        self.placed: list[Tick] = []
        self.held: list[tuple[int, int | None]] = []
        self._made = lru_cache(maxsize=50_000)(self._generate)

    def _hash(self, minute: int, size: int, person: bytes) -> bytes:
        return blake2b(
            minute.to_bytes(8, "little", signed=True),
            digest_size=size,
            key=self._key,
            person=person,
        ).digest()

    def level(self, minute: int) -> int:
        """Return the middle price at the start of a minute, in points."""
        known = self._levels.get(minute)
        if known is not None:
            return known
        if len(self._levels) > 200_000:
            self._levels.clear()
        chance = int.from_bytes(self._hash(minute, 8, b"level"), "little")
        if minute % TOP_MINUTES == 0:
            room = self.instrument.first // 30
            value = self.instrument.first + chance % (2 * room + 1) - room
        else:
            step = minute & -minute
            between = self.level(minute - step) + self.level(minute + step)
            room = self._amplitude[step.bit_length() - 1]
            value = between // 2 + chance % (2 * room + 1) - room
        self._levels[minute] = value
        return value

    def _generate(self, minute: int) -> tuple[Tick, ...]:
        start = minute * MINUTE_MS
        if not (self._always_open or is_open(start)):
            return ()
        chance = self._hash(minute, 64, b"ticks")
        if int.from_bytes(chance[:2], "little") % 1000 < QUIET_PERMILLE:
            return ()
        count = 1 + chance[2] % ACTIVITY[minute // 60 % 24]
        first, rise = self.level(minute), self.level(minute + 1) - self.level(minute)
        noise, spread = self.instrument.sigma // 2, self.instrument.spread
        ticks = []
        for i in range(count):
            at = 4 + 4 * i
            offset = (
                i * MINUTE_MS + int.from_bytes(chance[at : at + 2], "little") * 60_000 // 65_536
            )
            offset //= count
            middle = first + rise * offset // MINUTE_MS
            middle += (chance[at + 2] * (2 * noise + 1) >> 8) - noise
            wide = spread * 3 // 4 + (chance[at + 3] * spread >> 9)
            bid = middle - wide // 2
            ticks.append(Tick(start + offset, bid, bid + wide))
        return tuple(ticks)

    def minute(self, minute: int) -> tuple[Tick, ...]:
        """Return the ticks of a minute, with what was placed and without what was held."""
        made = self._made(minute)
        if not self.held and not self.placed:
            return made
        start = minute * MINUTE_MS
        kept = [tick for tick in made if not self._is_held(tick.time_ms)]
        low = bisect_left(self.placed, (start,))
        high = bisect_left(self.placed, (start + MINUTE_MS,))
        return tuple(sorted([*kept, *self.placed[low:high]], key=lambda tick: tick.time_ms))

    def _is_held(self, time_ms: int) -> bool:
        return any(a <= time_ms and (b is None or time_ms < b) for a, b in self.held)

    def at(self, time_ms: int) -> Tick:
        """Return the last tick at or before the instant."""
        placed = bisect_right(self.placed, (time_ms, 1 << 62))
        newest = self.placed[placed - 1] if placed else None
        for minute in range(time_ms // MINUTE_MS, time_ms // MINUTE_MS - 8 * 1440, -1):
            if newest is not None and newest.time_ms >= (minute + 1) * MINUTE_MS:
                return newest
            for tick in reversed(self.minute(minute)):
                if tick.time_ms <= time_ms:
                    return tick
        if newest is not None:
            return newest
        raise LookupError(f"no price of {self.instrument.name} before {time_ms}")

    def place(self, tick: Tick, hold: bool) -> None:
        """Put a tick by hand."""
        if self.placed and tick.time_ms == self.placed[-1].time_ms:
            tick = tick._replace(time_ms=tick.time_ms + 1)
        insort(self.placed, tick)
        if hold and not (self.held and self.held[-1][1] is None):
            self.held.append((tick.time_ms, None))

    def release(self, time_ms: int) -> None:
        """End a hold."""
        if self.held and self.held[-1][1] is None:
            self.held[-1] = (self.held[-1][0], time_ms)
