"""Settings of the service: addresses, token, limits."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from streams.config.environment import FromEnvironment, setting
from streams.errors import Fatal

TOKEN_FORM = re.compile(r"[A-Za-z0-9._~+/=-]{16,512}")
METRICS_PORT = "API_METRICS_PORT"
"""The only port of the service that listens on METRICS_HOST instead of API_HOST."""
_PORT = (0, 65_535)


@dataclass(frozen=True, slots=True)
class Service(FromEnvironment):
    """Addresses of the service, token for mutating requests, rate limits."""

    api_host: str = setting(
        "127.0.0.1",
        "address of the service's ports except API_METRICS_PORT; other than loopback it needs "
        "API_TOKEN",
    )
    api_port: int = setting(8000, "port of REST, of the page and of /ws", bounds=(1, 65_535))
    ws_port: int = setting(8001, "port of the WebSocket alone; 0 = only /ws", bounds=_PORT)
    allocator_status_port: int = setting(
        8100, "port of the allocator's /status; 0 = off", bounds=_PORT
    )
    hydrator_status_port: int = setting(
        8110, "port of the hydrator's /status; 0 = off", bounds=_PORT
    )
    api_metrics_port: int = setting(
        0,
        "separate port of /metrics and /healthz, on METRICS_HOST, without a token; 0 = off "
        "(/metrics "
        "is on API_PORT too)",
        bounds=_PORT,
    )
    api_token: str = setting(
        "",
        "token of mutating requests (or API_TOKEN_FILE); unset = all of them are refused",
        secret=True,
    )
    api_allowed_hosts: tuple[str, ...] = setting(
        (), "further host names accepted in the Host header, comma separated"
    )
    api_trusted_proxies: tuple[str, ...] = setting(
        (),
        "addresses or networks of proxies whose X-Forwarded-For names the client, comma separated; "
        "from other addresses the header is ignored",
    )
    api_rate_per_sec: float = setting(
        100.0,
        "maximum requests per second of one client, and of all requests with the token together; "
        "0 = no limit",
        unit="1/s",
        bounds=(0, 1e6),
    )
    api_write_rate_per_min: float = setting(
        60.0,
        "maximum mutating requests per minute; the kill switch has the same number for itself",
        unit="1/min",
        bounds=(1, 1e6),
    )
    api_max_body_bytes: int = setting(
        65_536, "maximum size of a request body", unit="bytes", bounds=(256, 16_777_216)
    )
    ws_max_queue: int = setting(
        1_000, "maximum events queued for one slow client", unit="events", bounds=(1, 1_000_000)
    )
    ws_max_clients: int = setting(
        1_000, "maximum WebSocket clients at the same time", bounds=(1, 100_000)
    )
    ws_heartbeat_sec: float = setting(15.0, "time between heartbeats", unit="s", bounds=(0.1, 300))
    ws_resume_max: int = setting(
        10_000,
        "maximum number of log offsets that a resuming client may be behind",
        bounds=(0, 1_000_000),
    )
    ws_message_rate_per_sec: float = setting(
        20.0, "maximum messages per second from one WebSocket client", unit="1/s", bounds=(1, 1e6)
    )
    trade_status_url: str = setting(
        "http://127.0.0.1:8120/status", "address of the executor's status page (manifold trade)"
    )

    def check(self) -> None:
        """Raise Fatal for a value out of bounds, or a public address without a token."""
        FromEnvironment.check(self)
        if self.api_token and not TOKEN_FORM.fullmatch(self.api_token):
            raise Fatal(
                "API_TOKEN is not a valid token: 16 to 512 letters, digits or ._~+/=- "
                "(such as: openssl rand -hex 32)"
            )
        if not self.loopback and not self.api_token:
            raise Fatal(
                f"API_HOST={self.api_host} can be reached from other machines: set API_TOKEN or "
                "API_TOKEN_FILE (such as: openssl rand -hex 32), or listen on 127.0.0.1"
            )
        _ = self.proxies
        ports = [port for port in self.ports.values() if port]
        if len(set(ports)) != len(ports):
            said = ", ".join(f"{name}={port}" for name, port in self.ports.items())
            raise Fatal(f"the ports of the service must differ: {said}")
        if not self.trade_status_url.startswith(("http://", "https://")):
            raise Fatal("TRADE_STATUS_URL is not an http:// or https:// address")

    @property
    def ports(self) -> dict[str, int]:
        """The ports by the name of their setting; 0 = off."""
        return {
            "API_PORT": self.api_port,
            "WS_PORT": self.ws_port,
            "ALLOCATOR_STATUS_PORT": self.allocator_status_port,
            "HYDRATOR_STATUS_PORT": self.hydrator_status_port,
            METRICS_PORT: self.api_metrics_port,
        }

    @property
    def proxies(self) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
        """The networks of API_TRUSTED_PROXIES."""
        try:
            names = self.api_trusted_proxies
            return tuple(ipaddress.ip_network(name, strict=False) for name in names)
        except ValueError as error:
            raise Fatal(
                f"API_TRUSTED_PROXIES: {error}; give addresses or networks such as 10.0.0.0/8"
            ) from None

    @property
    def loopback(self) -> bool:
        """Whether the service listens on loopback only."""
        if self.api_host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.api_host).is_loopback
        except ValueError:
            raise Fatal(
                f"API_HOST={self.api_host!r} is not an address: use one such as 127.0.0.1, or "
                "0.0.0.0 for all addresses of this machine"
            ) from None

    @property
    def hosts(self) -> frozenset[str]:
        """Host names (lower case, without port) that a request may be addressed to."""
        own = {self.api_host.lower()} if self.api_host not in ("0.0.0.0", "::") else set()
        named = {name.lower() for name in self.api_allowed_hosts}
        return frozenset({"127.0.0.1", "localhost", "::1"} | own | named)
