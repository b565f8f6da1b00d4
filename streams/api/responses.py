"""Which answers beside the good one an endpoint may give, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from streams.api.shapes import Problem

Responses = dict[int | str, dict[str, Any]]


def _problem(text: str) -> dict[str, Any]:
    return {"model": Problem, "description": text}


READS: Responses = {
    400: _problem("a parameter, or the Host header, is not as it must be"),
    401: _problem("beyond loopback reading needs the token too"),
    429: _problem("asked too often; see Retry-After"),
}
ABOUT_INSTRUMENT: Responses = READS | {404: _problem("the log knows no such instrument")}
FROM_AWAY: Responses = {503: _problem("what knows the answer is away; the sentence says what")}
CHANGES: Responses = READS | {
    403: _problem("no token is set, or another web page asks"),
    408: _problem("the body did not come in time"),
    413: _problem("the body is too large"),
    503: _problem("the log, or another part that is needed, is away"),
}
CONFLICTS: Responses = CHANGES | {
    409: _problem("this deployment has no such part, or its settings forbid it")
}
