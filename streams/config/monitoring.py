"""Settings of the failure signals; no derived record depends on them."""

from __future__ import annotations

from dataclasses import dataclass

from streams.config.environment import FromEnvironment, setting
from streams.errors import Fatal


@dataclass(frozen=True, slots=True)
class Liveness(FromEnvironment):
    """Addresses of other processes' metrics, and time limits."""

    feed_metrics_url: str = setting(
        "",
        "the OANDA feed's /metrics; unset = FEED_METRICS_PORT of this machine, if OANDA_API_KEY is "
        "set",
    )
    worker_metrics_urls: str = setting(
        "",
        "the workers' /metrics, comma separated; unset = METRICS_PORT of this machine, if one "
        "answers there",
    )
    kill_switch_long_sec: int = setting(
        3_600,
        "open-market time after which an engaged kill switch raises a warning",
        unit="s",
        bounds=(60, 31_536_000),
    )

    def check(self) -> None:
        """Raise Fatal for a value that is out of bounds or not an address."""
        FromEnvironment.check(self)
        for name, url in (
            ("FEED_METRICS_URL", self.feed_metrics_url),
            *(("WORKER_METRICS_URLS", url) for url in self.worker_urls),
        ):
            if url and not url.startswith(("http://", "https://")):
                raise Fatal(f"{name}: {url!r} is not an http:// or https:// address")

    @property
    def worker_urls(self) -> tuple[str, ...]:
        """The addresses in WORKER_METRICS_URLS."""
        parts = (part.strip() for part in self.worker_metrics_urls.split(","))
        return tuple(dict.fromkeys(part for part in parts if part))
