"""The committed OpenAPI and AsyncAPI documents are those of the code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from streams.service import documents
from streams.service.app import make_rest
from streams.service.channels import CHANNELS, KINDS
from streams.service.messages import Channel, EventType
from streams.trading.operator_commands import INSTRUMENT_COMMANDS

PLACE = Path(documents.__file__).parent


@pytest.mark.parametrize("name", ["openapi", "asyncapi"])
def test_the_committed_document_is_that_of_the_code(name: str) -> None:
    document = documents.asyncapi() if name == "asyncapi" else documents.openapi(make_rest())
    made = documents.as_text(document)
    kept = (PLACE / f"{name}.json").read_text()
    assert kept == made, f"run: manifold serve --{name} streams/service/{name}.json"


def paths() -> dict[str, Any]:
    found: dict[str, Any] = documents.openapi(make_rest())["paths"]
    return found


def test_every_endpoint_of_the_profile_is_there() -> None:
    wanted = [
        "/health",
        "/api/health",
        "/api/status",
        "/api/pairs",
        "/api/trading/mode",
        "/api/coherence/status",
        "/api/trade/readiness",
        "/api/ranking/active",
        "/api/market-data",
        "/api/candles",
        "/api/candles/fetch",
        "/api/manifold/coeffs",
        "/api/manifold/latest",
        "/api/manifold/history",
        "/api/risk/allocation-status",
        "/api/risk/budget",
        "/api/oanda/pricing",
        "/api/oanda/account",
        "/api/oanda/positions",
        "/api/oanda/open-trades",
        "/api/trades/open",
        "/api/oanda/instruments",
        "/api/kill-switch",
        "/api/trade/reconcile",
        "/api/trade/close",
        "/api/order",
        "/api/config/set",
        "/api/config/apply",
        "/api/preflight",
        "/api/authenticity",
        "/api/strategy/status",
        "/api/global-status",
        "/api/studies/default-window",
        "/api/studies/series",
        "/api/studies/enqueue-long-run",
        "/api/backtest/latest-run",
        "/api/backtest/trades",
        "/api/backtest/results",
        "/api/why",
        "/metrics",
    ]
    assert not set(wanted) - paths().keys()


def test_whatever_changes_something_wants_the_token_and_says_what_it_may_refuse() -> None:
    changing = {
        (path, method): operation
        for path, operations in paths().items()
        for method, operation in operations.items()
        if method not in ("get", "head")
    }
    assert {path for path, _ in changing} == {
        "/api/kill-switch",
        "/api/trading/mode",
        "/api/trade/reconcile",
        "/api/trade/limits/reset",
        "/api/order",
        "/api/config/set",
        "/api/config/apply",
        *(f"/api/trade/{kind}" for kind in INSTRUMENT_COMMANDS),
        "/api/candles/fetch",
        "/api/studies/enqueue-long-run",
    }
    for place, operation in changing.items():
        assert operation["security"] == [{"token": []}], place
        assert {"400", "401", "403", "409", "413", "429", "503"} <= operation["responses"].keys()


def test_no_answer_is_left_undescribed() -> None:
    for path, operations in paths().items():
        for method, operation in operations.items():
            assert operation.get("description"), (method, path)
            assert "422" not in operation["responses"], (method, path)


def test_the_asyncapi_document_names_every_channel_and_kind() -> None:
    document = documents.asyncapi()
    told = document["channels"]["ws"]["x-channels"]
    assert tuple(told) == CHANNELS
    kinds = {kind for channel in told.values() for kind in channel}
    assert kinds == {kind.type for kind in KINDS.values()} | {"status"}
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    json.dumps(document, allow_nan=False)


def test_the_message_types_name_the_channels_of_the_table() -> None:
    assert set(Channel.__args__) == set(CHANNELS)  # type: ignore[attr-defined]
    kinds = {kind.type for kind in KINDS.values()} | {"status"}
    assert set(EventType.__args__) == kinds  # type: ignore[attr-defined]
