"""Transactions by page, by id, by range."""

from __future__ import annotations

from typing import Any

from tests.support.v20.amounts import parse_time, rfc3339
from tests.support.v20.call import Call, out_of_range, transaction_id
from tests.support.v20.desk import Answer, failure
from tests.support.v20.orders import BadParameter

Json = dict[str, Any]
PAGE_LIMIT = 1000
ORDER_KINDS = ("MARKET", "LIMIT", "STOP", "TAKE_PROFIT", "STOP_LOSS", "ORDER", "FIXED_PRICE")
FUNDING_KINDS = ("TRANSFER_FUNDS",)
ADMIN_KINDS = ("CREATE", "CLOSE", "REOPEN", "CLIENT_CONFIGURE")


def _of_types(call: Call, found: list[Json]) -> list[Json]:
    wanted = [t for t in call.query.get("type", "").split(",") if t]
    if not wanted:
        return found
    groups = {"ORDER": ORDER_KINDS, "FUNDING": FUNDING_KINDS, "ADMIN": ADMIN_KINDS}

    def kept(kind: str) -> bool:
        for each in wanted:
            if each == kind or (each in groups and kind.startswith(groups[each])):
                return True
        return False

    return [t for t in found if kept(t["type"])]


def list_transactions(call: Call) -> Answer:
    """GET /accounts/{account}/transactions: the pages, not the transactions."""
    held = call.account
    size = call.query.get("pageSize", "100")
    if not size.isdigit() or not 1 <= int(size) <= PAGE_LIMIT:
        return failure(held, 400, "INVALID_PAGESIZE", "Invalid value specified for 'pageSize'")
    start = call.query.get("from", held.created)
    end = call.query.get("to", rfc3339(call.exchange.now_ns()))
    low, high = parse_time(start), parse_time(end)
    inside = [t for t in held.transactions if low <= parse_time(t["time"]) <= high]
    found = _of_types(call, inside)
    url = call.request.url.with_path(f"/v3/accounts/{held.id}/transactions/idrange")
    pages = []
    for i in range(0, len(found), int(size)):
        page = found[i : i + int(size)]
        query = {"from": page[0]["id"], "to": page[-1]["id"]}
        if "type" in call.query:
            query["type"] = call.query["type"]
        pages.append(str(url.with_query(query)))
    listing: Json = {
        "from": rfc3339(low),
        "to": rfc3339(high),
        "pageSize": int(size),
        "count": len(found),
        "pages": pages,
    }
    return call.answer(**listing)


def get_transaction(call: Call) -> Answer:
    """GET /accounts/{account}/transactions/{id}."""
    held, text = call.account, call.match["id"]
    if not text.isdigit() or not 1 <= int(text) <= len(held.transactions):
        return failure(
            held, 404, "NO_SUCH_TRANSACTION", "The transaction ID specified does not exist"
        )
    return call.answer(transaction=held.transactions[int(text) - 1])


def transactions_between(call: Call) -> Answer:
    """GET /accounts/{account}/transactions/idrange."""
    first, last = transaction_id(call, "from"), transaction_id(call, "to")
    if first is None or last is None:
        raise BadParameter("from" if first is None else "to")
    held = call.account
    if first < 1 or first > last or last > len(held.transactions):
        return out_of_range(held)
    return call.answer(transactions=_of_types(call, held.transactions[first - 1 : last]))


def transactions_since(call: Call) -> Answer:
    """GET /accounts/{account}/transactions/sinceid; at most a thousand."""
    since = transaction_id(call, "id")
    if since is None:
        raise BadParameter("id")
    held = call.account
    if since > len(held.transactions):
        return out_of_range(held)
    new = held.transactions[since : since + PAGE_LIMIT]
    return call.answer(transactions=_of_types(call, new))
