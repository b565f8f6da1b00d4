"""Query parameters: unknown ones are refused, not ignored."""

from __future__ import annotations

from fastapi import Depends, Request

from streams.service.errors import ApiError


def refuse_unknown_parameters(request: Request) -> None:
    """Refuse a request with an unknown query parameter.

    Raises
    ------
    ApiError
        400, with the known parameters.
    """
    known = [field.alias for field in request.scope["route"].dependant.query_params]
    other = [name for name in request.query_params if name not in known]
    if other:
        there = ", ".join(known) or "none"
        raise ApiError(
            400, "invalid_request", f"no parameter is called {', '.join(other)}; there are: {there}"
        )


ONLY_KNOWN_PARAMETERS = Depends(refuse_unknown_parameters)
