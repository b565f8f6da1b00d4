"""Parameters of a request: one that an endpoint does not have is refused, not left out."""

from __future__ import annotations

from fastapi import Depends, Request

from streams.service.errors import ApiError


def refuse_unknown_parameters(request: Request) -> None:
    """Refuse a request with a query parameter that its endpoint does not have.

    Raises
    ------
    ApiError
        400, with the parameters there are.
    """
    known = [field.alias for field in request.scope["route"].dependant.query_params]
    other = [name for name in request.query_params if name not in known]
    if other:
        there = ", ".join(known) or "none"
        raise ApiError(
            400, "invalid_request", f"no parameter is called {', '.join(other)}; there are: {there}"
        )


ONLY_KNOWN_PARAMETERS = Depends(refuse_unknown_parameters)
