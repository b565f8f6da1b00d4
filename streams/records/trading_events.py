"""Typed immutable events of orders and accounts, as those of ``streams.records.events``."""

from __future__ import annotations

from typing import Literal, NamedTuple


class GuardVerdict(NamedTuple):
    """One execution guard and what it said."""

    guard: str
    passed: bool
    detail: str


class OrderIntent(NamedTuple):
    """An order as it was meant, written before the broker is called (``exec.orders``).

    Of kind ``brackets`` it is no order: it tells the stop and target of a trade, as the executor
    sets them or as it found them set by somebody else. Such a record is never ``submitted``.
    """

    instrument: str
    granularity: str
    bar_ms: int
    as_of_ms: int
    config_id: str
    control_offset: int
    order_id: str
    side: Literal["buy", "sell"]
    units: float
    kind: Literal["open", "increase", "reduce", "close", "brackets"]
    weight: float
    target_units: float
    stop_loss: float | None
    take_profit: float | None
    guards: tuple[GuardVerdict, ...]
    submitted: bool
    account_id: str = ""
    mode: str = ""
    entry_bar_ms: int | None = None
    sequence: int = 0
    placed_ms: int = 0
    reason: str = ""
    level_kind: str = ""
    level_stop: float | None = None
    level_target: float | None = None
    nav: float | None = None
    transaction_id: str = ""
    close_by: str = ""
    trade_id: str = ""
    price_bound: float | None = None
    trailing_stop: float | None = None
    stop_by: str = ""
    target_by: str = ""
    request_id: str = ""


class BrokerReport(NamedTuple):
    """What the broker said of an order (``exec.fills``)."""

    instrument: str
    granularity: str
    bar_ms: int
    as_of_ms: int
    config_id: str
    control_offset: int
    order_id: str
    broker_ids: tuple[str, ...]
    status: Literal["filled", "rejected", "cancelled", "unknown"]
    units: float
    price: float | None
    reason: str | None
    raw: str
    account_id: str = ""
    side: str = ""
    cause: str = "order"
    trade_ids: tuple[str, ...] = ()
    transaction_id: str = ""
    time_ms: int = 0
    realized_pl: float | None = None
    nav: float | None = None


StateCause = Literal["start", "day", "peak", "transfer", "losses", "reset"]


class AccountState(NamedTuple):
    """What the limits of an account compare with (``exec.fills``); each record says all of it."""

    account_id: str
    mode: str
    as_of_ms: int
    config_id: str
    cause: StateCause
    nav: float
    peak_nav: float
    day_ms: int
    day_start_nav: float
    transaction_id: str = ""
    amount: float | None = None
    losses_judged_to: str = ""
    control_offset: int = 0
