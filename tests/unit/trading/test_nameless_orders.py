"""Orders that bear no client id: which order of ours a transaction is the end of."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from streams.oanda.parsing import Fields
from streams.oanda.transactions import transaction_of
from streams.records.trading_events import OrderIntent
from streams.trading.brokers.nameless_orders import SETTLE_MS, NamelessOrders, matching_order
from streams.trading.brokers.transaction import Ordered
from tests.support.sample_events import SAMPLES

TAKEN_MS = 1_704_880_860_000


def intent(**changed: Any) -> OrderIntent:
    made = SAMPLES["OrderIntent"]
    assert isinstance(made, OrderIntent)
    plain = made._replace(side="sell", units=1000.0, close_by="", trade_id="", placed_ms=TAKEN_MS)
    return plain._replace(**changed)


@pytest.mark.parametrize(
    ("changed", "ours"),
    [
        ({}, True),
        ({"placed_ms": TAKEN_MS - SETTLE_MS}, True),
        ({"placed_ms": TAKEN_MS - SETTLE_MS - 1}, False),
        ({"placed_ms": TAKEN_MS + 5_000}, True),
        ({"placed_ms": TAKEN_MS + 5_001}, False),
        ({"side": "buy"}, False),
        ({"units": 999.0}, False),
        ({"instrument": "GBP_USD"}, False),
        ({"close_by": "units"}, True),
        ({"close_by": "trade"}, False),
    ],
)
def test_ours_has_the_instrument_the_units_and_the_time(
    changed: dict[str, Any], ours: bool
) -> None:
    found = matching_order(Ordered("EUR_USD", Decimal(-1000), TAKEN_MS), [intent(**changed)])
    assert (found is not None) == ours


def test_of_several_it_is_the_oldest_and_nothing_is_made_of_nothing() -> None:
    old, new = intent(placed_ms=TAKEN_MS - 2), intent(order_id="o-2", placed_ms=TAKEN_MS - 1)
    assert matching_order(Ordered("EUR_USD", Decimal(-1000), TAKEN_MS), [new, old]) == old
    assert matching_order(None, [old]) is None


def booked(kind: str, number: int, **more: Any) -> Any:
    made = {"id": str(number), "type": kind, "time": "2024-01-10T10:01:00.000000000Z"}
    return transaction_of(Fields(made | more, "transactions"))


ASKED = {"instrument": "EUR_USD", "units": "-1000"}
FILL = {"orderID": "7", "price": "1.1", "pl": "0"}


def test_a_fill_and_a_cancellation_name_the_order_that_asked() -> None:
    orders = NamelessOrders()
    orders.note(booked("MARKET_ORDER", 7, **ASKED))
    wanted = Ordered("EUR_USD", Decimal(-1000), TAKEN_MS)
    assert orders.ordered(booked("ORDER_FILL", 8, **ASKED, **FILL)) == wanted
    assert orders.ordered(booked("ORDER_CANCEL", 8, orderID="7", reason="MARKET_HALTED")) == wanted
    assert orders.ordered(booked("MARKET_ORDER_REJECT", 9, **ASKED)) == wanted
    assert orders.ordered(booked("ORDER_FILL", 8, **ASKED, **FILL | {"orderID": "6"})) is None


@pytest.mark.parametrize(
    "more",
    [
        {"clientExtensions": {"id": "m1"}},
        {"tradeClose": {"tradeID": "3", "units": "ALL"}},
        {"longPositionCloseout": {"instrument": "EUR_USD", "units": "ALL"}},
        {"marginCloseout": {"reason": "MARGIN_CHECK_VIOLATION"}},
    ],
)
def test_orders_that_are_known_otherwise_are_not_looked_for(more: dict[str, Any]) -> None:
    orders = NamelessOrders()
    orders.note(booked("MARKET_ORDER", 7, **ASKED, **more))
    assert orders.ordered(booked("ORDER_FILL", 8, **ASKED, **FILL)) is None
