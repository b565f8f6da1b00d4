"""Faults on demand: which one strikes a request, how often, by a seeded chance.

=================  ===============================================================================
kind               what happens (parameters)
=================  ===============================================================================
cut_before         the connection ends before anything is processed (``reset``: with RST)
cut_after          processed, then the connection ends without an answer (``reset``)
lost_answer        the same, but only when an order or a closing was accepted; ``how`` = cut | hang
cut_middle         processed, half of the answer's body, then the connection ends (``reset``)
status             an answer with ``code`` (429, 500, 503 ...); ``retry_after`` seconds or none;
                   ``processed`` = true: the request took effect all the same
slow               ``delay_sec`` before the answer; ``after`` = true: processed first, then late
hang               no answer at all until the client goes away
wrong_json         processed, then 200 with a body that is no JSON; ``body`` to choose it
wrong_type         processed, then a JSON list where an object is expected
reject_order       an order (or closing) is refused with ``reason``
cancel_order       an order is accepted and cancelled at once with ``reason``
half_line          a stream ends in the middle of a line (``reset``)
split_line         a stream writes half a line, waits ``delay_sec``, then the rest: this is legal
garbage_line       a stream writes a line that is no JSON
silent             a stream writes nothing, no heartbeat either, for ``delay_sec`` (0: for ever)
no_heartbeat       a stream writes prices but no heartbeats
end_stream         a stream ends cleanly
late_candle        a complete candle cannot be seen until ``delay_sec`` after its end
missing_candle     a candle is never shown
duplicate_candle   a candle stands twice in the answer
revised_candle     a complete candle that was served before is another one afterwards (``points``)
crossed_candle     a complete candle has its bid and ask changed round
clock_skew         ``seconds`` are added to the ``Date`` header
=================  ===============================================================================

Every fault has ``count`` (how often at most; none: until cleared), ``skip`` (how many matching
requests go free first), ``probability`` (1), ``seed`` (0), ``method``, ``path`` (a regular
expression, searched), for candles ``instrument``, ``granularity`` and ``time``. A request with the
header `SPARED` meets none that strikes requests: somebody else's, beside the client under test.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from random import Random
from typing import Any

from tests.support.v20.amounts import parse_time
from tests.support.v20.candles import Bar

KINDS = frozenset(
    {
        *("cut_before", "cut_after", "lost_answer", "cut_middle", "status", "slow", "hang"),
        *("wrong_json", "wrong_type", "reject_order", "cancel_order", "clock_skew"),
        *("half_line", "split_line", "garbage_line", "silent", "no_heartbeat", "end_stream"),
        *("late_candle", "missing_candle", "duplicate_candle", "revised_candle"),
        "crossed_candle",
    }
)
SPARED = "X-Without-Faults"
COMMON = ("count", "skip", "probability", "seed", "method", "path")
PARAMETERS = frozenset(
    {
        *("reset", "how", "code", "retry_after", "processed", "delay_sec", "after", "body"),
        *("reason", "instrument", "granularity", "time", "points", "seconds"),
    }
)


@dataclass
class Fault:
    """One fault and how often it struck."""

    number: int
    kind: str
    count: int | None = None
    skip: int = 0
    probability: float = 1.0
    seed: int = 0
    method: str | None = None
    path: str | None = None
    more: dict[str, Any] = field(default_factory=dict)
    struck: int = 0
    _bars: set[tuple[str, str, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._random = Random(self.seed)

    def matches(self, method: str, path: str) -> bool:
        """Return whether the fault concerns the request."""
        if self.method is not None and self.method.upper() != method:
            return False
        return self.path is None or re.search(self.path, path) is not None

    def strikes(self) -> bool:
        """Decide about one matching request, and count."""
        if self.count is not None and self.struck >= self.count:
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self._random.random() >= self.probability:
            return False
        self.struck += 1
        return True

    def chooses(self, instrument: str, granularity: str, bar: Bar) -> bool:
        """Decide about one candle; the same candle always gets the same answer."""
        more = self.more
        if more.get("instrument") not in (None, instrument):
            return False
        if more.get("granularity") not in (None, granularity):
            return False
        if more.get("time") is not None and parse_time(more["time"]) != bar.start_ms * 1_000_000:
            return False
        key = (instrument, granularity, bar.start_ms)
        if key in self._bars:
            return True
        if self.count is not None and len(self._bars) >= self.count:
            return False
        chance = blake2b(f"{self.seed}/{key}".encode(), digest_size=8).digest()
        if int.from_bytes(chance, "little") >= self.probability * 2**64:
            return False
        self._bars.add(key)
        self.struck += 1
        return True

    def as_json(self) -> dict[str, Any]:
        """Return it as the control API shows it."""
        made = {name: getattr(self, name) for name in ("kind", *COMMON, "struck")}
        return {"id": self.number} | made | self.more


class FaultBook:
    """The faults that are set."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self._served: dict[tuple[str, str, int], Bar] = {}
        self._revised: dict[tuple[str, str, int], Bar] = {}
        self._next = 1

    def add(self, given: dict[str, Any]) -> Fault:
        """Set one.

        Raises
        ------
        ValueError
            When the kind or a parameter is unknown.
        """
        kind = given.get("kind")
        if kind not in KINDS:
            raise ValueError(f"unknown fault {kind!r}; one of {', '.join(sorted(KINDS))}")
        common = {k: v for k, v in given.items() if k in COMMON and v is not None}
        more = {k: v for k, v in given.items() if k not in (*COMMON, "kind")}
        if unknown := set(more) - PARAMETERS:
            raise ValueError(f"unknown parameter of a fault: {', '.join(sorted(unknown))}")
        fault = Fault(self._next, str(kind), **common, more=more)
        self._next += 1
        self.faults.append(fault)
        return fault

    def clear(self, number: int | None = None) -> None:
        """Take one away, or all; candles that were revised stay so."""
        self.faults = [f for f in self.faults if number is not None and f.number != number]

    def take(self, kinds: Iterable[str], method: str, path: str) -> Fault | None:
        """Return the fault of these kinds that strikes the request, if one does."""
        wanted = tuple(kinds)
        for fault in self.faults:
            if fault.kind in wanted and fault.matches(method, path) and fault.strikes():
                return fault
        return None

    def skew_sec(self, method: str, path: str) -> float:
        """Return what is added to the Date header."""
        fault = self.take(("clock_skew",), method, path)
        return 0.0 if fault is None else float(fault.more.get("seconds", 0))

    def candles(self, instrument: str, granularity: str, bars: list[Bar], now_ms: int) -> list[Bar]:
        """Return candles as the faults make them."""
        shown: list[Bar] = []
        for bar in bars:
            for fault in self.faults:
                if fault.kind == "revised_candle" and bar.complete:
                    self._revise(fault, instrument, granularity, bar)
            key = (instrument, granularity, bar.start_ms)
            seen = self._revised.get(key, bar)
            if bar.complete and self._crosses(instrument, granularity, bar):
                seen = seen._replace(bid=seen.ask, ask=seen.bid)
            copies = self._copies(instrument, granularity, bar, now_ms)
            shown += [seen] * copies
            if copies and bar.complete:
                self._remember(key, seen)
        return shown

    def _crosses(self, instrument: str, granularity: str, bar: Bar) -> bool:
        return any(
            fault.kind == "crossed_candle" and fault.chooses(instrument, granularity, bar)
            for fault in self.faults
        )

    def _remember(self, key: tuple[str, str, int], bar: Bar) -> None:
        if len(self._served) < 200_000:
            self._served[key] = bar

    def _copies(self, instrument: str, granularity: str, bar: Bar, now_ms: int) -> int:
        copies = 1
        for fault in self.faults:
            if fault.kind == "late_candle" and bar.complete:
                until = bar.end_ms + float(fault.more.get("delay_sec", 60)) * 1000
                if now_ms < until and fault.chooses(instrument, granularity, bar):
                    return 0
            elif fault.kind == "missing_candle" and fault.chooses(instrument, granularity, bar):
                return 0
            elif fault.kind == "duplicate_candle" and fault.chooses(instrument, granularity, bar):
                copies = 2
        return copies

    def _revise(self, fault: Fault, instrument: str, granularity: str, bar: Bar) -> None:
        key = (instrument, granularity, bar.start_ms)
        if key in self._revised or key not in self._served:
            return
        if fault.chooses(instrument, granularity, bar):
            self._revised[key] = revised(bar, int(fault.more.get("points", 3)))


def revised(bar: Bar, points: int) -> Bar:
    """Return the candle with another close, its high and low with it, and one tick more."""

    def other(prices: tuple[int, int, int, int], by: int) -> tuple[int, int, int, int]:
        opened, high, low, closed = prices
        closed += by
        return opened, max(high, closed), min(low, closed), closed

    return bar._replace(
        bid=other(bar.bid, points),
        ask=other(bar.ask, points),
        mid2=other(bar.mid2, 2 * points),
        volume=bar.volume + 1,
    )
