"""The rule in NautilusTrader. Runs in a virtual environment of its own (tests/perf/peers.py)."""

from __future__ import annotations

import json
import sys
import time
from collections import deque

import numpy as np
import pandas as pd
from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
from nautilus_trader.config import LoggingConfig, RiskEngineConfig
from nautilus_trader.model.currencies import USD
from nautilus_trader.model.data import Bar, BarType
from nautilus_trader.model.enums import AccountType, OmsType, OrderSide
from nautilus_trader.model.events import PositionClosed, PositionOpened
from nautilus_trader.model.identifiers import Venue
from nautilus_trader.model.instruments import Instrument
from nautilus_trader.model.objects import Money
from nautilus_trader.persistence.wranglers import BarDataWrangler
from nautilus_trader.test_kit.providers import TestInstrumentProvider
from nautilus_trader.trading.strategy import Strategy

LOOKBACK, THRESHOLD_BPS, STOP, TARGET, MAX_HOLD_BARS = 12, 2.0, 0.0125, 0.005, 30
BAR_NS = 60_000_000_000


class SlopeRule(Strategy):
    """In by the slope of the last closes; out by the opposite one, stop, target or time."""

    def __init__(self, instrument: Instrument, bid: BarType, ask: BarType) -> None:
        super().__init__()
        self.traded, self.bid, self.ask = instrument, bid, ask
        self.closes: deque[float] = deque(maxlen=LOOKBACK + 1)
        self.bid_close = 0.0
        self.side, self.opened_ns, self.filled_ns, self.closed = 0, 0, 0, 0

    def on_start(self) -> None:
        self.subscribe_bars(self.bid)
        self.subscribe_bars(self.ask)

    def on_bar(self, bar: Bar) -> None:
        close = bar.close.as_double()
        if bar.bar_type == self.bid:
            self.bid_close = close
            return  # the bar's ask comes next, at the same time
        closes, mid = self.closes, (self.bid_close + close) / 2
        closes.append(mid)
        if len(closes) <= LOOKBACK:
            return
        slope_bps = 1e4 * (mid / closes[0] - 1)
        direction = int(slope_bps >= THRESHOLD_BPS) - int(slope_bps <= -THRESHOLD_BPS)
        if self.side:
            expired = bar.ts_event - self.opened_ns >= MAX_HOLD_BARS * BAR_NS
            if direction == -self.side or expired:
                self.cancel_all_orders(self.traded.id)
                self.close_all_positions(self.traded.id)
        elif direction and self.filled_ns < bar.ts_event:
            self._enter(direction, mid)

    def _enter(self, direction: int, mid: float) -> None:
        price = self.traded.make_price
        orders = self.order_factory.bracket(
            instrument_id=self.traded.id,
            order_side=OrderSide.BUY if direction > 0 else OrderSide.SELL,
            quantity=self.traded.make_qty(10_000),
            sl_trigger_price=price(mid * (1 - direction * STOP)),
            tp_price=price(mid * (1 + direction * TARGET)),
        )
        self.submit_order_list(orders)

    def on_position_opened(self, event: PositionOpened) -> None:
        self.side = 1 if event.signed_qty > 0 else -1
        self.opened_ns = self.filled_ns = event.ts_event

    def on_position_closed(self, event: PositionClosed) -> None:
        self.side, self.filled_ns = 0, event.ts_event
        self.closed += 1


def bars_of(data: np.lib.npyio.NpzFile, side: str, kind: BarType, of: Instrument) -> list[Bar]:
    """Return one side's bars, stamped with their ends."""
    words = {"open": "o", "high": "h", "low": "l", "close": "c"}
    frame = pd.DataFrame({word: data[f"{side}_{letter}"] for word, letter in words.items()})
    frame.index = pd.to_datetime(data["bar_ms"] + 60_000, unit="ms", utc=True)
    return BarDataWrangler(kind, of).process(frame)


def main() -> None:
    """Run over the candles of a file and print what it took."""
    data = np.load(sys.argv[1])
    engine = BacktestEngine(
        BacktestEngineConfig(
            logging=LoggingConfig(bypass_logging=True),
            risk_engine=RiskEngineConfig(bypass=True),
            run_analysis=False,
        )
    )
    engine.add_venue(
        Venue("SIM"), OmsType.NETTING, AccountType.MARGIN, [Money(1_000_000, USD)], USD
    )
    instrument = TestInstrumentProvider.default_fx_ccy("EUR/USD", Venue("SIM"))
    engine.add_instrument(instrument)
    kinds = {
        side: BarType.from_str(f"{instrument.id}-1-MINUTE-{side.upper()}-EXTERNAL")
        for side in ("bid", "ask")
    }
    for side, kind in kinds.items():
        engine.add_data(bars_of(data, side, kind, instrument))
    rule = SlopeRule(instrument, kinds["bid"], kinds["ask"])
    engine.add_strategy(rule)
    begun = time.perf_counter()
    engine.run()
    seconds = time.perf_counter() - begun
    print(json.dumps({"bars": len(data["bar_ms"]), "seconds": seconds, "trades": rule.closed}))


if __name__ == "__main__":
    main()
