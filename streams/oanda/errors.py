"""What can go wrong with OANDA, each under one of the two roots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streams.errors import Fatal, Recoverable


class Unavailable(Recoverable):
    """No usable answer: the connection, a time-out, 5xx, or the breaker is open."""


class RateLimited(Unavailable):
    """OANDA asks for fewer requests (429); the request was not carried out.

    Attributes
    ----------
    retry_after_s
        What OANDA asks to wait, None when it does not say.
    """

    def __init__(self, message: str, retry_after_s: float | None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NotAsDescribed(Recoverable):
    """An answer that is not what OANDA's description of the endpoint says; nothing is guessed."""


class NotSent(Unavailable):
    """A changing request that certainly did not reach OANDA."""


class AnswerLost(Recoverable):
    """A changing request may have been carried out: look it up before anything else is sent."""


class OrderRefused(Recoverable):
    """OANDA refused a changing request; nothing was changed.

    Attributes
    ----------
    status
        HTTP status.
    code
        OANDA's word for the reason, such as ``INSUFFICIENT_MARGIN``.
    content
        The whole answer.
    """

    def __init__(self, message: str, status: int, code: str, content: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.status, self.code, self.content = status, code, content


class RequestRefused(Fatal):
    """OANDA refuses a question (400, 404, 405): it would refuse the same again.

    Attributes
    ----------
    status
        HTTP status.
    code
        OANDA's word for the reason, empty when it gives none.
    """

    def __init__(self, message: str, status: int, code: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class AccessSuspended(Unavailable):
    """OANDA does not accept the token now (401, 403), and has done so before: it may be rotated.

    The request was not carried out.
    """


class AccessRefused(Fatal):
    """OANDA does not accept the token, or not for this account (401, 403)."""
