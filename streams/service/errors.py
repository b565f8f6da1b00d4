"""Errors of the API, all of one shape: ``{"error": code, "detail": sentence}``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from streams.errors import Fatal, Recoverable

log = logging.getLogger("manifold.api")


class ApiError(Exception):
    """An error answer; ``retry_after_s`` is set when a later retry may succeed."""

    def __init__(
        self, status: int, error: str, detail: str, retry_after_s: int | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.error, self.detail = status, error, detail
        self.retry_after_s = retry_after_s


def add_handlers(app: FastAPI, routers: Sequence[APIRouter] = ()) -> None:
    """Convert every error to an answer of this shape.

    Parameters
    ----------
    routers
        The routers included in the application.
    """
    places = (app.router, *routers)

    async def ours(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ApiError)
        wait_s = error.retry_after_s
        headers = None if wait_s is None else {"Retry-After": str(wait_s)}
        return _answer(error.status, error.error, error.detail, headers)

    async def away(_: Request, error: Exception) -> JSONResponse:
        return _answer(503, "unavailable", str(error), {"Retry-After": "5"})

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return _answer(400, "invalid_request", in_words(error.errors()))

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        if error.status_code == 404:
            return JSONResponse({"error": "not_found"}, 404)
        if error.status_code == 405:
            allow = ", ".join(_methods(places, request.url.path))
            return _answer(405, "method_not_allowed", f"allowed: {allow}", {"Allow": allow})
        return _answer(error.status_code, "invalid_request", str(error.detail))

    async def unforeseen(_: Request, error: Exception) -> JSONResponse:
        log.error("a request failed", exc_info=error)
        return _answer(500, "internal", "internal error of the service; see its log")

    app.add_exception_handler(ApiError, ours)
    app.add_exception_handler(Recoverable, away)
    app.add_exception_handler(Fatal, away)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, unforeseen)


def _methods(routers: Sequence[APIRouter], path: str) -> list[str]:
    """Return the methods of a path, which may have several routes."""
    found: set[str] = set()
    for router in routers:
        for route in router.routes:
            if isinstance(route, APIRoute) and route.path_regex.match(path):
                found |= route.methods or set()
    return sorted(found)


def in_words(errors: Any) -> str:
    """Return the first few problems of a request."""
    said = []
    for error in list(errors)[:3]:
        place = ".".join(str(part) for part in error.get("loc", ()) if part != "body")
        said.append(f"{place}: {error.get('msg')}" if place else str(error.get("msg")))
    return "; ".join(said)[:500]


def _answer(
    status: int, error: str, detail: str, headers: dict[str, str] | None = None
) -> JSONResponse:
    return JSONResponse({"error": error, "detail": detail}, status, headers)
