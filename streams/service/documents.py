"""The OpenAPI and AsyncAPI documents, generated from the code."""

from __future__ import annotations

import json
from typing import Any

from fastapi import FastAPI

from streams import __version__
from streams.service.channels import CHANNELS, KINDS, STATUS
from streams.service.messages import CLIENT_MESSAGES, SERVER_MESSAGES

TITLE = "manifold-streams"
SAFE = ("get", "head", "options")


def openapi(rest: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document of the REST application."""
    document: dict[str, Any] = rest.openapi()
    schemas = document["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    document["components"]["securitySchemes"] = {
        "token": {
            "type": "http",
            "scheme": "bearer",
            "description": "API_TOKEN; read calls need it only on a non-loopback address.",
        }
    }
    for path in document["paths"].values():
        for method, operation in path.items():
            operation["responses"].pop("422", None)
            if method not in SAFE:
                operation["security"] = [{"token": []}]
    return document


def asyncapi() -> dict[str, Any]:
    """Return the AsyncAPI document of the WebSocket."""
    messages, schemas = {}, {}
    for model in (*CLIENT_MESSAGES, *SERVER_MESSAGES):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(schema.pop("$defs", {}))
        schemas[model.__name__] = schema
        messages[model.__name__] = {
            "name": model.__name__,
            "summary": (model.__doc__ or "").strip().splitlines()[0],
            "contentType": "application/json",
            "payload": {"$ref": f"#/components/schemas/{model.__name__}"},
        }
    kinds = [*KINDS.values(), STATUS]
    told = {
        channel: {kind.type: kind.content for kind in kinds if kind.channel == channel}
        for channel in CHANNELS
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": TITLE,
            "version": __version__,
            "description": (
                "Events of the log as they are committed. An event's id is its position in the "
                "log, "
                "<topic>-<partition>-<offset>; subscribe with the last id seen to get all later "
                "events first, or a reset. On a non-loopback address send the API token as the "
                "first message, or offer it as the subprotocol token.<API_TOKEN> together with "
                "manifold; never in the URL."
            ),
        },
        "servers": {
            "own": {"host": "127.0.0.1:8001", "protocol": "ws", "description": "WS_PORT"},
            "api": {"host": "127.0.0.1:8000", "protocol": "ws", "description": "API_PORT"},
        },
        "channels": {
            "ws": {
                "address": "/ws",
                "description": "Channels that can be subscribed to, and the events of each.",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
                "x-channels": told,
            }
        },
        "operations": {
            "send": {
                "action": "receive",
                "channel": {"$ref": "#/channels/ws"},
                "messages": [_ref(model.__name__) for model in CLIENT_MESSAGES],
            },
            "receive": {
                "action": "send",
                "channel": {"$ref": "#/channels/ws"},
                "messages": [_ref(model.__name__) for model in SERVER_MESSAGES],
            },
        },
        "components": {"messages": messages, "schemas": dict(sorted(schemas.items()))},
    }


def as_text(document: dict[str, Any]) -> str:
    """Return a document in its file form."""
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/channels/ws/messages/{name}"}
