"""The id of an order: the same inputs give the same id, here and at the broker."""

from __future__ import annotations

import hashlib


def order_id(
    application: str, mode: str, account_id: str, instrument: str, entry_bar_ms: int, sequence: int
) -> str:
    """Return the id of the ``sequence``-th intent of the trade joined at ``entry_bar_ms``.

    A restarted executor that makes the same intent gets the same id, and so can find out at the
    broker whether it was sent. It is the client id there and does not reveal the account.
    """
    parts = (application, mode, account_id, instrument, str(entry_bar_ms), str(sequence))
    # length-prefixed, so that different lists of parts give different texts
    named = "".join(f"{len(part)}:{part}" for part in ("manifold/order/v1", *parts))
    return "m" + hashlib.sha256(named.encode()).hexdigest()[:31]
