"""A broker of our own that speaks OANDA's v20 API, for the tests.

Start it as a process, or inside one::

    python -m tests.support.v20 --port 0 --currency EUR --speed 0 --start 2026-01-05T12:00:00Z
    {"port": 40123, "url": "http://127.0.0.1:40123", "stream_url": ..., "token": ...,
     "account_id": ...}

    with V20Server(speed=0, start="2026-01-05T12:00:00Z") as broker:    # a thread of this process
        broker.url, broker.stream_url, broker.token, broker.account_id
        broker.environment()                          # the product's OANDA_* settings for it
        broker.advance(60)                            # a minute later; what must fire, fires
        broker.price("EUR_USD", "1.10000", "1.10012") # the market stands there from now on
        broker.fault("lost_answer", count=1)          # the next accepted order's answer is lost
        assert broker.violations() == []

    with V20Process(state="/some/file") as broker:    # a process: broker.kill(); broker.start()

The options are those of ``options``, the faults those of ``faults``, the control API that
of ``control``. The URLs carry no ``/v3``. The token is random unless given (``V20_TOKEN`` for the
process, never an argument).

What to know before relying on it:

- A client order id protects from nothing once the order is filled or cancelled: OANDA refuses it
  only while another order with it is pending, and ``/orders`` knows only pending orders, by either
  id. Both were measured on practice accounts, so a market order sent twice is filled twice here as
  well, and what became of a lost answer stands only in the transactions. ``unique_ids`` and
  ``show_finished`` make the broker kinder than OANDA.
- The ``Date`` header is the broker's time; with another ``start`` or ``speed`` it is not yours.
- Candles are what the ticks of the stream make; the volume counts them. ``hours="fx"`` closes the
  market as OANDA does, so a test that may run on any day uses ``hours="always"`` or ``start``.
- With ``speed=0`` nothing happens but by ``advance`` and ``price``; each price moves the clock by a
  millisecond at least.
- Financing and commission are zero; a margin closeout is looked at where the clock stops, not at
  every tick on the way.
- ``fifo`` and ``mt4_account_id`` make accounts of the United States and of MT4, as OANDA's pages
  and its names of reasons describe them; nothing of these two was measured.
- An account is the fold of its transactions (``account``); ``state`` writes them down.
"""

from tests.support.v20.handle import Handle, V20Process
from tests.support.v20.options import Options
from tests.support.v20.server import V20Server

__all__ = ["Handle", "Options", "V20Process", "V20Server"]
