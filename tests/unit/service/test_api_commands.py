"""Calls of the service: commands that change nothing say so, unknown parameters are refused."""

from __future__ import annotations

import pytest
from fastapi import Request

from streams.cli.why import past_ms
from streams.errors import Fatal
from streams.service.errors import ApiError
from streams.service.parameters import refuse_unknown_parameters
from streams.service.routes_commands import changes_nothing
from streams.service.routes_trading import require_past, router
from streams.trading.operator_commands import NO_COMMANDS, Given, InstrumentCommand

PAUSED = NO_COMMANDS._replace(paused={"EUR_USD": Given(1, "ann", "storm", 0)})


@pytest.mark.parametrize(
    ("kind", "instrument", "said"),
    [
        ("pause", "EUR_USD", "EUR_USD is paused already by ann: storm"),
        ("pause", "GBP_USD", ""),
        ("resume", "EUR_USD", ""),
        ("resume", "GBP_USD", "GBP_USD is not paused: nothing to resume"),
        ("close", "EUR_USD", "no position of the executor in EUR_USD to close"),
        ("close", "USD_JPY", ""),
        ("release", "EUR_USD", "no position of the executor in EUR_USD to release"),
        ("release", "USD_JPY", ""),
    ],
)
def test_a_command_that_changes_nothing_says_so(
    kind: InstrumentCommand, instrument: str, said: str
) -> None:
    assert changes_nothing(kind, instrument, PAUSED, {"USD_JPY"}) == said


def why_with(query: str) -> Request:
    route = next(one for one in router.routes if getattr(one, "path", "") == "/api/why")
    return Request({"type": "http", "query_string": query.encode(), "route": route})


def test_a_parameter_that_why_does_not_have_is_refused() -> None:
    refuse_unknown_parameters(why_with("instrument=EUR_USD&at_ms=1000"))
    with pytest.raises(ApiError, match="called at; there are: instrument, at_ms") as refused:
        refuse_unknown_parameters(why_with("instrument=EUR_USD&at=2014-05-02"))
    assert refused.value.status == 400


def test_an_instant_of_the_future_is_refused() -> None:
    require_past(None, 1_000)
    require_past(1_000, 1_000)
    assert past_ms("@1000", 1_000) == 1_000
    with pytest.raises(ApiError, match="1970-01-01 00:00:02 UTC is in the future") as refused:
        require_past(2_000, 1_000)
    assert refused.value.status == 404
    with pytest.raises(Fatal, match="--at @2000 is in the future: it is 1970-01-01 00:00:01"):
        past_ms("@2000", 1_000)
