"""Settings of the OANDA feed."""

from __future__ import annotations

from dataclasses import dataclass

from streams.config.environment import FromEnvironment, setting


@dataclass(frozen=True, slots=True)
class FeedSettings(FromEnvironment):
    """When a bar is requested and considered final; no derived record depends on it."""

    feed_settle_ms: int = setting(
        500,
        "delay between the end of a bar and the first request for it",
        unit="ms",
        bounds=(0, 60_000),
    )
    feed_absent_after_sec: float = setting(
        5.0,
        "time after a bar's end from which OANDA's answer 'no candle' is final",
        unit="s",
        bounds=(0.0, 600.0),
    )
    feed_reread_bars: int = setting(
        3,
        "candles before the newest that each request reads again, to detect revised candles",
        unit="candles",
        bounds=(1, 100),
    )
    epoch_max_wait_sec: float = setting(
        10.0,
        "how long after a bar's end epochs wait for an instrument whose bar is not final",
        unit="s",
        bounds=(0.0, 3_600.0),
    )
    feed_metrics_port: int = setting(
        9110, "port of the feed's /metrics and /healthz; 0 = off", bounds=(0, 65_535)
    )
