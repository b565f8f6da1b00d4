"""The error responses of an endpoint, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from streams.service.shapes import Problem

Responses = dict[int | str, dict[str, Any]]


def problem(text: str) -> dict[str, Any]:
    """Return the description of an error response."""
    return {"model": Problem, "description": text}


READS: Responses = {
    400: problem("a parameter, or the Host header, is invalid"),
    401: problem("on a non-loopback address read calls need the token too"),
    429: problem("rate limit exceeded; see Retry-After"),
}
ABOUT_INSTRUMENT: Responses = READS | {404: problem("the instrument is not in the log")}
FROM_AWAY: Responses = {
    503: problem("the source of the answer is unavailable; the detail names it")
}
CHANGES: Responses = READS | {
    403: problem("no token is set, or the request comes from another web page"),
    408: problem("the body did not arrive in time"),
    413: problem("the body is too large"),
    503: problem("the log, or another required part, is unavailable"),
}
CONFLICTS: Responses = CHANGES | {
    409: problem("not part of this deployment, or forbidden by its settings")
}
