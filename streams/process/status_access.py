"""Access control of the status ports, the same for all programs.

On loopback the ``Host`` header must name this machine, against DNS rebinding, by which a web page
could read the account. On another address every path but ``/healthz`` needs a token.
"""

from __future__ import annotations

import hmac
import ipaddress
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

from streams.errors import Fatal
from streams.process.metrics import METRICS_TYPE
from streams.process.status_connections import Handler, listen

OPEN_PATH: Final = "/healthz"
OWN_NAMES: Final = frozenset(("127.0.0.1", "localhost", "::1"))


class StatusRefusal(NamedTuple):
    """Why a request is refused: status, code and sentence."""

    status: int
    error: str
    detail: str


class StatusAccess(NamedTuple):
    """The access rule of one port.

    Attributes
    ----------
    host
        The address that the port listens on.
    tokens
        The tokens accepted on an address other than loopback.
    names
        Further names accepted in the ``Host`` header, lower case.
    """

    host: str = "127.0.0.1"
    tokens: tuple[str, ...] = ()
    names: frozenset[str] = frozenset()

    @property
    def public(self) -> bool:
        """Whether other machines can reach it."""
        return not is_loopback(self.host)

    def refusal(self, path: str, host: str, authorization: str) -> StatusRefusal | None:
        """Return why a request is refused; None when it is allowed.

        Parameters
        ----------
        path
            Path of the request.
        host, authorization
            Headers of the request; empty when missing.
        """
        kind, _, token = authorization.partition(" ")
        given = token.strip().encode("utf-8", "replace") if kind.lower() == "bearer" else b""
        known = [hmac.compare_digest(one.encode(), given) for one in self.tokens]
        if any(known):
            return None  # a web page cannot know the token
        name = host_name(host)
        if not (name in OWN_NAMES | self.names | {self.host} or (self.public and is_address(name))):
            detail = "the Host header names no host of this port (API_ALLOWED_HOSTS)"
            return StatusRefusal(400, "invalid_host", detail)
        if not self.public or path == OPEN_PATH:
            return None
        if not self.tokens:
            detail = f"it listens on {self.host} and no METRICS_TOKEN is set: only {OPEN_PATH}"
            return StatusRefusal(401, "no_token_set", detail)
        detail = "this address needs the header Authorization: Bearer METRICS_TOKEN"
        return StatusRefusal(401, "token_required", detail)


def host_name(host: str) -> str:
    """Return the name in a Host header, lower case, without port; empty when invalid."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_address(name: str) -> bool:
    """Return whether a text is an IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def open_status_port(
    application: web.Application, access: StatusAccess, port: int, setting: str
) -> web.AppRunner:
    """Serve an application until the returned runner is cleaned up; port 0 starts no server.

    Raises
    ------
    Fatal
        The port is in use; the message names its setting.
    """
    application.middlewares.append(_checked(access))
    try:
        return await listen(application, access.host, port)
    except OSError as error:
        raise Fatal(
            f"{setting}={port} cannot be used on {access.host} ({error.strerror}); choose "
            "another, or 0 for none"
        ) from error


def metrics_web(registry: CollectorRegistry) -> web.Application:
    """Return a web application with ``/metrics`` of a registry, and ``/healthz``."""

    async def show_metrics(_: web.Request) -> web.Response:
        body = generate_latest(registry)
        return web.Response(body=body, headers={"Content-Type": METRICS_TYPE})

    async def show_health(_: web.Request) -> web.Response:
        return web.json_response({"healthy": True})

    application = web.Application()
    for path in ("/", "/metrics"):
        application.router.add_get(path, show_metrics)
    application.router.add_get(OPEN_PATH, show_health)
    return application


def _checked(access: StatusAccess) -> Any:
    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        headers = request.headers
        found = access.refusal(
            request.path, headers.get("Host", ""), headers.get("Authorization", "")
        )
        if found is None:
            return await handler(request)
        content = {"error": found.error, "detail": found.detail}
        return web.json_response(content, status=found.status)

    return check
