"""The REST endpoints: which path does what."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.support.v20.account import Account
from tests.support.v20.books import order_book, position_book
from tests.support.v20.call import Call, out_of_range, transaction_id
from tests.support.v20.candles import BadQuery
from tests.support.v20.desk import INVALID_PARAMETER, Answer, PlanningState, failure
from tests.support.v20.instruments import INSTRUMENTS
from tests.support.v20.orders import BadParameter
from tests.support.v20.rest_prices import candles, latest_candles, pricing
from tests.support.v20.rest_transactions import (
    get_transaction,
    list_transactions,
    transactions_between,
    transactions_since,
)
from tests.support.v20.views import (
    account_json,
    position_json,
    state_json,
    summary_json,
    trade_json,
)

if TYPE_CHECKING:
    from tests.support.v20.broker import Broker

Json = dict[str, Any]
Reading = Callable[[Call], Answer]


def accounts(call: Call) -> Answer:
    """GET /accounts."""
    found: list[Json] = []
    for held in call.exchange.accounts.values():
        mt4 = {"mt4AccountID": held.mt4_account_id} if held.mt4_account_id else {}
        found.append({"id": held.id, "tags": []} | mt4)
    return Answer(200, {"accounts": found})


def account(call: Call) -> Answer:
    """GET /accounts/{account}."""
    return call.answer(account=account_json(call.account, call.exchange.quotes))


def summary(call: Call) -> Answer:
    """GET /accounts/{account}/summary."""
    return call.answer(account=summary_json(call.account, call.exchange.quotes))


def instruments(call: Call) -> Answer:
    """GET /accounts/{account}/instruments."""
    delisted = call.exchange.delisted
    names = call.names(required=False) or [n for n in INSTRUMENTS if n not in delisted]
    return call.answer(instruments=[INSTRUMENTS[name].description() for name in names])


def configure(call: Call) -> Answer:
    """PATCH /accounts/{account}/configuration."""
    return call.desk().configure(call.body)


def changes(call: Call) -> Answer:
    """GET /accounts/{account}/changes."""
    since = transaction_id(call, "sinceTransactionID")
    if since is None:
        raise BadParameter("sinceTransactionID")
    held, quotes = call.account, call.exchange.quotes
    if since > len(held.transactions):
        return out_of_range(held)
    new = held.transactions[since:]
    states: dict[str, list[Json]] = {"PENDING": [], "CANCELLED": [], "FILLED": []}
    for order in held.orders.values():
        touched = {
            order["id"],
            order.get("cancellingTransactionID"),
            order.get("fillingTransactionID"),
        }
        if any(int(i) > since for i in touched if i):
            states[order["state"]].append(order)
    created = [o for o in held.orders.values() if int(o["id"]) > since]
    opened: list[Json] = []
    reduced: list[Json] = []
    closed: list[Json] = []
    for trade in held.trades.values():
        shown = trade_json(held, trade, quotes, full=False)
        if int(trade.id) > since:
            opened.append(shown)
        if any(int(i) > since for i in trade.closing_ids):
            (closed if trade.state == "CLOSED" else reduced).append(shown)
    names = {t["instrument"] for t in new if t["type"] == "ORDER_FILL"}
    changed = {
        "ordersCreated": created,
        "ordersCancelled": states["CANCELLED"],
        "ordersFilled": states["FILLED"],
        "ordersTriggered": [],
        "tradesOpened": opened,
        "tradesReduced": reduced,
        "tradesClosed": closed,
        "positions": [position_json(held, name, quotes) for name in sorted(names)],
        "transactions": new,
    }
    return call.answer(changes=changed, state=_changed_state(held, call))


def _changed_state(held: Account, call: Call) -> Json:
    quotes = call.exchange.quotes
    trades, positions = [], []
    for trade in held.open.values():
        shown = trade_json(held, trade, quotes, full=False)
        trades.append({k: shown[k] for k in ("id", "unrealizedPL", "marginUsed")})
    for name in sorted({t.instrument for t in held.open.values()}):
        shown = position_json(held, name, quotes)
        positions.append(
            {
                "instrument": name,
                "netUnrealizedPL": shown["unrealizedPL"],
                "longUnrealizedPL": shown["long"]["unrealizedPL"],
                "shortUnrealizedPL": shown["short"]["unrealizedPL"],
                "marginUsed": shown["marginUsed"],
            }
        )
    return state_json(held, quotes) | {"orders": [], "trades": trades, "positions": positions}


def create_order(call: Call) -> Answer:
    """POST /accounts/{account}/orders."""
    return call.desk().create(call.body)


def list_orders(call: Call) -> Answer:
    """GET /accounts/{account}/orders."""
    state = call.query.get("state", "PENDING")
    if state not in ("PENDING", "FILLED", "TRIGGERED", "CANCELLED", "ALL"):
        raise BadParameter("state")
    held = call.account
    shown = held.orders if call.exchange.show_finished else held.pending
    found = [o for o in shown.values() if state in ("ALL", o["state"])]
    return call.answer(orders=_page(call, found, lambda order: _instrument_of(call, order)))


def _instrument_of(call: Call, order: Json) -> str:
    trade = call.account.trades.get(order.get("tradeID", ""))
    return trade.instrument if trade is not None else str(order.get("instrument"))


def _page(call: Call, found: list[Any], instrument_of: Callable[[Any], str]) -> list[Any]:
    """Return the newest first, filtered as orders and trades both are."""
    text = call.query.get("count", "50")
    if not text.isdigit() or not 1 <= int(text) <= 500:
        raise BadParameter("count")
    ids, before = call.query.get("ids"), transaction_id(call, "beforeID")
    names = [n for n in call.query.get("instrument", "").split(",") if n]
    if any(name not in INSTRUMENTS for name in names):
        raise BadParameter("instrument")

    def wanted(each: Any) -> bool:
        number = each["id"]
        return (
            (ids is None or number in ids.split(","))
            and (before is None or int(number) <= before)
            and (not names or instrument_of(each) in names)
        )

    return [each for each in reversed(found) if wanted(each)][: int(text)]


def pending_orders(call: Call) -> Answer:
    """GET /accounts/{account}/pendingOrders."""
    return call.answer(orders=list(reversed(call.account.pending.values())))


def get_order(call: Call) -> Answer:
    """GET /accounts/{account}/orders/{specifier}."""
    order = PlanningState(call.exchange, call.account, "").find_order(call.match["specifier"])
    if order is None:
        text = "The order ID specified does not exist"
        return failure(call.account, 404, "NO_SUCH_ORDER", text)
    return call.answer(order=order)


def replace_order(call: Call) -> Answer:
    """PUT /accounts/{account}/orders/{specifier}."""
    return call.desk().replace(call.match["specifier"], call.body)


def cancel_order(call: Call) -> Answer:
    """PUT /accounts/{account}/orders/{specifier}/cancel."""
    return call.desk().cancel(call.match["specifier"])


def modify_order(call: Call) -> Answer:
    """PUT /accounts/{account}/orders/{specifier}/clientExtensions."""
    return call.desk().modify_order(call.match["specifier"], call.body)


def list_trades(call: Call) -> Answer:
    """GET /accounts/{account}/trades."""
    state = call.query.get("state", "OPEN")
    if state not in ("OPEN", "CLOSED", "CLOSE_WHEN_TRADEABLE", "ALL"):
        raise BadParameter("state")
    quotes, held = call.exchange.quotes, call.account
    found = [
        trade_json(held, t, quotes, full=True)
        for t in held.trades.values()
        if state in ("ALL", t.state)
    ]
    return call.answer(trades=_page(call, found, lambda trade: str(trade["instrument"])))


def open_trades(call: Call) -> Answer:
    """GET /accounts/{account}/openTrades."""
    held = call.account
    found = [trade_json(held, t, call.exchange.quotes, full=True) for t in held.open.values()]
    return call.answer(trades=found[::-1])


def get_trade(call: Call) -> Answer:
    """GET /accounts/{account}/trades/{specifier}."""
    trade = PlanningState(call.exchange, call.account, "").find_trade(call.match["specifier"])
    if trade is None:
        text = "The trade ID specified does not exist"
        return failure(call.account, 404, "NO_SUCH_TRADE", text)
    return call.answer(trade=trade_json(call.account, trade, call.exchange.quotes, full=True))


def close_trade(call: Call) -> Answer:
    """PUT /accounts/{account}/trades/{specifier}/close."""
    return call.desk().close_trade(call.match["specifier"], call.body)


def modify_trade(call: Call) -> Answer:
    """PUT /accounts/{account}/trades/{specifier}/clientExtensions."""
    return call.desk().modify_trade(call.match["specifier"], call.body)


def set_dependents(call: Call) -> Answer:
    """PUT /accounts/{account}/trades/{specifier}/orders."""
    return call.desk().set_dependents(call.match["specifier"], call.body)


def positions(call: Call) -> Answer:
    """GET /accounts/{account}/positions: every instrument that was ever traded."""
    held, quotes = call.account, call.exchange.quotes
    return call.answer(positions=[position_json(held, name, quotes) for name in held.sides])


def open_positions(call: Call) -> Answer:
    """GET /accounts/{account}/openPositions."""
    held, quotes = call.account, call.exchange.quotes
    names = dict.fromkeys(t.instrument for t in held.open.values())
    return call.answer(positions=[position_json(held, name, quotes) for name in names])


def get_position(call: Call) -> Answer:
    """GET /accounts/{account}/positions/{instrument}."""
    name = _known(call)
    if name not in call.account.sides:
        text = "The position requested does not exist"
        return failure(call.account, 404, "NO_SUCH_POSITION", text)
    return call.answer(position=position_json(call.account, name, call.exchange.quotes))


def close_position(call: Call) -> Answer:
    """PUT /accounts/{account}/positions/{instrument}/close."""
    return call.desk().close_position(_known(call), call.body)


def _known(call: Call) -> str:
    name = call.match["instrument"]
    if name not in INSTRUMENTS:
        raise BadParameter("instrument")
    return name


ACCOUNT = "/v3/accounts/{account}"

ROUTES: tuple[tuple[str, str, Reading], ...] = (
    ("GET", "/v3/accounts", accounts),
    ("GET", ACCOUNT, account),
    ("GET", f"{ACCOUNT}/summary", summary),
    ("GET", f"{ACCOUNT}/instruments", instruments),
    ("PATCH", f"{ACCOUNT}/configuration", configure),
    ("GET", f"{ACCOUNT}/changes", changes),
    ("GET", "/v3/instruments/{instrument}/candles", candles),
    ("GET", f"{ACCOUNT}/instruments/{{instrument}}/candles", candles),
    ("GET", "/v3/instruments/{instrument}/orderBook", order_book),
    ("GET", "/v3/instruments/{instrument}/positionBook", position_book),
    ("GET", f"{ACCOUNT}/candles/latest", latest_candles),
    ("GET", f"{ACCOUNT}/pricing", pricing),
    ("POST", f"{ACCOUNT}/orders", create_order),
    ("GET", f"{ACCOUNT}/orders", list_orders),
    ("GET", f"{ACCOUNT}/pendingOrders", pending_orders),
    ("GET", f"{ACCOUNT}/orders/{{specifier}}", get_order),
    ("PUT", f"{ACCOUNT}/orders/{{specifier}}", replace_order),
    ("PUT", f"{ACCOUNT}/orders/{{specifier}}/cancel", cancel_order),
    ("PUT", f"{ACCOUNT}/orders/{{specifier}}/clientExtensions", modify_order),
    ("GET", f"{ACCOUNT}/trades", list_trades),
    ("GET", f"{ACCOUNT}/openTrades", open_trades),
    ("GET", f"{ACCOUNT}/trades/{{specifier}}", get_trade),
    ("PUT", f"{ACCOUNT}/trades/{{specifier}}/close", close_trade),
    ("PUT", f"{ACCOUNT}/trades/{{specifier}}/clientExtensions", modify_trade),
    ("PUT", f"{ACCOUNT}/trades/{{specifier}}/orders", set_dependents),
    ("GET", f"{ACCOUNT}/positions", positions),
    ("GET", f"{ACCOUNT}/openPositions", open_positions),
    ("GET", f"{ACCOUNT}/positions/{{instrument}}", get_position),
    ("PUT", f"{ACCOUNT}/positions/{{instrument}}/close", close_position),
    ("GET", f"{ACCOUNT}/transactions", list_transactions),
    ("GET", f"{ACCOUNT}/transactions/idrange", transactions_between),
    ("GET", f"{ACCOUNT}/transactions/sinceid", transactions_since),
    ("GET", f"{ACCOUNT}/transactions/{{id}}", get_transaction),
)
"""Method, path, what answers it; the two streams are in ``streams``."""


def handler(
    broker: Broker, reading: Reading
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Return aiohttp's handler of an endpoint."""

    async def handle(request: web.Request) -> web.StreamResponse:
        return await broker.respond(request, lambda call: _guarded(call, reading))

    return handle


def _guarded(call: Call, reading: Reading) -> Answer:
    try:
        return reading(call)
    except (BadParameter, BadQuery) as error:
        return Answer(400, {"errorCode": INVALID_PARAMETER, "errorMessage": str(error)})
    except ValueError as error:
        return Answer(
            400, {"errorCode": INVALID_PARAMETER, "errorMessage": f"Invalid value: {error}"}
        )


def read_body(text: str) -> Json:
    """Return a request's JSON object; nothing sent is an empty one.

    Raises
    ------
    BadParameter
        When it is no JSON object.
    """
    if not text.strip():
        return {}
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        raise BadParameter("body") from None
    if not isinstance(found, dict):
        raise BadParameter("body")
    return found
