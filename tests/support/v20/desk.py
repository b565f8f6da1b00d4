"""What a client may do to an account: each call is one batch of transactions and one answer."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

from tests.support.v20.account import Account, Trade
from tests.support.v20.amounts import ZERO, decimals, number, units_text
from tests.support.v20.exchange import Exchange
from tests.support.v20.fifo import has_twin
from tests.support.v20.instruments import INSTRUMENTS
from tests.support.v20.matching import Batch, Matcher, dependent_fields
from tests.support.v20.orders import (
    BadParameter,
    Reject,
    check_details,
    check_extensions,
    check_mt4,
    check_order,
    check_unused,
    closing_units,
    echo,
    message,
)
from tests.support.v20.triggers import triggered

Json = dict[str, Any]


def client_id_of(order: Json) -> str | None:
    """Return the name that the client gave an order."""
    found: str | None = order.get("clientExtensions", {}).get("id")
    return found


INVALID_PARAMETER = "oanda::rest::core::InvalidParameterException"


class Answer(NamedTuple):
    """Status and body of a response."""

    status: int
    body: Json


class Forced(NamedTuple):
    """What a fault makes of the next order: refused, or accepted and then cancelled."""

    reject: str | None = None
    cancel: str | None = None


def failure(account: Account, status: int, code: str, text: str) -> Answer:
    """Return an error that made no transaction."""
    body = {"errorCode": code, "errorMessage": text, "lastTransactionID": account.last_id}
    return Answer(status, body)


class PlanningState:
    """One request's dealings with one account.

    Parameters
    ----------
    exchange
        The broker.
    account
        Whose.
    request_id
        Written into the transactions.
    forced
        A fault's wish.
    """

    def __init__(
        self, exchange: Exchange, account: Account, request_id: str, forced: Forced | None = None
    ) -> None:
        self.exchange = exchange
        self.account = account
        self.forced = forced or Forced()
        self.batch: Batch = exchange.batch(account, request_id)
        self.matcher = Matcher(exchange.market, self.batch)

    def _answer(self, status: int, **parts: Json | None) -> Answer:
        self.batch.close()
        body: Json = {name: part for name, part in parts.items() if part is not None}
        body["relatedTransactionIDs"] = self.batch.ids
        body["lastTransactionID"] = self.account.last_id
        return Answer(status, body)

    def _refused(self, name: str, kind: str, why: str, status: int, /, **fields: Any) -> Answer:
        rejected = self.batch.add(kind, **fields, rejectReason=why)
        answer = self._answer(status, **{name: rejected})
        answer.body["errorCode"] = why
        answer.body["errorMessage"] = message(why)
        return answer

    def create(self, body: Json) -> Answer:
        """Create an order, and fill or cancel it when it is of that kind."""
        order = body.get("order")
        if not isinstance(order, dict):
            raise BadParameter("order")
        try:
            if self.forced.reject:
                raise Reject(self.forced.reject)
            if order.get("instrument") in self.exchange.delisted:
                raise Reject("INSTRUMENT_NOT_TRADEABLE")
            fields = check_order(self.account, order, self.batch.time_ns, self.exchange.unique_ids)
        except Reject as reject:
            kind = f"{order['type']}_ORDER_REJECT"
            sent = echo(order) | {"reason": "CLIENT_ORDER"}
            return self._refused("orderRejectTransaction", kind, reject.reason, 400, **sent)
        created = self.batch.add(f"{order['type']}_ORDER", **fields, reason="CLIENT_ORDER")
        return self._answer(201, orderCreateTransaction=created, **self._outcome(created))

    def _outcome(self, created: Json, prefix: str = "order") -> dict[str, Json | None]:
        order = self.account.orders[created["id"]]
        outcome = self._executed(order)
        if outcome is None:
            return {}
        name = "Fill" if outcome["type"] == "ORDER_FILL" else "Cancel"
        return {f"{prefix}{name}Transaction": outcome}

    def _executed(self, order: Json) -> Json | None:
        if self.forced.cancel:
            return self.matcher.cancel(order, self.forced.cancel)
        if order["type"] == "MARKET":
            return self.matcher.execute(order)
        name = order.get("instrument") or self.account.trades[order["tradeID"]].instrument
        tick = self.exchange.market.at(name, self.matcher.time_ms)
        open_now = self.exchange.market.trading(name, self.matcher.time_ms)
        if open_now and triggered(self.account, order, tick, self.exchange.market):
            return self.matcher.execute(order, tick)
        if order["timeInForce"] in ("FOK", "IOC"):
            return self.matcher.cancel(order, "TIME_IN_FORCE_EXPIRED")
        return None

    def find_order(self, specifier: str) -> Json | None:
        """Return an order by its id, or by ``@`` and the client's; the newest of that name.

        Measured: an order that is filled or cancelled is not found any more, by either id.
        """
        shown = self.account.orders if self.exchange.show_finished else self.account.pending
        if not specifier.startswith("@"):
            return shown.get(specifier)
        named = (o for o in reversed(shown.values()) if client_id_of(o) == specifier[1:])
        return next(named, None)

    def find_trade(self, specifier: str) -> Trade | None:
        """Return a trade by its id, or an open one by ``@`` and the client's."""
        if specifier.startswith("@"):
            return self.account.open_by_client_id(specifier[1:])
        return self.account.trades.get(specifier)

    def _pending(self, specifier: str) -> Json | None:
        order = self.find_order(specifier)
        return order if order is not None and order["state"] == "PENDING" else None

    def cancel(self, specifier: str) -> Answer:
        """Cancel a pending order."""
        order = self._pending(specifier)
        if order is None:
            return self._no_order("orderCancelRejectTransaction", "ORDER_CANCEL_REJECT", specifier)
        cancelled = self.matcher.cancel(order, "CLIENT_REQUEST")
        return self._answer(200, orderCancelTransaction=cancelled)

    def _no_order(self, name: str, kind: str, specifier: str, **more: Any) -> Answer:
        named = "clientOrderID" if specifier.startswith("@") else "orderID"
        fields = {named: specifier.removeprefix("@"), **more}
        return self._refused(name, kind, "ORDER_DOESNT_EXIST", 404, **fields)

    def replace(self, specifier: str, body: Json) -> Answer:
        """Cancel a pending order and create another in its place."""
        order = self._pending(specifier)
        if order is None:
            return self._no_order("orderCancelRejectTransaction", "ORDER_CANCEL_REJECT", specifier)
        sent = body.get("order")
        if not isinstance(sent, dict):
            raise BadParameter("order")
        try:
            fields = self._replacement(order, sent)
        except Reject as reject:
            kind = f"{sent['type']}_ORDER_REJECT"
            more = {"reason": "REPLACEMENT", "intendedReplacesOrderID": order["id"]}
            return self._refused(
                "orderRejectTransaction", kind, reject.reason, 400, **(echo(sent) | more)
            )
        following = str(int(self.batch.next_id) + 1)
        cancelled = self.matcher.cancel(
            order, "CLIENT_REQUEST_REPLACED", replacedByOrderID=following
        )
        created = self.batch.add(
            f"{sent['type']}_ORDER",
            **fields,
            reason="REPLACEMENT",
            replacesOrderID=order["id"],
        )
        return self._answer(
            201,
            orderCancelTransaction=cancelled,
            orderCreateTransaction=created,
            **self._outcome(created),
        )

    def _replacement(self, order: Json, sent: Json) -> Json:
        if sent.get("type") != order["type"]:
            raise BadParameter("order.type")
        trade = self.account.trades.get(order.get("tradeID", ""))
        held = self.account.pending.pop(order["id"])
        dependent = trade.orders.pop(order["type"], None) if trade is not None else None
        try:
            fields = check_order(self.account, sent, self.batch.time_ns, self.exchange.unique_ids)
        finally:
            self.account.pending[held["id"]] = held
            if trade is not None and dependent is not None:
                trade.orders[order["type"]] = dependent
        if "clientExtensions" in order and "clientExtensions" not in fields:
            fields["clientExtensions"] = order["clientExtensions"]
        return fields

    def modify_order(self, specifier: str, body: Json) -> Answer:
        """Change a pending order's client extensions."""
        kind = "ORDER_CLIENT_EXTENSIONS_MODIFY"
        name = "orderClientExtensionsModify"
        order = self._pending(specifier)
        if order is None:
            return self._no_order(f"{name}RejectTransaction", f"{kind}_REJECT", specifier)
        fields: Json = {"orderID": order["id"]}
        try:
            for given, changed, prefix in (
                ("clientExtensions", "clientExtensionsModify", "CLIENT_ORDER"),
                ("tradeClientExtensions", "tradeClientExtensionsModify", "CLIENT_TRADE"),
            ):
                if body.get(given) is not None:
                    fields[changed] = check_extensions(body[given], prefix)
            if len(fields) == 1:
                raise Reject("CLIENT_EXTENSIONS_DATA_MISSING")
            wanted = fields.get("clientExtensionsModify", {}).get("id")
            if wanted and self.account.pending_by_client_id(wanted) not in (None, order):
                raise Reject("CLIENT_ORDER_ID_ALREADY_EXISTS")
        except Reject as reject:
            return self._refused(
                f"{name}RejectTransaction", f"{kind}_REJECT", reject.reason, 400, **fields
            )
        return self._answer(200, **{f"{name}Transaction": self.batch.add(kind, **fields)})

    def modify_trade(self, specifier: str, body: Json) -> Answer:
        """Change an open trade's client extensions."""
        kind, name = "TRADE_CLIENT_EXTENSIONS_MODIFY", "tradeClientExtensionsModify"
        trade = self.find_trade(specifier)
        if trade is None or trade.state != "OPEN":
            return self._no_trade(f"{name}RejectTransaction", f"{kind}_REJECT", specifier)
        try:
            changed = check_extensions(body.get("clientExtensions"), "CLIENT_TRADE")
            if "id" in changed and self.account.open_by_client_id(changed["id"]) not in (
                None,
                trade,
            ):
                raise Reject("CLIENT_TRADE_ID_ALREADY_EXISTS")
        except Reject as reject:
            return self._refused(
                f"{name}RejectTransaction", f"{kind}_REJECT", reject.reason, 400, tradeID=trade.id
            )
        fields = {"tradeID": trade.id, "tradeClientExtensionsModify": changed}
        return self._answer(200, **{f"{name}Transaction": self.batch.add(kind, **fields)})

    def _no_trade(self, name: str, kind: str, specifier: str, **more: Any) -> Answer:
        named = "clientTradeID" if specifier.startswith("@") else "tradeID"
        fields = {named: specifier.removeprefix("@"), **more}
        return self._refused(name, kind, "TRADE_DOESNT_EXIST", 404, **fields)

    def close_trade(self, specifier: str, body: Json) -> Answer:
        """Close a trade, wholly or in part."""
        name, kind = "orderRejectTransaction", "MARKET_ORDER_REJECT"
        trade, sent = self.find_trade(specifier), body.get("units", "ALL")
        if trade is None or trade.state != "OPEN":
            named = "clientTradeID" if specifier.startswith("@") else "tradeID"
            wanted = {named: specifier.removeprefix("@"), "units": str(sent)}
            fields = self._closing("TRADE_CLOSE", tradeClose=wanted)
            return self._refused(name, kind, "TRADE_DOESNT_EXIST", 404, **fields)
        units = closing_units(sent, abs(trade.units))
        text = "ALL" if sent == "ALL" else units_text(units or Decimal(0))
        wanted = {"tradeID": trade.id, "units": text}
        fields = self._closing("TRADE_CLOSE", tradeClose=wanted) | {"instrument": trade.instrument}
        reason = self.forced.reject
        if units is None or units > abs(trade.units):
            reason = "CLOSE_TRADE_UNITS_EXCEED_TRADE_SIZE"
        elif decimals(units) > INSTRUMENTS[trade.instrument].units_digits:
            reason = "UNITS_PRECISION_EXCEEDED"
        if reason or units is None:
            reason = reason or "UNITS_INVALID"
            answer = self._refused(name, kind, reason, 400, **fields)
            del answer.body["relatedTransactionIDs"]
            return answer
        created = self.batch.add(
            "MARKET_ORDER", **fields, units=units_text(-units.copy_sign(trade.units))
        )
        return self._answer(200, orderCreateTransaction=created, **self._outcome(created))

    @staticmethod
    def _closing(reason: str, **more: Any) -> Json:
        return {"timeInForce": "FOK", "positionFill": "REDUCE_ONLY", "reason": reason, **more}

    def close_position(self, name: str, body: Json) -> Answer:
        """Close one or both sides of an instrument's position.

        Measured: a side without units is refused with 400, an instrument with none at all with 404;
        nothing is closed then, not even the other side.
        """
        held = self.account.units(name)
        have = {"long": max(held, ZERO), "short": max(-held, ZERO)}
        wanted = {side: closing_units(body.get(f"{side}Units"), have[side]) for side in have}
        asked = {side: units for side, units in wanted.items() if units is not None}
        if not asked:
            raise BadParameter("longUnits")
        for side, units in asked.items():
            reason = self._closing_refusal(
                name, units, have[side], body.get(f"{side}ClientExtensions")
            )
            if reason:
                fields = self._closeout(side, name, units, body, checked=False)
                status = 400 if held or reason != "CLOSEOUT_POSITION_DOESNT_EXIST" else 404
                return self._refused(
                    f"{side}OrderRejectTransaction", "MARKET_ORDER_REJECT", reason, status, **fields
                )
        parts: dict[str, Json | None] = {}
        for side, units in asked.items():
            signed = units_text(-units if side == "long" else units)
            fields = self._closeout(side, name, units, body, checked=True)
            created = self.batch.add("MARKET_ORDER", **fields, units=signed)
            parts[f"{side}OrderCreateTransaction"] = created
            parts |= self._outcome(created, f"{side}Order")
        return self._answer(200, **parts)

    def _closing_refusal(
        self, name: str, units: Decimal, have: Decimal, extensions: Any
    ) -> str | None:
        if self.forced.reject:
            return self.forced.reject
        if not have:
            return "CLOSEOUT_POSITION_DOESNT_EXIST"
        if decimals(units) > INSTRUMENTS[name].units_digits:
            return "UNITS_PRECISION_EXCEEDED"
        if units > have:
            return "CLOSEOUT_POSITION_UNITS_EXCEED_POSITION_SIZE"
        try:
            check_mt4(self.account, {"clientExtensions": extensions}, "clientExtensions")
            found = check_extensions(extensions, "CLIENT_ORDER") if extensions else {}
            check_unused(self.account, found.get("id"), self.exchange.unique_ids)
        except Reject as reject:
            return reject.reason
        return None

    def _closeout(self, side: str, name: str, units: Decimal, body: Json, checked: bool) -> Json:
        sent, extensions = body[f"{side}Units"], body.get(f"{side}ClientExtensions")
        text = "ALL" if sent == "ALL" else units_text(units)
        fields = self._closing("POSITION_CLOSEOUT", instrument=name)
        fields[f"{side}PositionCloseout"] = {"instrument": name, "units": text}
        if extensions and checked:
            fields["clientExtensions"] = check_extensions(extensions, "CLIENT_ORDER")
        elif isinstance(extensions, dict):
            fields |= echo({"clientExtensions": extensions})
        return fields

    def set_dependents(self, specifier: str, body: Json) -> Answer:
        """Create, replace or cancel a trade's take profit, stop loss and trailing stop."""
        trade = self.find_trade(specifier)
        if trade is None or trade.state != "OPEN":
            return failure(
                self.account, 404, "NO_SUCH_TRADE", "The trade ID specified does not exist"
            )
        instrument = INSTRUMENTS[trade.instrument]
        parts: dict[str, Json | None] = {}
        ready: list[tuple[str, str, Json | None]] = []
        unknown = body.keys() - {"takeProfit", "stopLoss", "trailingStopLoss"}
        if unknown:
            raise BadParameter(min(unknown))
        for field, kind, name in (
            ("takeProfit", "TAKE_PROFIT", "takeProfitOrder"),
            ("stopLoss", "STOP_LOSS", "stopLossOrder"),
            ("trailingStopLoss", "TRAILING_STOP_LOSS", "trailingStopLossOrder"),
        ):
            if field not in body:
                continue
            details = None
            if body[field] is not None:
                try:
                    details = check_details(
                        *(instrument, body[field], f"{field}OnFill"),
                        *(self.batch.time_ns, self.account.guaranteed_stops),
                    )
                    if has_twin(self.account, trade):
                        raise Reject(f"{kind}_ORDER_WOULD_VIOLATE_FIFO_VIOLATION_SAFEGUARD")
                except Reject as reject:
                    reason = reject.reason.removeprefix(f"{kind}_ON_FILL_")
                    if reason.startswith("GUARANTEED"):
                        reason = f"{kind}_ORDER_{reason}"
                    rejected = {"tradeID": trade.id, "reason": "CLIENT_ORDER"}
                    return self._refused(
                        f"{name}RejectTransaction", f"{kind}_ORDER_REJECT", reason, 400, **rejected
                    )
            ready.append((kind, name, details))
        for kind, name, details in ready:
            parts |= self._dependent(trade, kind, name, details)
        return self._answer(200, **parts)

    def _dependent(
        self, trade: Trade, kind: str, name: str, details: Json | None
    ) -> dict[str, Json | None]:
        made: dict[str, Json | None] = {}
        old = trade.orders.get(kind)
        if old is not None and details is None:
            made[f"{name}CancelTransaction"] = self.matcher.cancel(
                self.account.orders[old], "CLIENT_REQUEST"
            )
        if details is None:
            return made
        more: Json = {"reason": "CLIENT_ORDER"}
        if old is not None:
            following = str(int(self.batch.next_id) + 1)
            made[f"{name}CancelTransaction"] = self.matcher.cancel(
                self.account.orders[old], "CLIENT_REQUEST_REPLACED", replacedByOrderID=following
            )
            more = {
                "reason": "REPLACEMENT",
                "replacesOrderID": old,
                "cancellingTransactionID": made[f"{name}CancelTransaction"]["id"],  # type: ignore[index]
            }
        fields = dependent_fields(trade, details, kind == "TRAILING_STOP_LOSS")
        created = self.batch.add(f"{kind}_ORDER", **fields, **more)
        made[f"{name}Transaction"] = created
        made |= self._outcome(created, name)
        return made

    def _not_configured(self, why: str, **sent: str) -> Answer:
        name, kind = "clientConfigureRejectTransaction", "CLIENT_CONFIGURE_REJECT"
        answer = self._refused(name, kind, why, 400, **sent)
        del answer.body["relatedTransactionIDs"]
        return answer

    def configure(self, body: Json) -> Answer:
        """Change the account's name or margin rate."""
        fields: Json = {}
        if isinstance(body.get("alias"), str):
            fields["alias"] = body["alias"]
        if body.get("marginRate") is not None:
            rate = number(body["marginRate"])
            if rate is None or not 0 < rate <= 1:
                sent = {"marginRate": str(body["marginRate"])}
                return self._not_configured("MARGIN_RATE_INVALID", **sent)
            fields["marginRate"] = str(rate)
        if not fields:
            return self._not_configured("CLIENT_CONFIGURE_DATA_MISSING")
        configured = self.batch.add("CLIENT_CONFIGURE", **fields)
        answer = self._answer(200, clientConfigureTransaction=configured)
        del answer.body["relatedTransactionIDs"]
        return answer


Action = Callable[[PlanningState], Answer]
