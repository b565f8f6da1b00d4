"""States of the page's test server that are hard to be in: stopped, empty, closed, all null."""

from __future__ import annotations

from random import Random

from tests.support.page_server import REASONS, Json, PageServer, empty, gate, now_ms, order, state

PAIR = "EUR_USD"
LONG = "unusually_long_word_without_any_space_" * 6


def one_of(server: PageServer, pair: str = PAIR) -> Json:
    found: Json = next(one for one in server.state["instruments"] if one["instrument"] == pair)
    return found


def decision(reasons: list[Json], as_of_ms: int) -> Json:
    """A decision later than what is shown."""
    made = gate(Random(1), as_of_ms, 0)
    return made | {"eligible": not reasons, "reasons": reasons, "direction": -1, "position": 1}


def figures_at(as_of_ms: int, price: float) -> Json:
    """A manifold as the WebSocket tells it."""
    return {
        "instrument": PAIR,
        "ts_ms": as_of_ms,
        "price": price,
        "metrics": {"coherence": 0.4242, "stability": 0.9, "entropy": 0.8, "rupture": 0.1},
        "coeffs": {"sigma_eff": 1e-4, "lambda": 0.02, "lambda_hazard": 0.1},
        "repetition": {"signature": "c0.42", "count_1h": 2, "first_seen_ms": 1},
    }


def stopped() -> Json:
    """Everything at once: stopped, failing, unreconciled, with long words and hostile ones."""
    made, now = state(), now_ms()
    made["kill_switch"] = {
        "engaged": True,
        "why": ["the log says so"],
        "since_ms": now - 420_000,
        "actor": "ops",
        "reason": f"too large orders {LONG}",
    }
    for at, (name, text) in enumerate(
        (("fail", LONG), ("warn", "two rejections"), ("unknown", ""))
    ):
        made["signals"][at] |= {"state": name, "detail": text, "action": f"see `manifold {name}`"}
    made["trading"] |= {"reconciled": False, "differences": [f"EUR_USD: {LONG}"]}
    made["trading"]["blocked"] = {"GBP_USD": [LONG]}
    made["instruments"][1]["gate"] = gate(Random(2), now, len(REASONS))
    made["instruments"][2]["candle"]["as_of_ms"] -= 900_000
    made["orders"].insert(0, order(9, PAIR, now, "rejected") | {"reason": LONG})
    return made


def nulls() -> Json:
    """Null wherever the contract lets it be."""
    made = empty()
    made["instruments"] = [
        {"instrument": PAIR, "candle": None, "manifold": None, "gate": None, "weight": 0.0}
        | {"target_exposure_pct": 0.0, "position": None}
    ]
    made["trading"] = {"executor": "running", "detail": ""} | dict.fromkeys(
        ("ts_ms", "venue", "mode", "account", "positions", "joined", "reconciled", "blocked")
    )
    made["orders"] = [order(1, PAIR, now_ms(), "intended") | {"guards": []}]
    made["signals"] = [
        {"name": "gates", "state": "unknown", "detail": "", "since_ms": None, "action": ""}
    ]
    return made


def closed() -> Json:
    made = state()
    made["market"] |= {
        "open": False,
        "closed_for": "holiday",
        "next_change_ms": now_ms() + 100_000_000,
    }
    for one in made["instruments"]:
        one["candle"]["as_of_ms"] -= 86_400_000
    return made


def synthetic() -> Json:
    made = state()
    made["market"] |= {"calendar": "continuous", "next_change_ms": None}
    return made


STATES = {
    "calm": state,
    "stopped": stopped,
    "empty": empty,
    "nulls": nulls,
    "closed": closed,
    "synthetic": synthetic,
}
