"""OANDA's responses: bodies of limited size, JSON, and the reasons of a refusal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import aiohttp

LARGEST_ANSWER = 32 << 20
REJECTED = ("orderRejectTransaction", "longOrderRejectTransaction", "shortOrderRejectTransaction")


class Answer(NamedTuple):
    """A response: its status and its JSON."""

    status: int
    content: Any


def rejects_of(content: Any) -> list[Mapping[str, Any]]:
    """Return the reject transactions of a response to an order."""
    if not isinstance(content, Mapping):
        return []
    found = (content.get(name) for name in REJECTED)
    return [one for one in found if isinstance(one, Mapping)]


def oanda_refusal(content: Any) -> tuple[str, str]:
    """Return OANDA's code and message of a refusal; empty if missing."""
    if not isinstance(content, Mapping):
        return "", ""
    inner = next((one.get("rejectReason") for one in rejects_of(content)), None)
    code = inner or content.get("errorCode") or ""
    return str(code), str(content.get("errorMessage") or "")


async def read_body(response: aiohttp.ClientResponse) -> bytes | None:
    """Return the body of a response; None when it is larger than LARGEST_ANSWER."""
    pieces, size = [], 0
    async for piece in response.content.iter_any():
        size += len(piece)
        if size > LARGEST_ANSWER:
            response.close()
            return None
        pieces.append(piece)
    return b"".join(pieces)


def json_object(body: bytes | None) -> dict[str, Any] | None:
    """Return the JSON object of a body; None when it is not a JSON object."""
    try:
        content = json.loads(body or b"", parse_constant=_no_number)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is not a JSON number")
