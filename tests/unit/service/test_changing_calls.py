"""Every door through which something could be changed, counted: none is without its record.

What each of them leaves in the log, and that it leaves nothing where the log is away, is in
tests/integration/service/test_changing_calls.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast, get_args
from unittest.mock import MagicMock

import pytest
from aiohttp import web
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel

import streams
from streams.feeds.oanda_status import make_feed_web as make_feed_web
from streams.pipeline.worker.http import make_worker_web as make_worker_web
from streams.service.app import ROUTERS, make_rest
from streams.service.calls import call_of
from streams.service.messages import ClientMessage, Ping, Subscribe, Token, Unsubscribe
from streams.service.security import SAFE
from streams.service.shapes import Said
from streams.stack.registry_server import make_registry_web
from streams.trading.http import make_executor_web as make_executor_web

OWN_WAY = {"/api/kill-switch"}
"""Engaging works without the log; its record is the word itself."""


def changing() -> list[APIRoute]:
    """Return the routes of the service that answer to more than reading, hidden ones too."""
    routes = [route for router in ROUTERS for route in router.routes]
    assert all(isinstance(route, APIRoute) for route in routes)
    return [cast(APIRoute, r) for r in routes if not cast(APIRoute, r).methods <= SAFE]


def called(dependant: Dependant) -> Iterator[Any]:
    yield dependant.call
    for inner in dependant.dependencies:
        yield from called(inner)


def test_there_are_some() -> None:
    make_rest()
    assert {route.path for route in changing()} > OWN_WAY and len(changing()) >= 5


@pytest.mark.parametrize("route", changing(), ids=lambda route: route.path)
def test_a_call_that_changes_something_has_its_place_in_the_log_and_says_who_and_why(
    route: APIRoute,
) -> None:
    assert (call_of in set(called(route.dependant))) != (route.path in OWN_WAY)
    (body,) = route.dependant.body_params
    annotation = body.field_info.annotation
    # a call without parameters of its own may come without a body
    asked = cast(type[BaseModel], Said if annotation == Said | None else annotation)
    assert issubclass(asked, Said)
    for name in Said.model_fields:  # one rule for all, none of their own
        assert asked.model_fields[name].is_required() == Said.model_fields[name].is_required()
        assert asked.model_fields[name].metadata == Said.model_fields[name].metadata


@pytest.mark.parametrize("make", [make_executor_web, make_feed_web, make_worker_web])
def test_the_ports_of_executor_feed_and_worker_answer_questions_only(make: Any) -> None:
    anything = [MagicMock()] * make.__code__.co_argcount
    application: web.Application = make(*anything)
    methods = {route.method for route in application.router.routes()}
    assert methods == {"GET", "HEAD"}


def test_the_registry_of_the_stack_looks_up_and_refuses() -> None:
    application = make_registry_web(cast(Any, None))
    others = {
        cast(Any, route.handler).__name__
        for route in application.router.routes()
        if route.method not in SAFE
    }
    assert others == {"lookup", "refuse"}


def test_no_message_of_a_websocket_client_changes_anything_but_its_own_subscription() -> None:
    assert set(get_args(get_args(ClientMessage)[0])) == {Subscribe, Unsubscribe, Token, Ping}


def test_there_is_no_door_that_was_forgotten_here() -> None:
    place = Path(streams.__file__).parent
    opening = re.compile(r"FastAPI\(|web\.Application\(|HTTPServer\(|start_http_server\(")
    found = {
        path.relative_to(place).as_posix()
        for path in place.rglob("*.py")
        if opening.search(path.read_text(encoding="utf-8"))
    }
    assert found == {
        "service/app.py",
        "service/status_ports.py",  # tried in the integration test
        "process/status_access.py",  # the metrics of kill keep
        "trading/http.py",
        "feeds/oanda_status.py",
        "pipeline/worker/http.py",
        "stack/host_page.py",  # GET alone
        "stack/registry_server.py",
    }
