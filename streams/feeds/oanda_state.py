"""State of the OANDA feed, for its metrics, its health and its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from streams.feeds.oanda_instrument import InstrumentFeed, Settled
from streams.feeds.plan import Fact
from streams.oanda.client import OandaClient
from streams.oanda.shapes import Price
from streams.oanda.stream import OandaStream
from streams.records.config_following import FollowedConfig
from streams.records.events import Candle


@dataclass
class FeedProgress:
    """What was written for one instrument.

    Attributes
    ----------
    candles, revised, late
        Numbers of candles.
    candle_as_of_ms
        End of the newest candle in the log.
    settled_ms
        All bars that end up to this time are in the log, epoch ms.
    failures
        Number of consecutive failed requests.
    not_waited_ms
        Time up to which no epoch waits for the instrument, epoch ms; -1 while all wait.
    not_waited
        Number of bars that epochs stopped waiting for.
    """

    candles: int = 0
    revised: int = 0
    late: int = 0
    candle_as_of_ms: int = -1
    settled_ms: int = -1
    failures: int = 0
    not_waited_ms: int = -1
    not_waited: int = 0


def feed_progress(
    feeds: Mapping[str, InstrumentFeed], granularity_ms: int
) -> dict[str, FeedProgress]:
    """Return the state of each instrument at the start of the feed."""
    return {
        name: FeedProgress(
            settled_ms=feed.frontier_ms,
            candle_as_of_ms=feed.last_bar_ms + granularity_ms if feed.last_bar_ms >= 0 else -1,
        )
        for name, feed in feeds.items()
    }


@dataclass
class FeedState:
    """State of the feed, for its metrics and its report."""

    client: OandaClient
    feeds: dict[str, InstrumentFeed]
    pairs: dict[str, FeedProgress]
    stream: OandaStream[Price]
    followed: FollowedConfig | None = None
    prices: dict[str, Price] = field(default_factory=dict)
    written: int = 0
    watermarks: int = 0

    def count(self, bars: Sequence[Settled], facts: Sequence[Fact]) -> None:
        """Count the written bars and candles."""
        candles = sum(isinstance(fact.event, Candle) for fact in facts)
        self.written += len(facts)
        self.watermarks += len(facts) - candles
        for bar in bars:
            pair = self.pairs[bar.instrument]
            pair.candles += len(bar.candles)
            for candle in bar.candles:
                pair.candle_as_of_ms = max(pair.candle_as_of_ms, candle.as_of_ms)
            if bar.settles_bar:
                pair.settled_ms = max(pair.settled_ms, bar.as_of_ms)

    def report(self) -> dict[str, Any]:
        """Return the counts for ``--json``."""
        counts = self.client.counts
        return {
            "written": self.written,
            "watermarks": self.watermarks,
            "candles": sum(pair.candles for pair in self.pairs.values()),
            "revised": sum(pair.revised for pair in self.pairs.values()),
            "late": sum(pair.late for pair in self.pairs.values()),
            "not_waited_for": sum(pair.not_waited for pair in self.pairs.values()),
            "requests": sum(counts.requests.values()),
            "retries": sum(counts.retries.values()),
            "rate_limited": counts.rate_limited,
            "clock_skew_ms": self.client.clock.skew_ms,
            "pairs": {
                name: {
                    "candles": pair.candles,
                    "candle_as_of_ms": pair.candle_as_of_ms,
                    "settled_ms": pair.settled_ms,
                    "not_waited_for": pair.not_waited,
                    "trouble": self.feeds[name].trouble,
                }
                for name, pair in sorted(self.pairs.items())
            },
        }
