"""Order and position books: how orders and positions lie about the price, every 20 minutes."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

from tests.support.v20.amounts import parse_time, rfc3339
from tests.support.v20.call import Call
from tests.support.v20.desk import Answer
from tests.support.v20.instruments import INSTRUMENTS, Instrument
from tests.support.v20.orders import BadParameter

Json = dict[str, Any]
MS = 1_000_000
SNAPSHOT_MS = 20 * 60_000
BUCKETS_ASIDE = 20
BUCKET_POINTS = 50
SHARE_UNITS = 10_000
"""Shares are hundredths of a percent, so that they add up."""


def order_book(call: Call) -> Answer:
    """GET /instruments/{instrument}/orderBook."""
    return Answer(200, {"orderBook": _book(call, b"orders")})


def position_book(call: Call) -> Answer:
    """GET /instruments/{instrument}/positionBook."""
    return Answer(200, {"positionBook": _book(call, b"positions")})


def _book(call: Call, kind: bytes) -> Json:
    instrument = INSTRUMENTS.get(call.match["instrument"])
    if instrument is None or instrument.name in call.exchange.delisted:
        raise BadParameter("instrument")
    now_ms = call.exchange.now_ns() // MS
    given = call.query.get("time")
    asked_ms = now_ms if given is None else parse_time(given) // MS
    if asked_ms > now_ms:
        raise BadParameter("time")
    at_ms = asked_ms // SNAPSHOT_MS * SNAPSHOT_MS
    tick = call.exchange.market.at(instrument.name, at_ms)
    price = (tick.bid + tick.ask) // 2
    return {
        "instrument": instrument.name,
        "time": rfc3339(at_ms * MS),
        "price": instrument.text_of(price),
        "bucketWidth": instrument.text_of(BUCKET_POINTS),
        "buckets": _buckets(instrument, at_ms, price, kind),
    }


def _buckets(instrument: Instrument, at_ms: int, price: int, kind: bytes) -> list[Json]:
    middle = price // BUCKET_POINTS
    places = range(middle - BUCKETS_ASIDE, middle + BUCKETS_ASIDE + 1)
    seed = f"{instrument.name}/{at_ms}".encode()
    chance = blake2b(seed, digest_size=64, person=kind).digest()
    weights = [1 + chance[n % 64] + chance[(n * 7 + 3) % 64] for n in range(2 * len(places))]
    total = sum(weights)
    shares = [weight * SHARE_UNITS // total for weight in weights]
    shares[0] += SHARE_UNITS - sum(shares)
    return [
        {
            "price": instrument.text_of(place * BUCKET_POINTS),
            "longCountPercent": _percent(shares[2 * n]),
            "shortCountPercent": _percent(shares[2 * n + 1]),
        }
        for n, place in enumerate(places)
    ]


def _percent(share: int) -> str:
    return f"{share // 100}.{share % 100:02d}00"
