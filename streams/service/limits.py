"""Limits: one token bucket per client, and room for requests in progress."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

MOST_CLIENTS = 10_000


class TokenBuckets:
    """Token buckets.

    Parameters
    ----------
    rate, per_s
        ``rate`` tokens per ``per_s`` seconds; rate 0 = no limit.
    burst
        Capacity of a bucket, in seconds of refill.
    clock
        Monotonic seconds.
    """

    def __init__(
        self,
        rate: float,
        per_s: float,
        burst: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate = rate / per_s
        self._most = max(1.0, self._rate * burst)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> bool:
        """Take a token of a client; False when it has none left."""
        if not self._rate:
            return True
        left = self._left(client)
        self._keep(client, left - 1.0 if left >= 1.0 else left)
        return left >= 1.0

    def empty(self, client: str) -> bool:
        """Return whether a client has no token left; takes none."""
        return bool(self._rate) and self._left(client) < 1.0

    def wait_s(self, client: str) -> int:
        """Return after how many whole seconds a client has a token again."""
        missing = 1.0 - self._left(client)
        return max(1, int(missing / self._rate + 0.999)) if self._rate else 0

    def _left(self, client: str) -> float:
        now = self._clock()
        left, at = self._buckets.get(client, (self._most, now))
        return min(self._most, left + (now - at) * self._rate)

    def _keep(self, client: str, left: float) -> None:
        self._buckets[client] = (left, self._clock())
        self._buckets.move_to_end(client)
        while len(self._buckets) > MOST_CLIENTS:
            self._buckets.popitem(last=False)


class Room:
    """The number of requests in progress.

    Parameters
    ----------
    most
        Maximum number.
    reserved
        Part of ``most`` reserved for requests with the token.
    """

    def __init__(self, most: int, reserved: int) -> None:
        self._most, self._reserved, self._used = most, reserved, 0

    def free(self, known: bool) -> bool:
        """Return whether one more request may start; ``known``: it has the token."""
        return self._used < self._most - (0 if known else self._reserved)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Count one request while it is in progress."""
        self._used += 1
        try:
            yield
        finally:
            self._used -= 1
