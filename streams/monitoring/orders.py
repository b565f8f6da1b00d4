"""Results of the orders, from intents and broker reports. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from streams.monitoring.facts import OrderFacts, WaitingOrder
from streams.records.trading_events import BrokerReport, OrderIntent
from streams.trading.reports import accepted

ANSWER_MS: Final = 60_000
"""Time in ms after which an order without a report counts as unresolved."""


def order_facts(
    intents: Iterable[OrderIntent],
    reports: Mapping[str, BrokerReport],
    now_ms: int,
    window_ms: int,
) -> OrderFacts:
    """Return the results of the orders.

    Parameters
    ----------
    intents
        Candidate intents; those not sent (refused by a guard) are not counted.
    reports
        Order id -> its last report.
    now_ms, window_ms
        Sent, rejected and cancelled orders are counted from ``now_ms - window_ms`` on; unresolved
        and waiting ones at any age.
    """
    sent = [intent for intent in intents if intent.submitted]
    recent = [intent for intent in sent if intent.as_of_ms >= now_ms - window_ms]
    answers = [reports[i.order_id] for i in recent if i.order_id in reports]
    refused = [one for one in answers if one.status in ("rejected", "cancelled")]
    last = max(refused, key=lambda report: report.as_of_ms, default=None)
    unresolved, waiting = [], []
    for intent in sent:
        answer = reports.get(intent.order_id)
        if answer is None:
            if now_ms - intent.as_of_ms > ANSWER_MS:
                unresolved.append(intent.order_id)
        elif accepted(answer):
            waiting.append(WaitingOrder(intent.order_id, intent.instrument, answer.time_ms))
        elif answer.status == "unknown":
            unresolved.append(intent.order_id)
    return OrderFacts(
        window_ms,
        len(recent),
        sum(one.status == "rejected" for one in answers),
        sum(one.status == "cancelled" for one in answers),
        tuple(sorted(unresolved)),
        (last.reason or "") if last is not None else "",
        tuple(sorted(waiting)),
    )
