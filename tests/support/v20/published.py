"""OANDA's description of its API, read from the source text of published packages.

``v20`` is OANDA's own client, generated from the description: fields and types of every definition,
and per endpoint its path, parameters, body and answers. ``oandapyV20`` has the values of the
enumerations and recorded answers. Their text is parsed; nothing of them runs.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Json = dict[str, Any]

MODULES = ("account", "instrument", "order", "position", "pricing", "trade", "transaction")

TEXT: Json = {"type": "string"}
DECIMAL: Json = TEXT | {"format": "A decimal number"}
DIGITS: Json = TEXT | {"format": "The string representation of the OANDA-assigned"}
TIME: Json = TEXT | {"format": "The RFC 3339"}
INSTRUMENT: Json = TEXT | {"format": "A string containing the base currency"}
INTEGER: Json = {"type": "integer"}
BOOLEAN: Json = {"type": "boolean"}
LIST: Json = {"type": "array", "items": TEXT}

PRIMITIVES: dict[str, Json] = {
    **dict.fromkeys(("DecimalNumber", "PriceValue", "AccountUnits"), DECIMAL),
    **dict.fromkeys(("OrderID", "TradeID", "TransactionID"), DIGITS),
    "DateTime": TIME,
    "InstrumentName": INSTRUMENT,
    "integer": INTEGER,
    "boolean": BOOLEAN,
}
"""Name of a primitive type -> its schema; others are enumerations or any text."""

QUERY: dict[str, Json] = {
    **dict.fromkeys(("count", "pageSize", "dailyAlignment"), INTEGER),
    **dict.fromkeys(("smooth", "includeFirst", "snapshot"), BOOLEAN),
    **dict.fromkeys(("includeUnitsAvailable", "includeHomeConversions"), BOOLEAN),
    **dict.fromkeys(("from", "to", "since", "time"), TIME),
    **dict.fromkeys(("instruments", "ids", "type"), LIST),
}
"""Query parameter -> its type, which the client does not say: as the documentation describes it."""

NEEDED = {
    "/pricing": ("instruments",),
    "/pricing/stream": ("instruments",),
    "/pricing/range": ("from",),
    "/transactions/idrange": ("from", "to"),
    "/transactions/sinceid": ("id",),
}
"""Ending of a path -> query parameters that the documentation marks required."""

ID_RANGE = dict.fromkeys(("from", "to"), TEXT)
"""Parameters that are times elsewhere and ids of transactions at ``idrange``."""

BODY: dict[str, str] = {
    "order": "OrderRequest",
    "takeProfit": "TakeProfitDetails",
    "stopLoss": "StopLossDetails",
    "trailingStopLoss": "TrailingStopLossDetails",
    **dict.fromkeys(("clientExtensions", "tradeClientExtensions"), "ClientExtensions"),
    **dict.fromkeys(("longClientExtensions", "shortClientExtensions"), "ClientExtensions"),
}
"""Field of a request's body -> its definition; the others are text."""

ERROR: Json = {"type": "object", "properties": {"errorCode": TEXT, "errorMessage": TEXT}}

ANSWERS: dict[str, Json] = {
    "lastTransactionID": DIGITS,
    "relatedTransactionIDs": {"type": "array", "items": DIGITS},
    "time": TIME,
    "pages": LIST,
    "count": INTEGER,
    "pageSize": INTEGER,
    "from": TIME,
    "to": TIME,
    "type": LIST,
    "instrument": INSTRUMENT,
}
"""Field of an answer that is no object -> its schema; the others are text."""


def folder_of(package: str) -> Path:
    """Return where a package's source text is, without importing it."""
    found = importlib.util.find_spec(package)
    assert found is not None and found.submodule_search_locations, f"{package} is not installed"
    return Path(found.submodule_search_locations[0])


def description() -> Json:
    """Return the description in the form of Swagger 2.0, as far as ``Contract`` reads it."""
    folder, paths = folder_of("v20"), {}
    for module in MODULES:
        for path, method, operation in _endpoints(ast.parse((folder / f"{module}.py").read_text())):
            paths.setdefault(path, {})[method] = operation
    return {
        "definitions": dict(_definitions(folder / "spec_properties.py", _enumerations())),
        "paths": paths,
        "parameters": {},
        "responses": {str(n): {"schema": ERROR} for n in (400, 401, 403, 404, 405, 416)},
    }


def recordings() -> Json:
    """Return name -> recorded answer."""
    found: Json = {}
    for file in sorted((folder_of("oandapyV20") / "endpoints" / "responses").glob("*.py")):
        for name, entry in _literal(file, "responses").items():
            found[f"{file.stem}.{name.lstrip('_')}"] = entry
    return found


def _literal(file: Path, variable: str) -> Json:
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == variable:
            found: Json = ast.literal_eval(node.value)
            return found
    return {}


def _enumerations() -> dict[str, list[str]]:
    files = (folder_of("oandapyV20") / "definitions").glob("*.py")
    found = [_literal(file, "definitions") for file in sorted(files)]
    return {name: list(values) for each in found for name, values in each.items()}


def _definitions(file: Path, enumerations: dict[str, list[str]]) -> Iterator[tuple[str, Json]]:
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.List):
            continue
        fields = {}
        for call in node.value.elts:
            assert isinstance(call, ast.Call)
            name, _, _, kind, of, *_ = (ast.literal_eval(argument) for argument in call.args)
            fields[name] = _schema(kind, of.rpartition(".")[2], enumerations)
        name = ast.unparse(node.targets[0]).rpartition("_")[2]
        yield name, {"type": "object", "properties": fields}


def _schema(kind: str, of: str, enumerations: dict[str, list[str]]) -> Json:
    if kind.endswith("object"):
        one: Json = {"$ref": f"#/definitions/{of}"}
    elif of in PRIMITIVES:
        one = PRIMITIVES[of]
    else:
        one = TEXT | ({"enum": enumerations[of]} if of in enumerations else {})
    return {"type": "array", "items": one} if kind.startswith("array") else one


def _endpoints(module: ast.Module) -> Iterator[tuple[str, str, Json]]:
    for node in ast.walk(module):
        if not isinstance(node, ast.FunctionDef):
            continue
        calls = [each for each in ast.walk(node) if isinstance(each, ast.Call)]
        asked = [c for c in calls if ast.unparse(c.func) == "Request"]
        if not asked:
            continue
        method, path = (str(ast.literal_eval(argument)) for argument in asked[0].args)
        path = path.removeprefix("/v3")
        yield (
            path,
            method.lower(),
            {
                "parameters": [*_query(calls, path), *_body(calls)],
                "responses": dict(_answers(node)),
            },
        )


def _names(calls: list[ast.Call], function: str) -> list[str]:
    found = (c for c in calls if ast.unparse(c.func) == function)
    return list(dict.fromkeys(str(ast.literal_eval(c.args[0])) for c in found))


def _query(calls: list[ast.Call], path: str) -> Iterator[Json]:
    ending = "/" + path.partition("}/")[2]
    for name in _names(calls, "request.set_param"):
        known = ID_RANGE if ending.endswith("idrange") and name in ID_RANGE else QUERY
        needed = name in NEEDED.get(ending, ())
        yield {"name": name, "in": "query", "required": needed} | known.get(name, TEXT)


def _body(calls: list[ast.Call]) -> Iterator[Json]:
    names = _names(calls, "body.set")
    if names:
        fields = {
            name: {"$ref": f"#/definitions/{BODY[name]}"} if name in BODY else TEXT
            for name in names
        }
        schema = {"type": "object", "properties": fields}
        yield {"name": "body", "in": "body", "required": True, "schema": schema}


def _answers(function: ast.FunctionDef) -> Iterator[tuple[str, Json]]:
    for node in ast.walk(function):
        if not isinstance(node, ast.If) or "response.status" not in ast.unparse(node.test):
            continue
        assert isinstance(node.test, ast.Compare)
        status = str(ast.literal_eval(node.test.comparators[0]))
        fields = {}
        for inner in node.body:
            for assigned in (each for each in ast.walk(inner) if isinstance(each, ast.Assign)):
                target = assigned.targets[0]
                if isinstance(target, ast.Subscript):
                    name = str(ast.literal_eval(target.slice))
                    fields[name] = _answer(name, assigned.value)
        yield status, {"schema": {"type": "object", "properties": fields}}


def _answer(name: str, value: ast.expr) -> Json:
    made = [
        each.func.value.attr
        for each in ast.walk(value)
        if isinstance(each, ast.Call)
        and isinstance(each.func, ast.Attribute)
        and each.func.attr == "from_dict"
        and isinstance(each.func.value, ast.Attribute)
    ]
    if not made:
        return ANSWERS.get(name, TEXT)
    one = {"$ref": f"#/definitions/{made[0]}"}
    return {"type": "array", "items": one} if isinstance(value, ast.ListComp) else one
