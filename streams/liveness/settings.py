"""Settings of the failure signals; no derived record depends on them."""

from __future__ import annotations

from dataclasses import dataclass

from streams.environment import FromEnvironment, setting
from streams.errors import Fatal


@dataclass(frozen=True, slots=True)
class Liveness(FromEnvironment):
    """Where else to look, and what counts as long."""

    feed_metrics_url: str = setting(
        "",
        "the OANDA feed's /metrics; unset = FEED_METRICS_PORT of this machine, if OANDA_API_KEY is "
        "set",
    )
    kill_switch_long_sec: int = setting(
        3_600,
        "open-market time after which an engaged kill switch is worth a warning",
        unit="s",
        bounds=(60, 31_536_000),
    )

    def check(self) -> None:
        """Raise Fatal for a value that is out of bounds or no address."""
        FromEnvironment.check(self)
        url = self.feed_metrics_url
        if url and not url.startswith(("http://", "https://")):
            raise Fatal("FEED_METRICS_URL is no http:// or https:// address")
