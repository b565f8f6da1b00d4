"""Settings of the feed that follows OANDA."""

from __future__ import annotations

from dataclasses import dataclass

from streams.config.environment import FromEnvironment, setting


@dataclass(frozen=True, slots=True)
class FeedSettings(FromEnvironment):
    """When a bar is asked for and taken as settled; no derived record depends on it."""

    feed_settle_ms: int = setting(
        500, "how long after a bar's end it is first asked for", unit="ms", bounds=(0, 60_000)
    )
    feed_absent_after_sec: float = setting(
        5.0,
        "from when on after a bar's end OANDA's answer that it has no candle is taken as final",
        unit="s",
        bounds=(0.0, 600.0),
    )
    feed_reread_bars: int = setting(
        3,
        "candles before the newest that are read again each time, to notice revised ones",
        unit="candles",
        bounds=(1, 100),
    )
    epoch_max_wait_sec: float = setting(
        10.0,
        "how long after a bar's end epochs wait for an instrument whose bar is not settled",
        unit="s",
        bounds=(0.0, 3_600.0),
    )
    feed_metrics_port: int = setting(
        9110, "port of the feed's /metrics and /healthz; 0 = off", bounds=(0, 65_535)
    )
