"""The rules of the records in ``streams.records.trading_events``; importing sets them."""

from __future__ import annotations

from streams.records.trading_events import AccountState, BrokerReport, GuardVerdict, OrderIntent
from streams.records.value_rules import (
    BAR_NOT_AFTER,
    BOOL,
    CODE,
    COUNT,
    ID,
    LEVEL,
    LONGEST,
    OFFSET,
    QUANTITY,
    REAL,
    STAMP,
    TIME_OR_0,
    TIME_OR_NONE,
    UNITS,
    WORDS,
    choice,
    many,
    record_of,
    set_rules,
    some,
    text,
)

set_rules(GuardVerdict, {"guard": CODE, "passed": BOOL, "detail": WORDS})
set_rules(
    OrderIntent,
    STAMP
    | {
        "order_id": ID,
        "side": choice("buy", "sell"),
        "units": QUANTITY,
        "kind": choice("open", "increase", "reduce", "close", "brackets"),
        "weight": REAL,
        "target_units": UNITS,
        "stop_loss": some(LEVEL),
        "take_profit": some(LEVEL),
        "guards": many(record_of(GuardVerdict), 256),
        "submitted": BOOL,
        "account_id": ID,
        "mode": CODE,
        "entry_bar_ms": some(TIME_OR_NONE),
        "sequence": COUNT,
        "placed_ms": TIME_OR_0,
        "reason": WORDS,
        "level_kind": CODE,
        "level_stop": some(LEVEL),
        "level_target": some(LEVEL),
        "nav": some(UNITS),
        "transaction_id": ID,
        "close_by": CODE,
        "trade_id": ID,
        "price_bound": some(LEVEL),
        "trailing_stop": some(LEVEL),
        "stop_by": CODE,
        "target_by": CODE,
        "request_id": CODE,
    },
    BAR_NOT_AFTER,
)
set_rules(
    BrokerReport,
    STAMP
    | {
        "order_id": ID,
        "broker_ids": many(ID),
        "status": choice("filled", "rejected", "cancelled", "unknown"),
        "units": QUANTITY,
        "price": some(LEVEL),
        "reason": some(WORDS),
        "raw": text(LONGEST),
        "account_id": ID,
        "side": choice("buy", "sell", ""),
        "cause": CODE,
        "trade_ids": many(ID),
        "transaction_id": ID,
        "time_ms": TIME_OR_0,
        "realized_pl": some(UNITS),
        "nav": some(UNITS),
    },
    BAR_NOT_AFTER,
)
set_rules(
    AccountState,
    {
        "account_id": ID,
        "mode": CODE,
        # a paper account recorded its state before its first candle, when its clock began at 0
        "as_of_ms": TIME_OR_NONE,
        "config_id": CODE,
        "cause": choice("start", "day", "peak", "transfer", "losses", "reset"),
        "nav": UNITS,
        "peak_nav": UNITS,
        "day_ms": TIME_OR_NONE,
        "day_start_nav": UNITS,
        "transaction_id": ID,
        "amount": some(UNITS),
        "losses_judged_to": ID,
        "control_offset": OFFSET,
    },
)
