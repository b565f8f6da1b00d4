"""Files of the page: what there is not is 404, whatever its name."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote

import pytest

from streams.service.app import make_rest
from streams.service.routes_page import asset


@pytest.mark.parametrize(
    "name",
    [
        "nothing.js",
        "a" * 5_000 + ".js",
        "%00.js",
        "%2e%2e%2fsecurity.py.js",
        "..%5cx.js",
        "%ed%a0%80.js",
        ".js",
        "*.js",
        "main.js%00",
    ],
    ids=lambda name: name[:12],
)
async def test_an_unknown_file_is_not_found(name: str) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    path = f"/page/{name}"
    asked = {"type": "http", "method": "GET", "path": unquote(path), "raw_path": path.encode()}
    await make_rest()(asked | {"headers": [], "query_string": b""}, receive, send)
    assert sent[0]["status"] == 404
    assert json.loads(sent[1]["body"]) == {"error": "not_found"}


def test_a_file_of_the_page_is_found() -> None:
    found = asset("main.js")
    assert found is not None and found.type.startswith("text/javascript")
