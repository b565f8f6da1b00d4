"""``docs/reference/api.md``: REST and WebSocket, from the OpenAPI and AsyncAPI documents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from streams.service.app import make_rest
from streams.service.documents import SAFE, asyncapi, openapi
from tests.support.reference_docs.markdown import code, page, plain, table

INTRO = """
`manifold serve` answers REST on `API_PORT` (8000) and the WebSocket on `WS_PORT` (8001), or on
`/ws` of the first. `manifold serve --openapi FILE --asyncapi FILE` writes the documents with every
detail. It listens on loopback by default; another address needs
`API_TOKEN` (`Authorization: Bearer TOKEN`), and so does every call that changes something.
Such a call takes `reason` and `actor`, and is written to the log before it takes effect.

An error response is `{"error": code, "detail": sentence}`; the codes are in
[reasons.md](reasons.md#errors-of-the-rest-api). Times are epoch milliseconds UTC.
"""


def document() -> str:
    """Return the page."""
    rest, socket = openapi(make_rest()), asyncapi()
    schemas = rest["components"]["schemas"]
    parts = ["## REST\n", table(["call", "token", "what it does"], _calls(rest))]
    for path, methods in rest["paths"].items():
        for method, operation in methods.items():
            parts += _operation(f"{method.upper()} {path}", operation, schemas)
    parts += ["## Shapes\n"]
    for name in sorted(schemas):
        parts += _shape(name, schemas[name])
    parts += ["## WebSocket\n", socket["info"]["description"] + "\n"]
    parts += [_channels(socket), "### Messages of the client\n"]
    parts += _messages(socket, "send")
    parts += ["### Messages of the service\n", *_messages(socket, "receive")]
    return page("REST and WebSocket", INTRO, *parts)


def _calls(rest: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    for path, methods in rest["paths"].items():
        for method, operation in methods.items():
            title = f"{method.upper()} {path}"
            anchor = title.lower().replace("/", "").replace(" ", "-")
            said = plain(operation.get("description", "")).split("\n\n")[0]
            yield f"[`{title}`](#{anchor})", "" if method in SAFE else "yes", said


def _operation(title: str, operation: dict[str, Any], schemas: dict[str, Any]) -> Iterator[str]:
    yield f"### {title}\n"
    yield plain(operation.get("description", operation["summary"])) + "\n"
    rows = [
        (
            code(one["name"]),
            _type(one["schema"]),
            "yes" if one["required"] else "",
            one.get("description", ""),
        )
        for one in operation.get("parameters", ())
        if one["in"] == "query"
    ]
    if rows:
        yield table(["parameter", "type", "required", "what it is"], rows)
    body = operation.get("requestBody")
    if body:
        yield f"Body: {_linked(_type(_json_schema(body)), schemas)}\n"
    answer = operation["responses"].get("200") or operation["responses"].get("202")
    content = _json_schema(answer) if answer and answer.get("content") else None
    if content:
        yield f"Answer: {_linked(_type(content), schemas)}\n"


def _json_schema(of: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = of["content"].get("application/json", {})
    found: dict[str, Any] = content.get("schema", {})
    return found


def _linked(kind: str, schemas: dict[str, Any]) -> str:
    name = kind.removeprefix("array of ")
    return kind.replace(name, f"[{name}](#{name.lower()})") if name in schemas else kind


def _shape(name: str, schema: dict[str, Any]) -> Iterator[str]:
    yield f"### {name}\n"
    if schema.get("description"):
        yield plain(schema["description"]) + "\n"
    rows = _properties(schema)
    if rows:
        yield table(["field", "type", "required", "what it is"], rows)


def _properties(schema: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    required = schema.get("required", ())
    return [
        (code(name), _type(of), "yes" if name in required else "", of.get("description", ""))
        for name, of in schema.get("properties", {}).items()
    ]


def _type(of: dict[str, Any]) -> str:
    """Return a JSON schema's type in words."""
    if "$ref" in of:
        return str(of["$ref"]).rpartition("/")[2]
    if "const" in of:
        return code(f'"{of["const"]}"')
    if "enum" in of:
        return " / ".join(code(one) for one in of["enum"])
    if "anyOf" in of or "oneOf" in of:
        parts = [_type(one) for one in of.get("anyOf") or of["oneOf"]]
        return " or ".join(dict.fromkeys(parts))
    if of.get("type") == "array":
        return f"array of {_type(of.get('items', {}))}"
    extra = of.get("additionalProperties")
    if of.get("type") == "object" and isinstance(extra, dict):
        return f"object of {_type(extra)}"
    return str(of.get("type", "any"))


def _channels(socket: dict[str, Any]) -> str:
    told = socket["channels"]["ws"]["x-channels"]
    rows = [
        (code(channel), code(kind), content)
        for channel, kinds in told.items()
        for kind, content in kinds.items()
    ]
    return table(["channel", "event", "content"], rows)


def _messages(socket: dict[str, Any], operation: str) -> Iterator[str]:
    components = socket["components"]
    for ref in socket["operations"][operation]["messages"]:
        name = ref["$ref"].rpartition("/")[2]
        schema = components["schemas"][name]
        kind = schema["properties"]["type"].get("const")
        yield f"#### {name}\n"
        yield plain(schema.get("description", "")) + "\n"
        if kind:
            yield f'`"type": "{kind}"`\n'
        rows = [row for row in _properties(schema) if row[0] != "`type`"]
        if rows:
            yield table(["field", "type", "required", "what it is"], rows)
