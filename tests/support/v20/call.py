"""One request, taken apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.support.v20.account import Account
from tests.support.v20.desk import Answer, PlanningState, failure
from tests.support.v20.instruments import INSTRUMENTS
from tests.support.v20.orders import BadParameter

if TYPE_CHECKING:
    from tests.support.v20.broker import Broker

Json = dict[str, Any]


class Call:
    """One request, taken apart."""

    def __init__(self, broker: Broker, request: web.Request, body: Json, request_id: str) -> None:
        self.broker = broker
        self.exchange = broker.exchange
        self.request = request
        self.query = request.query
        self.match = request.match_info
        self.body = body
        self.request_id = request_id

    @property
    def account(self) -> Account:
        """The account of the path; the middleware has checked it."""
        return self.exchange.accounts[self.match["account"]]

    def desk(self) -> PlanningState:
        """Return a desk for this request, with the wish of a fault if one strikes it."""
        forced = self.broker.forced_order(self.request)
        return PlanningState(self.exchange, self.account, self.request_id, forced)

    def names(self, required: bool) -> list[str]:
        """Return the instruments of the query.

        Raises
        ------
        BadParameter
            When one is unknown, or none is given where one must be.
        """
        text = self.query.get("instruments", "")
        names = [name for name in text.split(",") if name]
        traded = INSTRUMENTS.keys() - self.exchange.delisted
        if (required and not names) or any(name not in traded for name in names):
            raise BadParameter("instruments")
        return names

    def answer(self, status: int = 200, **body: Any) -> Answer:
        """Return an answer with the account's newest transaction id."""
        return Answer(status, body | {"lastTransactionID": self.account.last_id})


def transaction_id(call: Call, name: str) -> int | None:
    """Return a transaction id of the query; None when it is not there.

    Raises
    ------
    BadParameter
        When it is no number.
    """
    text = call.query.get(name)
    if text is None:
        return None
    if not text.isdigit():
        raise BadParameter(name)
    return int(text)


def out_of_range(held: Account) -> Answer:
    """Return the answer to ids that are not there."""
    return failure(held, 416, "INVALID_RANGE", "The transaction ID range specified is invalid")
