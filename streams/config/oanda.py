"""Settings of the OANDA client: addresses, account, limits."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from streams.config.environment import FromEnvironment, setting
from streams.errors import Fatal

HOSTS = {
    "practice": ("https://api-fxpractice.oanda.com", "https://stream-fxpractice.oanda.com"),
    "live": ("https://api-fxtrade.oanda.com", "https://stream-fxtrade.oanda.com"),
}
"""Environment -> (REST, streams); docs/spec/trading-loop.md 5.5."""

_ACCOUNT = re.compile(r"[0-9A-Za-z]+(-[0-9A-Za-z]+)*", re.ASCII)
_TOKEN = re.compile(r"[!-~]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Oanda(FromEnvironment):
    """Connection to OANDA; no derived record depends on it."""

    oanda_api_key: str = setting("", "access token (or OANDA_API_KEY_FILE)", secret=True)
    oanda_api_key_file: str = setting(
        "", "file with the token; read again when OANDA rejects the token"
    )
    auth_retry_sec: float = setting(
        900.0,
        "how long the client retries after OANDA rejects a token it has accepted before (rotation)",
        unit="s",
        bounds=(0.0, 86_400.0),
    )
    oanda_account_id: str = setting("", "account, such as 101-001-1234567-001")
    oanda_environment: str = setting(
        "practice",
        "OANDA environment; live also needs LIVE_TRADING_ENABLED=1",
        choices=tuple(HOSTS),
    )
    live_trading_enabled: bool = setting(False, "second switch required for live trading")
    oanda_base_url: str = setting(
        "", "REST address; unset = the environment's. http:// only on loopback"
    )
    oanda_stream_url: str = setting(
        "", "address of the streaming API; unset = the environment's. http:// only on loopback"
    )
    oanda_http_retries: int = setting(3, "retries of an idempotent request", bounds=(0, 20))
    oanda_http_backoff: float = setting(
        1.5,
        "back-off base: the pause before attempt n+1 is base^n seconds",
        unit="s",
        bounds=(1.0, 10.0),
    )
    oanda_http_timeout_sec: float = setting(
        30.0, "timeout of a request", unit="s", bounds=(0.1, 600.0)
    )
    oanda_http_rate: float = setting(
        100.0, "maximum requests per second (OANDA allows 120)", unit="1/s", bounds=(0.1, 120.0)
    )
    oanda_http_connections: int = setting(
        6, "maximum connections kept open for reading", bounds=(1, 20)
    )
    oanda_cb_failures: int = setting(
        5, "consecutive failed requests that open the circuit breaker", bounds=(1, 1_000)
    )
    oanda_cb_reset_sec: float = setting(
        30.0, "how long the circuit breaker stays open", unit="s", bounds=(0.1, 3_600.0)
    )
    oanda_stream_silence_sec: float = setting(
        15.0,
        "time without data after which a stream counts as broken (OANDA sends a heartbeat every 5 "
        "s)",
        unit="s",
        bounds=(0.2, 300.0),
    )

    def check(self) -> None:
        """Raise Fatal for a value out of bounds or unsafe, or live trading without both
        switches."""
        FromEnvironment.check(self)
        live = self.oanda_environment == "live"
        if live and not self.live_trading_enabled:
            raise Fatal(
                "OANDA_ENVIRONMENT=live needs LIVE_TRADING_ENABLED=1 as well; set both, or "
                "OANDA_ENVIRONMENT=practice"
            )
        for name, url in (
            ("OANDA_BASE_URL", self.oanda_base_url),
            ("OANDA_STREAM_URL", self.oanda_stream_url),
        ):
            if url:
                _check_url(name, url, self.oanda_environment)
        if self.oanda_api_key and not _TOKEN.fullmatch(self.oanda_api_key):
            raise Fatal(
                "OANDA_API_KEY contains a space or another character that no token has; set it, or "
                "OANDA_API_KEY_FILE, to the token alone"
            )
        if self.oanda_account_id and not _ACCOUNT.fullmatch(self.oanda_account_id):
            raise Fatal(
                f"OANDA_ACCOUNT_ID={self.oanda_account_id!r} is not an account such as "
                "101-001-1234567-001"
            )

    @property
    def base_url(self) -> str:
        """REST address without a trailing slash."""
        return (self.oanda_base_url or HOSTS[self.oanda_environment][0]).rstrip("/")

    @property
    def stream_url(self) -> str:
        """Address of the streaming API without a trailing slash."""
        return (self.oanda_stream_url or HOSTS[self.oanda_environment][1]).rstrip("/")

    def require_access(self) -> None:
        """Check that there is a token and an account.

        Raises
        ------
        Fatal
            One of them is not set.
        """
        if not self.oanda_api_key:
            raise Fatal(
                "OANDA_API_KEY is not set: set it, or OANDA_API_KEY_FILE, to an access token of "
                f"OANDA's {self.oanda_environment} environment"
            )
        if not self.oanda_account_id:
            raise Fatal("OANDA_ACCOUNT_ID is not set: set it to an account of the token's owner")


def token_of_file(path: str) -> str:
    """Read the token from a file.

    Raises
    ------
    Fatal
        The file cannot be read, or contains no token.
    """
    try:
        with open(path, encoding="utf-8") as handle:
            found = handle.read().strip()
    except (OSError, ValueError) as error:
        raise Fatal(f"OANDA_API_KEY_FILE={path} cannot be read: {error}") from error
    if not _TOKEN.fullmatch(found):
        raise Fatal(f"OANDA_API_KEY_FILE={path} holds no token")
    return found


def _check_url(name: str, url: str, environment: str) -> None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
        parts = SplitResult("", "", "", "", "")
    if "@" in parts.netloc:
        raise Fatal(
            f"{name} contains a user name or password: remove it, OANDA uses a token "
            "(OANDA_API_KEY)"
        )
    whole = host and parts.scheme in ("http", "https") and not (parts.query or parts.fragment)
    if not whole or host is None:
        raise Fatal(f"{name} is not an address such as {HOSTS['practice'][0]}")
    if parts.scheme == "http" and not _loopback(host):
        raise Fatal(f"{name}={url} would send the token in the clear: use https://")
    for other in HOSTS:
        theirs = {urlsplit(known).hostname for known in HOSTS[other]}
        if other != environment and host.lower().rstrip(".") in theirs:
            raise Fatal(
                f"{name}={url} is OANDA's {other} address, but OANDA_ENVIRONMENT={environment}; "
                "set both alike (live also needs LIVE_TRADING_ENABLED=1)"
            )


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
