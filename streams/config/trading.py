"""Settings of the executor; no derived record depends on them."""

from __future__ import annotations

from dataclasses import dataclass

from streams.config.environment import FromEnvironment, setting
from streams.errors import Fatal

_RATIO = (0.0, 1.0)
LEAST_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Trading(FromEnvironment):
    """Venue, switches, sizing and limits of ``manifold trade``."""

    trading_venue: str = setting(
        "paper", "venue of orders: the built-in paper account, or OANDA", choices=("paper", "oanda")
    )
    read_only: bool = setting(False, "send no orders to the broker, not even closing orders")
    dry_run_trades: bool = setting(
        False, "record every order intent but send none, not even closing orders"
    )
    live_trading_enabled: bool = setting(
        False, "second switch required for live trading; the first is OANDA_ENVIRONMENT=live"
    )
    operator_orders: str = setting(
        "reduce",
        "what an operator's order (POST /api/order, manifold order) may do: only reduce positions, "
        "or open and increase too",
        choices=("reduce", "open"),
    )
    paper_account_id: str = setting("paper", "name of the paper account")
    paper_balance: float = setting(
        100_000.0, "initial balance of the paper account", unit="PAPER_CURRENCY", bounds=(1.0, 1e12)
    )
    paper_currency: str = setting("USD", "currency of the paper account")
    paper_margin_rate: float = setting(
        0.02,
        "margin rate of the paper account",
        unit="fraction of the notional",
        bounds=(0.0001, 1.0),
    )
    pm_ramp_step_pct: float = setting(
        0.25,
        "maximum increase per reconciliation",
        unit="fraction of the target",
        bounds=(0.01, 1.0),
    )
    pm_rebalance_min_pct: float = setting(
        0.10,
        "smallest difference from the target that is traded",
        unit="fraction of the target",
        bounds=_RATIO,
    )
    reconcile_interval_sec: float = setting(
        30.0, "interval between reconciliations with the broker", unit="s", bounds=(0.1, 3600.0)
    )
    order_settle_sec: float = setting(
        10.0,
        "how long an order without a response may be missing at the broker",
        unit="s",
        bounds=(0.0, 600.0),
    )
    margin_hyst_low: float = setting(
        0.25, "margin use below which entries resume", unit="fraction of the margin", bounds=_RATIO
    )
    margin_hyst_high: float = setting(
        0.30,
        "margin use from which no position is opened",
        unit="fraction of the margin",
        names=("MARGIN_AWARE_THRESHOLD",),
        bounds=_RATIO,
    )
    margin_overload: float = setting(
        0.80,
        "margin use at which the executor engages the kill switch",
        unit="fraction of the margin",
        bounds=_RATIO,
    )
    fresh_max_ws_age_sec: float = setting(
        30.0, "maximum age of a price", unit="s", bounds=(0.0, 86_400.0)
    )
    max_spread_bps: float = setting(
        2.0,
        "maximum spread at which a position is opened",
        unit="bps of mid",
        bounds=(0.0, 10_000.0),
    )
    max_slippage_bps: float = setting(
        5.0,
        "maximum slippage of an opening or increase from the quote it was checked against; 0 = off",
        unit="bps of the quote",
        bounds=(0.0, 1_000.0),
    )
    auto_tp_on_fill_enabled: bool = setting(
        True, "send the backtest run's stop and target to the broker as bracket orders"
    )
    risk_max_position_size: float = setting(
        100_000.0, "maximum units of one order", unit="units", bounds=(0.0, 1e12)
    )
    risk_max_net_units_per_pair: float = setting(
        100_000.0, "maximum units held in one instrument", unit="units", bounds=(0.0, 1e12)
    )
    risk_max_positions_per_pair: int = setting(
        5, "maximum open trades in one instrument", unit="trades", bounds=(0, 1_000)
    )
    risk_max_total_positions: int = setting(
        7,
        "maximum number of instruments held at the same time",
        unit="instruments",
        bounds=(0, 1_000),
    )
    risk_max_daily_loss: float = setting(
        0.02,
        "loss since the start of the market day (17:00 New York) from which no position is opened",
        unit="fraction of the NAV then",
        bounds=_RATIO,
    )
    risk_max_drawdown: float = setting(
        0.10,
        "drawdown from the highest NAV from which no position is opened",
        unit="fraction of that NAV",
        bounds=_RATIO,
    )
    risk_max_consecutive_losses: int = setting(
        0,
        "consecutive losing trades that engage the kill switch; 0 = off",
        unit="trades",
        bounds=(0, 1_000),
    )
    risk_max_total_exposure_pct: float = setting(
        0.0,
        "total notional of the account above which the kill switch is engaged; 0 = off",
        unit="fraction of the account base",
        bounds=(0.0, 100.0),
    )
    risk_max_currency_exposure_pct: float = setting(
        0.0,
        "maximum net notional of one currency after an opening or increase; 0 = off",
        unit="fraction of the account base",
        bounds=(0.0, 100.0),
    )
    weekend_reduce_minutes: int = setting(
        0,
        "time before the end of the market week from which positions are closed and none opened; "
        "0 = off",
        unit="min",
        bounds=(0, 2_880),
    )
    trade_status_host: str = setting("127.0.0.1", "address of the executor's /status")
    trade_status_port: int = setting(
        8120, "port of the executor's /status, /metrics and /healthz; 0 = off", bounds=(0, 65_535)
    )

    @property
    def cycle_patience_s(self) -> float:
        """Seconds without a cycle after which an executor counts as stalled."""
        return max(LEAST_PATIENCE_S, 3.0 * self.reconcile_interval_sec)

    def check(self) -> None:
        """Raise Fatal for the first value that is out of bounds or inconsistent with another."""
        FromEnvironment.check(self)
        if not self.margin_hyst_low <= self.margin_hyst_high < self.margin_overload:
            raise Fatal(
                f"MARGIN_HYST_LOW={self.margin_hyst_low:g} <= MARGIN_HYST_HIGH="
                f"{self.margin_hyst_high:g} < MARGIN_OVERLOAD={self.margin_overload:g} does not "
                "hold; set them in that order"
            )
        code = self.paper_currency
        if not (len(code) == 3 and code.isascii() and code.isalpha() and code.isupper()):
            raise Fatal(f"PAPER_CURRENCY={code!r} is not a currency code such as USD")
