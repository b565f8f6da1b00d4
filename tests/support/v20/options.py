"""How a broker is made."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """How a broker is made.

    Parameters
    ----------
    port
        0: any free one.
    token
        The bearer token; empty: a new random one.
    account_id, currency, balance, margin_rate
        The first account.
    more_accounts
        Further ids of the same token, with the same currency and balance.
    seed
        Of the market.
    start
        The broker's time at the start (RFC 3339 or UNIX); empty: now.
    speed
        Broker seconds per second; 0: only by ``POST /control/clock``.
    hours
        ``fx``: weekends and the daily pause are closed; ``always``: never closed.
    nzd_pause
        Pairs with NZD are not traded from 06:59 to 07:05 in Auckland.
    next_tick
        A candle is complete with the first tick after its end, as OANDA does it, not at its end.
    heartbeat_sec
        Between two heartbeats of a stream, in seconds of the machine.
    unique_ids
        Refuse every client order id that was ever used. OANDA refuses only those of pending orders
        (measured: a market order sent twice with one id is filled twice), which is the default.
    show_finished
        Find and list filled and cancelled orders. OANDA does not (measured: 404 by either id, and
        not in the list even with ``state=ALL``), which is the default.
    guaranteed_stops
        The accounts may have guaranteed stops, which are filled at their price (``stopLoss`` with
        ``guaranteed``).
    fifo
        The accounts are under the FIFO rule of the United States (``fifo``).
    mt4_account_id
        Of accounts that are associated with MT4: ``/accounts`` tells it, and orders with client
        extensions are refused; 0: they are not.
    requests_per_sec
        Most requests in any second, beyond that 429; 0: no limit.
    contract
        What everything is validated against: ``at hand``: OANDA's own files, nothing where they
        are not; ``published``: what packages say (``published.py``).
    state
        File in which everything is written down; empty: nowhere.
    """

    port: int = 0
    token: str = ""
    account_id: str = "101-001-1234567-001"
    more_accounts: tuple[str, ...] = ()
    currency: str = "USD"
    balance: str = "100000"
    margin_rate: str = "0.02"
    seed: int = 1
    start: str = ""
    speed: float = 1.0
    hours: str = "fx"
    nzd_pause: bool = False
    next_tick: bool = False
    heartbeat_sec: float = 5.0
    unique_ids: bool = False
    show_finished: bool = False
    guaranteed_stops: bool = False
    fifo: bool = False
    mt4_account_id: int = 0
    requests_per_sec: int = 0
    contract: str = "at hand"
    state: str = ""
