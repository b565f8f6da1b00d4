"""Access rules of the status ports from the settings, and the headers of requests to them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from streams.config.runtime import Runtime
from streams.config.service import Service
from streams.process.status_access import StatusAccess, is_loopback


def status_access(host: str, env: Mapping[str, str] | None = None) -> StatusAccess:
    """Return the access rule of a status port on an address.

    Raises
    ------
    Fatal
        A setting does not parse, or the file of a token cannot be read.
    """
    env = os.environ if env is None else env
    service = Service.values_in(env)
    names = frozenset(name.lower() for name in service.get("api_allowed_hosts", ()))
    return StatusAccess("127.0.0.1" if host == "localhost" else host, _tokens(env), names)


def status_headers(url: str, env: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the headers for a request to a status port.

    METRICS_TOKEN is sent to every status port. API_TOKEN permits changes: it is sent only to
    another machine, and only when METRICS_TOKEN is not set.
    """
    env = os.environ if env is None else env
    tokens = _tokens(env)
    own = bool(Runtime.values_in(env).get("metrics_token"))
    if not tokens or (not own and is_loopback(urlsplit(url).hostname or "")):
        return {}
    return {"Authorization": f"Bearer {tokens[0]}"}


def _tokens(env: Mapping[str, str]) -> tuple[str, ...]:
    found = Runtime.values_in(env).get("metrics_token"), Service.values_in(env).get("api_token")
    return tuple(str(token) for token in found if token)
