"""The page, and the documents of the API: files of this package only."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import NamedTuple

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse, Response

from streams.service import documents

router = APIRouter(include_in_schema=False)

TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "mjs": "text/javascript; charset=utf-8",
    "json": "application/json",
    "svg": "image/svg+xml",
    "png": "image/png",
    "ico": "image/x-icon",
    "webmanifest": "application/manifest+json",
    "woff2": "font/woff2",
    "txt": "text/plain; charset=utf-8",
}


class Asset(NamedTuple):
    """A file of the page, its content type and ETag."""

    content: bytes
    type: str
    tag: str


@lru_cache(maxsize=1)
def _files() -> dict[str, Traversable]:
    """Return the files of the page; a name of a client never reaches the file system."""
    folder = resources.files("streams.service").joinpath("page")
    return {place.name: place for place in folder.iterdir() if place.is_file()}


@lru_cache(maxsize=256)
def asset(name: str) -> Asset | None:
    """Return a file of the page by name; None if it does not exist or is of an unknown type."""
    kind, place = TYPES.get(name.rpartition(".")[2]), _files().get(name)
    if kind is None or place is None:
        return None
    content = place.read_bytes()
    return Asset(content, kind, f'"{hashlib.sha256(content).hexdigest()[:32]}"')


@router.get("/")
async def index(request: Request) -> Response:
    """The page itself."""
    return _served("index.html", request)


@router.get("/page/{name}")
async def page_file(name: str, request: Request) -> Response:
    """A file of the page."""
    return _served(name, request)


@router.get("/openapi.json")
async def openapi_document(request: Request) -> Response:
    """The OpenAPI document."""
    return Response(_openapi(request.app), media_type="application/json")


@router.get("/asyncapi.json")
async def asyncapi_document() -> Response:
    """The AsyncAPI document."""
    return Response(_asyncapi(), media_type="application/json")


@lru_cache(maxsize=1)
def _openapi(rest: FastAPI) -> str:
    return documents.as_text(documents.openapi(rest))


@lru_cache(maxsize=1)
def _asyncapi() -> str:
    return documents.as_text(documents.asyncapi())


def _served(name: str, request: Request) -> Response:
    found = asset(name)
    if found is None:
        return JSONResponse({"error": "not_found"}, 404)
    # revalidated at every request (304), so that a new version is never mixed with an old one
    headers = {"ETag": found.tag, "Cache-Control": "no-cache", "Content-Type": found.type}
    if found.tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(found.content, headers=headers)
