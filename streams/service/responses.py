"""Which answers beside the good one an endpoint may give, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from streams.service.shapes import Problem

Responses = dict[int | str, dict[str, Any]]


def problem(text: str) -> dict[str, Any]:
    """Return an answer of the one shape of errors."""
    return {"model": Problem, "description": text}


READS: Responses = {
    400: problem("a parameter, or the Host header, is not as it must be"),
    401: problem("beyond loopback reading needs the token too"),
    429: problem("asked too often; see Retry-After"),
}
ABOUT_INSTRUMENT: Responses = READS | {404: problem("the log knows no such instrument")}
FROM_AWAY: Responses = {503: problem("what knows the answer is away; the sentence says what")}
CHANGES: Responses = READS | {
    403: problem("no token is set, or another web page asks"),
    408: problem("the body did not come in time"),
    413: problem("the body is too large"),
    503: problem("the log, or another part that is needed, is away"),
}
CONFLICTS: Responses = CHANGES | {
    409: problem("this deployment has no such part, or its settings forbid it")
}
