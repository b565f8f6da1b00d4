"""What must hold of an executor, whatever happens to it: by its log and the broker's own book."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any, NamedTuple

from streams.oanda.transport import LEAVE_WITHIN_S
from streams.records.trading_events import OrderIntent
from streams.trading.dispatch import STALE_S
from streams.trading.ledger import Ledger

Json = dict[str, Any]

LEAVES_WITHIN_S = STALE_S + LEAVE_WITHIN_S + 0.1
"""How long after the switch was engaged an order may still arrive that had read "off" before."""


@dataclass(frozen=True)
class Seen:
    """What there is to see of one account.

    Attributes
    ----------
    ledger
        The fold of the order log.
    account
        The broker's state of the account.
    requests
        Every request that the broker has had.
    switch
        When the kill switch was engaged and cleared: (seconds, engaged), in order.
    slack_s
        How exactly the times of requests and of the switch can be compared.
    """

    ledger: Ledger
    account: Json
    requests: Sequence[Json]
    switch: Sequence[tuple[float, bool]]
    slack_s: float = 0.0

    @cached_property
    def ours(self) -> list[Json]:
        """The requests of the executor."""
        return [r for r in self.requests if _agent(r).startswith("manifold-streams/")]

    @cached_property
    def sent(self) -> dict[str, OrderIntent]:
        """The intents that were to be sent."""
        return {i: one for i, one in self.ledger.intents.items() if one.submitted}


class Told(NamedTuple):
    """What the log has told the executor to be in.

    Attributes
    ----------
    runs
        Instrument -> position of its run, and start of the bar with which that began.
    flatten
        Where in ``ops.control`` the last flatten lies; -1 without any.
    """

    runs: Mapping[str, tuple[int, int]]
    flatten: int

    def after(self, bar_ms: int, positions: Mapping[str, int]) -> Told:
        """Return what is told when a bar has these positions; the others are as before."""
        moved = {n: (p, bar_ms) for n, p in positions.items() if self.runs.get(n, (0, 0))[0] != p}
        return self._replace(runs={**self.runs, **moved})


def due_to_close(ledger: Ledger, told: Told) -> dict[str, str]:
    """Return the orders whose trades are to be closed: order id -> why."""
    due = {}
    for order_id, intent in ledger.intents.items():
        direction = 1 if intent.side == "buy" else -1
        position, since_ms = told.runs.get(intent.instrument, (0, 0))
        if intent.control_offset <= told.flatten:
            due[order_id] = "flatten"
        elif (direction, intent.entry_bar_ms) != (position, since_ms):
            due[order_id] = f"the run has position {position} since {since_ms}"
    return due


def _agent(request: Json) -> str:
    return str(request["headers"].get("User-Agent", ""))


def require_sound(seen: Seen) -> None:
    """Assert what must hold at every instant."""
    _require_sent_once(seen)
    _require_closed_once(seen)
    _require_nothing_opened_while_engaged(seen)
    _require_one_chance(seen)
    _require_others_untouched(seen)


def _require_sent_once(seen: Seen) -> None:
    orders = [r for r in seen.ours if r["method"] == "POST" and r["path"].endswith("/orders")]
    ids = Counter(json.loads(r["body"])["order"]["clientExtensions"]["id"] for r in orders)
    for client_id, times in ids.items():
        assert client_id in seen.sent, f"{client_id} was sent without an intent in the log"
        assert times == 1, f"{client_id} was sent {times} times"
    for client_id, order in seen.account["clientOrders"].items():
        assert order["submitted"] == 1, (client_id, order)
        assert order["filled"] <= 1, (client_id, order)
    for order_id, reports in seen.ledger.reports.items():
        filled = [r for r in reports if r.status == "filled" and r.cause == "order"]
        assert len(filled) <= 1, f"{order_id} is filled twice in the log"


def _require_closed_once(seen: Seen) -> None:
    """A closing names a trade, or an instrument, and bears no id: no more of them than intents."""
    asked = Counter(
        tuple(r["path"].split("/")[-3:-1])
        for r in seen.ours
        if r["method"] == "PUT" and r["path"].endswith("/close")
    )
    meant = Counter(
        ("trades", one.trade_id) if one.close_by == "trade" else ("positions", one.instrument)
        for one in seen.sent.values()
        if one.close_by
    )
    for what, times in asked.items():
        assert times <= meant[what], f"{what}: {times} closings and {meant[what]} intents"


def _require_nothing_opened_while_engaged(seen: Seen) -> None:
    for request in seen.ours:
        if request["method"] != "POST" or not request["path"].endswith("/orders"):
            continue
        order, at = json.loads(request["body"])["order"], float(request["time"])
        if order["positionFill"] == "REDUCE_ONLY":
            continue
        since = at - LEAVES_WITHIN_S - seen.slack_s
        assert was_off(seen.switch, since, at + seen.slack_s), (
            f"{order['clientExtensions']['id']} came at {at} under an engaged switch: {seen.switch}"
        )


def was_off(switch: Sequence[tuple[float, bool]], since: float, until: float) -> bool:
    """Return whether the switch was off at any instant between the two."""
    ends = [at for at, _ in switch[1:]] + [float("inf")]
    spans = zip(switch, ends, strict=True)
    return any(not engaged and at <= until and end >= since for (at, engaged), end in spans)


def _require_one_chance(seen: Seen) -> None:
    opened = Counter((i.instrument, i.entry_bar_ms) for i in seen.sent.values() if i.kind == "open")
    for entry, times in opened.items():
        assert times == 1, f"the entry {entry} was ordered {times} times"


def _fills(seen: Seen) -> Iterator[Json]:
    return (t for t in seen.account["transactions"] if t["type"] == "ORDER_FILL")


def _our_trades(seen: Seen) -> dict[str, str]:
    """Return the trades that orders of ours have opened: id -> client id."""
    opened = [t for t in _fills(seen) if t.get("tradeOpened")]
    return {
        t["tradeOpened"]["tradeID"]: t["clientOrderID"]
        for t in opened
        if t.get("clientOrderID") in seen.ledger.intents
    }


def _require_others_untouched(seen: Seen) -> None:
    ours, mine = _our_trades(seen), {r["requestID"] for r in seen.ours}
    for fill in _fills(seen):
        changed = [*(fill.get("tradesClosed") or ()), fill.get("tradeReduced")]
        touched = {t["tradeID"] for t in changed if t} - ours.keys()
        if touched and fill.get("requestID") in mine:
            raise AssertionError(f"trade of others {touched} was touched by ours: {fill}")


def require_settled(seen: Seen, due: Mapping[str, str]) -> None:
    """Assert what must hold when everything works again and was left alone.

    Parameters
    ----------
    due
        Opening order -> why what it opened is to be closed by now.
    """
    ledger = seen.ledger
    assert not ledger.unresolved, f"without an outcome: {list(ledger.unresolved)}"
    assert not ledger.closed_ahead, ledger.closed_ahead
    for order_id in seen.sent:
        said = [r.status for r in ledger.reports.get(order_id, ()) if r.status != "unknown"]
        assert said, f"{order_id} has no outcome"
    units = {i: Decimal(u) for i, u in open_units(seen).items()}
    held = {
        trade: held.direction * there
        for held in ledger.holdings.values()
        for trade, there in held.trades.items()
    }
    assert held == units, f"the books have {held}, the broker {units}"
    trades = _our_trades(seen)
    left = {trade: due[trades[trade]] for trade in units if trades[trade] in due}
    assert not left, f"open although it was to be closed: {left}"


def open_units(seen: Seen) -> dict[str, str]:
    """Return what is open of ours at the broker: trade -> signed units."""
    units: dict[str, Decimal] = {}
    for fill in _fills(seen):
        opened = fill.get("tradeOpened")
        if opened:
            units[opened["tradeID"]] = Decimal(opened["units"])
        for change in (*(fill.get("tradesClosed") or ()), fill.get("tradeReduced")):
            if change:
                units[change["tradeID"]] += Decimal(change["units"])
    ours = _our_trades(seen)
    return {trade: str(left) for trade, left in units.items() if left and trade in ours}
