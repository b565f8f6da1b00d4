"""Errors of OANDA, each a ``Fatal`` or a ``Recoverable``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streams.errors import Fatal, Recoverable


class Unavailable(Recoverable):
    """No usable response: connection error, time-out, 5xx, or open breaker."""


class RateLimited(Unavailable):
    """OANDA asks for fewer requests (429); the request was not carried out.

    Attributes
    ----------
    retry_after_s
        Requested wait, seconds; None if OANDA gives none.
    """

    def __init__(self, message: str, retry_after_s: float | None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NotAsDescribed(Recoverable):
    """A response that does not match OANDA's description of the endpoint."""


class NotSent(Unavailable):
    """A changing request that certainly did not reach OANDA."""


class AnswerLost(Recoverable):
    """A changing request may have been carried out: look it up before sending another request."""


class OrderRefused(Recoverable):
    """OANDA refused a changing request; nothing was changed.

    Attributes
    ----------
    status
        HTTP status.
    code
        OANDA's reason code, such as ``INSUFFICIENT_MARGIN``.
    content
        The complete response.
    """

    def __init__(self, message: str, status: int, code: str, content: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.status, self.code, self.content = status, code, content


class RequestRefused(Fatal):
    """OANDA refuses a read request (400, 404, 405); a retry would be refused as well.

    Attributes
    ----------
    status
        HTTP status.
    code
        OANDA's reason code, empty if missing.
    """

    def __init__(self, message: str, status: int, code: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class AccessSuspended(Unavailable):
    """OANDA refuses a token that it accepted before (401, 403): it may have been rotated.

    The request was not carried out.
    """


class AccessRefused(Fatal):
    """OANDA refuses the token, or the token for this account (401, 403)."""
