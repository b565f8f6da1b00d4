"""Validation of requests and responses against OANDA's own description and recorded answers.

The description (Swagger 2.0) is turned into JSON schemas that are stricter than it is: an unknown
field is a violation, numbers in strings must be numbers, times times, ids digits, and where it
says only "a transaction" or "an order" the ``type`` decides which. ``EXCEPTIONS`` is the one list
of what is known to be otherwise in the real API.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from jsonschema import Draft7Validator

from tests.support.v20 import published
from tests.support.v20.recorded import DECIMAL, LINES, NAMES, TIME, form_faults, form_of

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data" / "oanda"
LONGEST_LIST = 40

Json = dict[str, Any]

FORMATS = (
    ("A decimal number", DECIMAL),
    ("The RFC 3339", TIME),
    ("The string representation of the OANDA-assigned", r"^[0-9]+$"),
    ("String representation of the numerical OANDA-assigned", r"^[0-9]+$"),
    ("A string containing the base currency", r"^[A-Z0-9]+_[A-Z0-9]+$"),
)
"""How a description's format begins -> what its value must look like."""

_DECIMAL: Json = {"type": "string", "pattern": DECIMAL}
_TIME: Json = {"type": "string", "pattern": TIME}
_DIGITS: Json = {"type": "string", "pattern": "^[0-9]+$"}
_NULLABLE: Json = {"type": ["object", "null"]}

ANY, ERROR = "any definition", "an error's body"


class Known(NamedTuple):
    """One field in which the real API is known to differ from the description."""

    where: str
    field: str
    schema: Json
    reason: str


UNDESCRIBED_PATHS = {
    "/accounts/{accountID}/candles/latest": "in OANDA's own documentation, later than 3.0.25",
}
"""Path that the real API has and the description has not -> how it is known."""

EXCEPTIONS = (
    Known("OrderFillTransaction", "requestedUnits", _DECIMAL, "in fills recorded since 2018"),
    Known("ClientPrice", "timestamp", _TIME, "the time in a fill's fullPrice, since 2018"),
    Known(ANY, "clientOrderID", {"type": "string"}, "described as OANDA's id; it is the client's"),
    Known(ERROR, "lastTransactionID", _DIGITS, "in OANDA's page on errors, for NO_SUCH_ORDER"),
    Known(ANY, "takeProfit", _NULLABLE, "its own words: null cancels the order"),
    Known(ANY, "stopLoss", _NULLABLE, "its own words: null cancels the order"),
)
"""What is not as described, and how that is known."""

LATER_REASONS = {
    "OrderCancelTransaction": (
        "reason",
        "FIFO_VIOLATION_SAFEGUARD_VIOLATION",
        "FIFO_VIOLATION_SAFEGUARD_PARTIAL_CLOSE_VIOLATION",
    ),
    "StopLossOrderRejectTransaction": (
        "rejectReason",
        "STOP_LOSS_ORDER_WOULD_VIOLATE_FIFO_VIOLATION_SAFEGUARD",
    ),
    "TakeProfitOrderRejectTransaction": (
        "rejectReason",
        "TAKE_PROFIT_ORDER_WOULD_VIOLATE_FIFO_VIOLATION_SAFEGUARD",
    ),
}
"""Definition -> a field and values of it that OANDA has added since 3.0.25 (2019, FIFO rules)."""

REQUIRED = {
    "MarketOrderRequest": ("type", "instrument", "units"),
    "LimitOrderRequest": ("type", "instrument", "units", "price"),
    "StopOrderRequest": ("type", "instrument", "units", "price"),
    "MarketIfTouchedOrderRequest": ("type", "instrument", "units", "price"),
    "TakeProfitOrderRequest": ("type", "price"),
    "StopLossOrderRequest": ("type",),
}
"""What OANDA's documentation marks required; the description marks nothing in a body so."""

VARIANTS = {"Transaction": "Transaction", "Order": "Order", "OrderRequest": "OrderRequest"}
"""Base definition -> the ending of the definitions that its ``type`` chooses from."""

UNDESCRIBED_STATUSES = frozenset((429, 500, 502, 503, 504))
"""On OANDA's page on rate limits, or of the proxies before the API: without a described body."""


class Contract:
    """Checks against the description and the recordings.

    Parameters
    ----------
    description
        The Swagger 2.0 document.
    recorded
        Name -> recorded answer.
    """

    def __init__(self, description: Json, recorded: Json) -> None:
        self._definitions = _definitions(description["definitions"])
        self._paths: Json = description["paths"]
        self._parameters: Json = description["parameters"]
        self._shared_responses: Json = description["responses"]
        self._forms = {n: form_of(entry["response"]) for n, entry in recorded.items()}
        # literal segments before parameters: /transactions/stream is no transaction's id
        paths: list[str] = sorted(self._paths, key=lambda path: path.count("{"))
        self._templates = [(path, _template(path)) for path in paths]
        self._validators: dict[str, Draft7Validator] = {}

    @classmethod
    def available(cls, folder: Path = SHARED) -> Contract | None:
        """Return the contract; None where OANDA's files are not at hand."""
        description, recorded = folder / "v20-openapi.json", folder / "recorded-responses.json"
        if not description.is_file() or not recorded.is_file():
            return None
        return _loaded(description, recorded)

    @staticmethod
    @cache
    def published() -> Contract:
        """Return the contract as published packages have it."""
        return Contract(published.description(), published.recordings())

    def endpoint(self, path: str) -> str | None:
        """Return the described path of a request's path (with or without ``/v3``)."""
        bare = path.removeprefix("/v3")
        found = (described for described, pattern in self._templates if pattern.match(bare))
        return next(found, None)

    @staticmethod
    def _undescribed(path: str) -> bool:
        bare = path.removeprefix("/v3")
        return any(_template(known).match(bare) for known in UNDESCRIBED_PATHS)

    def request(self, method: str, path: str, query: dict[str, str], body: Any) -> list[str]:
        """Return what is wrong with a request; empty when nothing is.

        Parameters
        ----------
        method, path
            As sent; the path with or without ``/v3``.
        query
            Parameters as text.
        body
            The JSON value; None when nothing was sent.
        """
        if self._undescribed(path):
            return []
        described = self.endpoint(path)
        operation = self._paths.get(described or "", {}).get(method.lower())
        if operation is None:
            return [f"{method} {path}: no such endpoint"]
        parameters = [self._resolved(each) for each in operation.get("parameters", ())]
        known = {each["name"]: each for each in parameters if each["in"] == "query"}
        found = [f"unknown query parameter {name!r}" for name in query if name not in known]
        for name, each in known.items():
            if name in query:
                found += _parameter_faults(each, query[name])
            elif each.get("required"):
                found.append(f"query parameter {name!r} is missing")
        bodies = [each for each in parameters if each["in"] == "body"]
        if bodies and body is not None:
            key = f"{method} {described}"
            found += self._faults(key, bodies[0]["schema"], body)
        elif bodies and bodies[0].get("required"):
            found.append("the body is missing")
        elif body is not None and not bodies:
            found.append("a body where none is described")
        return [f"{method} {described}: {text}" for text in found]

    def response(self, method: str, path: str, status: int, body: Any) -> list[str]:
        """Return what is wrong with a response; empty when nothing is."""
        described = self.endpoint(path)
        operation = self._paths.get(described or "", {}).get(method.lower())
        if status in UNDESCRIBED_STATUSES or self._undescribed(path):
            return []
        if operation is None:
            # a path that does not exist is answered as one
            return [] if status in (401, 404, 405) else [f"{method} {path}: no such endpoint"]
        answer = operation["responses"].get(str(status))
        if answer is None:
            if str(status) in self._shared_responses:
                answer = self._shared_responses[str(status)]
            else:
                return [f"{method} {described}: status {status} is not described"]
        if "$ref" in answer:
            answer = self._shared_responses[answer["$ref"].rsplit("/", 1)[-1]]
        short = shortened(body)
        key = f"{method} {described} {status}"
        found = self._faults(key, answer.get("schema", {}), short, error=status >= 400)
        name = NAMES.get(str(described).removeprefix("/"), {}).get(method)
        if name is not None and status < 300:
            found += list(form_faults(self._forms[name], form_of(short)))
        return [f"{method} {described} {status}: {text}" for text in found]

    def line(self, path: str, line: Any) -> list[str]:
        """Return what is wrong with one line of a stream."""
        stream = "/".join(path.rsplit("/", 2)[-2:])
        if not isinstance(line, dict):
            return [f"{stream}: the line is no object"]
        heartbeat = line.get("type") == "HEARTBEAT"
        names = ("PricingHeartbeat", "ClientPrice")
        if stream.startswith("transactions"):
            names = ("TransactionHeartbeat", "Transaction")
        name = names[0] if heartbeat else names[1]
        found = self._faults(f"line {name}", {"$ref": f"#/definitions/{name}"}, line)
        found += list(form_faults(self._forms[LINES[stream]], form_of([line])))
        return [f"{stream}: {text}" for text in found]

    def _resolved(self, parameter: Json) -> Json:
        if "$ref" in parameter:
            found: Json = self._parameters[parameter["$ref"].rsplit("/", 1)[-1]]
            return found
        return parameter

    def _faults(self, key: str, schema: Json, value: Any, error: bool = False) -> list[str]:
        if key not in self._validators:
            made = converted(schema)
            for known in EXCEPTIONS:
                if error and known.where == ERROR:
                    made["properties"].setdefault(known.field, known.schema)
            made["definitions"] = self._definitions
            self._validators[key] = Draft7Validator(made)
        errors = self._validators[key].iter_errors(value)
        return [
            f"{'.'.join(map(str, e.absolute_path)) or 'body'}: {e.message[:300]}" for e in errors
        ]


@lru_cache(maxsize=4)
def _loaded(description: Path, recorded: Path) -> Contract:
    return Contract(
        json.loads(description.read_text(encoding="utf-8")),
        json.loads(recorded.read_text(encoding="utf-8")),
    )


def _template(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{[^}]*\\\}", "[^/]+", re.escape(path)) + r"\Z")


def _parameter_faults(parameter: Json, text: str) -> Iterator[str]:
    name, kind = parameter["name"], parameter.get("type")
    if kind == "integer" and not re.fullmatch(r"-?\d+", text):
        yield f"query parameter {name!r} is no integer: {text!r}"
    if kind == "boolean" and text.lower() not in ("true", "false"):
        yield f"query parameter {name!r} is neither true nor false: {text!r}"
    if "RFC 3339" in parameter.get("format", "") and not re.match(TIME, text):
        yield f"query parameter {name!r} is no time: {text!r}"
    if kind == "array" and not all(text.split(",")):
        yield f"query parameter {name!r} has an empty item: {text!r}"


def _definitions(given: Json) -> Json:
    made = {name: converted(schema) for name, schema in given.items()}
    for known in EXCEPTIONS:
        if known.where in made:
            made[known.where]["properties"].setdefault(known.field, known.schema)
    for name, (field, *reasons) in LATER_REASONS.items():
        described = made[name]["properties"][field]
        if "enum" in described:
            made[name]["properties"][field] = described | {"enum": [*described["enum"], *reasons]}
    for name, fields in REQUIRED.items():
        made[name]["required"] = list(fields)
    for base, ending in VARIANTS.items():
        made[base] = _variants(made, base, ending)
    return made


def _variants(made: Json, base: str, ending: str) -> Json:
    """Return a schema in which ``type`` chooses the definition."""
    choices = {}
    for name in made:
        kind = name.removesuffix(ending)
        if name != base and name.endswith(ending) and "properties" in made[name]:
            choices[re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", kind).upper()] = name
    if ending == "Transaction":
        choices["RESET_RESETTABLE_PL"] = choices.pop("RESET_RESETTABLE_PL", "Transaction")
    rules = [
        {
            "if": {"properties": {"type": {"const": kind}}, "required": ["type"]},
            "then": {"$ref": f"#/definitions/{name}"},
        }
        for kind, name in sorted(choices.items())
    ]
    kinds = {"type": {"enum": sorted(choices)}}
    return {"type": "object", "required": ["type"], "properties": kinds, "allOf": rules}


def converted(schema: Any) -> Any:
    """Return a schema of the description as a strict JSON schema."""
    if isinstance(schema, list):
        return [converted(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return {"$ref": schema["$ref"]}
    made: Json = {k: v for k, v in schema.items() if k in ("type", "enum")}
    if "properties" in schema:
        made["properties"] = {k: _field(k, v) for k, v in schema["properties"].items()}
        made["additionalProperties"] = False
    if "items" in schema:
        made["items"] = converted(schema["items"])
    if isinstance(schema.get("required"), list):
        made["required"] = schema["required"]
    for begins, pattern in FORMATS:
        if str(schema.get("format", "")).startswith(begins) and schema.get("type") == "string":
            made["pattern"] = pattern
    return made


def _field(name: str, schema: Any) -> Any:
    made = converted(schema)
    for known in EXCEPTIONS:
        if known.where == ANY and known.field == name:
            nullable = known.schema is _NULLABLE
            return {"anyOf": [{"type": "null"}, made]} if nullable else known.schema
    return made


def shortened(value: Any) -> Any:
    """Return a value whose long lists have only their first and last items."""
    if isinstance(value, dict):
        return {name: shortened(inner) for name, inner in value.items()}
    if isinstance(value, list):
        kept = value
        if len(value) > LONGEST_LIST:
            kept = value[: LONGEST_LIST // 2] + value[-LONGEST_LIST // 2 :]
        return [shortened(inner) for inner in kept]
    return value
