"""Records in display form: decisions with texts, orders with their result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from streams.config.settings import Config
from streams.instants import clock
from streams.pipeline.limits import GUARD_LIMITS
from streams.records.events import Candle, Control, GateDecision, Manifold, ReasonDetail, Weights
from streams.records.plain import plain
from streams.records.reasons import Reason
from streams.records.trading_events import BrokerReport, OrderIntent
from streams.trading.holdings import Holding
from streams.trading.operator_commands import commands_of
from streams.trading.reports import status_word

BPS = 1e4
REASON_WORDS: dict[str, str] = {reason.value: reason.doc for reason in Reason}


def spread_bps(bid: float, ask: float) -> float:
    """Return the spread in bps of the mid price."""
    return BPS * (ask - bid) / ((ask + bid) / 2)


def candle_view(candle: Candle, now_ms: int) -> dict[str, Any]:
    """Return the closing prices of a candle, and their age."""
    quoted = candle.bid is not None and candle.ask is not None
    bid = candle.bid.close if candle.bid is not None else None
    ask = candle.ask.close if candle.ask is not None else None
    return {
        "as_of_ms": candle.as_of_ms,
        "age_ms": max(0, now_ms - candle.as_of_ms),
        "mid": candle.mid.close,
        "bid": bid,
        "ask": ask,
        "spread_bps": spread_bps(bid, ask) if quoted and bid is not None and ask else None,
    }


def manifold_view(event: Manifold) -> dict[str, Any]:
    """Return the figures of a manifold."""
    return {
        "as_of_ms": event.as_of_ms,
        "coherence": event.coherence,
        "stability": event.stability,
        "entropy": event.entropy,
        "rupture": event.rupture,
        "lambda_hazard": event.lambda_hazard,
        "sigma_eff": event.sigma_eff,
        "lambda": event.lambda_,
        "count_1h": event.count_1h,
        "signature": event.signature,
    }


def reason_text(detail: ReasonDetail, decision: GateDecision, config: Config | None) -> str:
    """Return one sentence: the reason, its value, and what would change it."""
    words = REASON_WORDS.get(detail.reason, detail.reason)
    guard = GUARD_LIMITS[decision.mode].get(detail.reason)
    if guard is not None and detail.value is not None and detail.limit is not None:
        way = "rise to" if guard.relation == ">=" else "fall to"
        text = (
            f"{guard.metric} is {detail.value:.4g} and must {way} {detail.limit:.4g} "
            f"({guard.setting.upper()})"
        )
    elif detail.value is not None and detail.limit is not None:
        text = f"{words}: {detail.value:.4g}, required {detail.limit:.4g}"
    else:
        text = words
    if detail.next_change_ms is not None:
        text += f"; can change at {clock(detail.next_change_ms)} UTC by the passage of time"
    return text


def gate_view(decision: GateDecision, config: Config | None) -> dict[str, Any]:
    """Return a gate decision with its reasons as text."""
    details = {detail.reason: detail for detail in decision.details}
    reasons = [details.get(name, ReasonDetail(name, None, None, None)) for name in decision.reasons]
    return {
        "as_of_ms": decision.as_of_ms,
        "eligible": decision.eligible,
        "reasons": [
            {**plain(detail), "text": reason_text(detail, decision, config)} for detail in reasons
        ],
        "direction": decision.direction,
        "position": decision.position,
        "cooldown_until_ms": decision.cooldown_until_ms,
        "next_change_ms": decision.next_change_ms,
        "score": decision.score,
        "session_open": decision.session_open,
        "near_close": decision.near_close,
    }


def weights_view(weights: Weights) -> dict[str, Any]:
    """Return the allocation of an epoch."""
    return {
        "epoch_ms": weights.epoch_ms,
        "action": weights.action,
        "reason": weights.reason,
        "held_since_ms": weights.held_since_ms,
        "top_k": weights.top_k,
        "entries": [plain(entry) for entry in weights.entries],
    }


def order_view(order: OrderIntent, report: BrokerReport | None) -> dict[str, Any]:
    """Return an order and its last broker report; status ``intended`` before the first.

    An order that the venue has accepted but not filled is ``accepted``; a record of brackets is not
    an order and is ``recorded``.
    """
    brackets = order.kind == "brackets"
    return {
        "order_id": order.order_id,
        "instrument": order.instrument,
        "side": order.side,
        "units": order.units,
        "kind": order.kind,
        "as_of_ms": order.as_of_ms,
        "submitted": order.submitted,
        "status": _status(order, report),
        "price": report.price if report else None,
        "reason": report.reason if report else order.reason if brackets else None,
        "guards": [plain(guard) for guard in order.guards],
    }


def _status(order: OrderIntent, report: BrokerReport | None) -> str:
    if order.kind == "brackets":
        return "recorded"
    return status_word(report) if report else "intended" if order.submitted else "not_sent"


def commands_waiting(
    name: str, records: Sequence[tuple[int, Control]], held: Mapping[str, Holding] | None
) -> list[str]:
    """Return an instrument's pending commands from the log; for when no executor reports them.

    Parameters
    ----------
    records
        The records of ``ops.control`` with their offsets.
    held
        Account -> the executor's position in the instrument; None if not read.
    """
    found = (
        commands_of(records, account_id).not_carried_out(name, one.control_offset)
        for account_id, one in sorted((held or {}).items())
    )
    return [words for words in found if words]
