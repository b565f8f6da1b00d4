"""kill -9 of feed, executor and service at random instants of an order's life.

On a broker that loses answers, with the kill switch engaged now and then. What is proven comes from
the broker's own book and from readers of the kill switch that look all the time: no order id filled
twice, no fill that the log does not have, no intent without an end, positions that are those of the
log and of the target, no candle lost or there twice, and no "off" that nobody said.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from streams.config.trading import Trading
from streams.oanda.transport import LEAVE_WITHIN_S
from streams.records.topics import ORDERS
from streams.records.trading_events import OrderIntent
from streams.stack.kafka import KafkaBroker
from streams.trading.dispatch import STALE_S
from tests.support.live_loop import EXECUTOR, FEED, MAX_AGE_S, PROCESSES, SERVICE, LiveLoop
from tests.support.oanda_venue import venue
from tests.support.trading import PAIRS, require_intents_first
from tests.support.v20 import V20Process

pytestmark = pytest.mark.kafka

KILLS = 2 * int(os.environ.get("MANIFOLD_FAULT_KILLS", "10"))
IN_FLIGHT_S = STALE_S + LEAVE_WITHIN_S
"""How long after an acknowledged word an order that had read "off" before may still come."""
LEFT_ALONE = Trading().pm_rebalance_min_pct


class Instant(NamedTuple):
    """An instant of an order's life at which something is killed.

    Attributes
    ----------
    faults
        What the broker does to make it last.
    after
        What is waited for: a new ``intent``, a new ``doubt``, or nothing.
    least_s, most_s
        The kill comes so long after that.
    """

    name: str
    faults: tuple[dict[str, Any], ...]
    after: str
    least_s: float
    most_s: float


INSTANTS = (
    Instant("an order is wanted", (), "", 0.0, 0.3),
    Instant("the intent is written", (), "intent", 0.0, 0.03),
    Instant("the request is under way", ({"kind": "slow", "delay_sec": 0.4},), "intent", 0.0, 0.4),
    Instant(
        "it is filled and not answered",
        ({"kind": "slow", "delay_sec": 0.4, "after": True},),
        "intent",
        0.0,
        0.4,
    ),
    Instant("the answer is lost", ({"kind": "lost_answer"},), "doubt", 0.0, 0.3),
    Instant("no answer comes", ({"kind": "lost_answer", "how": "hang"},), "intent", 0.0, 0.8),
)
ROUNDS = ("trading", "trading", "trading", "engaged", "lapsed")
VICTIMS = (EXECUTOR, EXECUTOR, SERVICE, FEED)
WORDS = ("api", "cli", "set")


class Deck:
    """Draws at random, and everything equally often in the long run."""

    def __init__(self, chance: random.Random, cards: tuple[Any, ...]) -> None:
        self._chance, self._cards, self._left = chance, cards, list[Any]()

    def draw(self) -> Any:
        """Return the next one."""
        if not self._left:
            self._left = self._chance.sample(self._cards, len(self._cards))
        return self._left.pop()


@pytest.fixture
def broker() -> Iterator[V20Process]:
    made = venue()
    yield made
    made.stop()


@pytest.fixture
def loop(
    kafka: KafkaBroker, valkey_url: str, topic_prefix: str, tmp_path: Path, broker: V20Process
) -> Iterator[LiveLoop]:
    made = LiveLoop(tmp_path, kafka.bootstrap, topic_prefix, valkey_url, broker)
    yield made
    made.stop()


class Storm:
    """Rounds of a bar each, in which something is killed."""

    def __init__(self, loop: LiveLoop, seed: int) -> None:
        self.loop, self.chance = loop, random.Random(seed)
        self._rounds, self._victims = Deck(self.chance, ROUNDS), Deck(self.chance, VICTIMS)
        self._words, self._instants = Deck(self.chance, WORDS), Deck(self.chance, INSTANTS)
        self._set: list[int] = []

    def round(self) -> None:
        """Let a bar pass that asks for orders, and kill."""
        kind, instant = self._rounds.draw(), self._instants.draw()
        self.loop.until_off()
        self._make_last(instant)
        begun, doubts = len(self.loop.watch.begun), self.loop.watch.doubts
        end_ms = self.loop.bar(self._moves())
        self._await(instant, begun, doubts)
        if kind == "engaged":
            end_ms = self._engaged()
        elif kind == "lapsed":
            end_ms = self._lapsed()
        else:
            self._killed()
        self.loop.until_done(end_ms)
        for number in self._set:
            self.loop.broker.control("DELETE", f"/faults/{number}")
        require_intents_first(self.loop.deployment, self.loop.broker)

    def _killed(self) -> None:
        """Kill and restart; now and then once more, while that is at its start."""
        victims = self._two()
        for _ in range(2 if self.chance.random() < 0.3 else 1):
            self.loop.kill(victims)
            self.loop.restart(victims)
            time.sleep(self.chance.uniform(0.0, 3.0))

    def _engaged(self) -> int:
        """Engage and kill, in either order; the next bar's entries come to nothing."""
        loop, word, victims = self.loop, self._words.draw(), self._two()
        first = word != "api" and self.chance.random() < 0.5
        if first:
            loop.kill(victims)
        loop.engage(word)
        since, since_wall = time.monotonic(), time.time()
        if not first:
            time.sleep(self.chance.uniform(0.0, 0.3))
            loop.kill(victims)
        time.sleep(self.chance.uniform(0.0, 0.5))
        loop.restart(victims)
        end_ms = loop.bar(self._moves())
        loop.until_done(end_ms)
        loop.never_off(f"engaged by {word}, {victims} killed, {first=}", since, since_wall)
        return end_ms

    def _lapsed(self) -> int:
        """Kill the service and leave it away: without a proof of life it is engaged."""
        loop, victims = self.loop, list(dict.fromkeys([SERVICE, self._victims.draw()]))
        dead = loop.kill(victims)
        loop.restart([name for name in victims if name != SERVICE])
        time.sleep(max(0.0, dead + MAX_AGE_S - time.monotonic()))
        since, since_wall = time.monotonic(), time.time()
        end_ms = loop.bar(self._moves())
        loop.until_done(end_ms)
        loop.never_off(f"nobody keeps it, {victims} killed", since, since_wall)
        loop.restart([SERVICE])
        return end_ms

    def _two(self) -> list[str]:
        """Return whom to kill: one, sometimes two at a time."""
        count = 2 if self.chance.random() < 0.3 else 1
        return list(dict.fromkeys(self._victims.draw() for _ in range(count)))

    def _moves(self) -> dict[str, int]:
        """Return new positions of some runs, of one at least: those in a trade leave it."""
        chance, now = self.chance, self.loop.script.positions
        moved = [name for name in PAIRS if chance.random() < 0.7] or [chance.choice(PAIRS)]
        return {name: 0 if now[name] else chance.choice((1, -1)) for name in moved}

    def _make_last(self, instant: Instant) -> None:
        where = {"method": "POST", "path": "/orders", "count": len(PAIRS)}
        self._set = [self.loop.broker.fault(**where | each) for each in instant.faults]

    def _await(self, instant: Instant, begun: int, doubts: int) -> None:
        watch, end = self.loop.watch, time.monotonic() + 2.0
        while instant.after and time.monotonic() < end:
            if instant.after == "intent" and len(watch.begun) > begun:
                break
            if instant.after == "doubt" and watch.doubts > doubts:
                break
            time.sleep(0.001)
        time.sleep(self.chance.uniform(instant.least_s, instant.most_s))


def test_no_order_is_sent_twice_none_is_forgotten_and_the_switch_is_never_read_as_off(
    loop: LiveLoop, broker: V20Process
) -> None:
    loop.start()
    for kind, share in (("lost_answer", 0.15), ("cut_before", 0.05), ("reject_order", 0.05)):
        extra = {"reason": "INSTRUMENT_NOT_TRADEABLE"} if kind == "reject_order" else {}
        broker.fault(kind, method="POST", path="/orders", probability=share, seed=7, **extra)
    loop.bar({})
    storm = Storm(loop, 20)
    while len(loop.kills) < KILLS:
        storm.round()
    broker.clear_faults()
    require_settled(loop)
    killed = Counter(kill.name for kill in loop.kills)
    hit = Counter(kill.name for kill in loop.kills if loop.watch.lived_at(kill.at))
    print(f"killed {dict(killed)}, in an order's life {dict(hit)}, of {len(loop.watch.begun)}")
    assert min(killed[name] for name in PROCESSES) >= KILLS // 8, killed
    assert hit.total() >= KILLS // 4 and hit[EXECUTOR] >= KILLS // 20, "hardly any hit an order"


def require_settled(loop: LiveLoop) -> None:
    """Assert that when all is quiet everything agrees: log, broker, target, candles, switch."""
    loop.until_off()
    loop.until_done(loop.bar(dict.fromkeys(PAIRS, 0)))
    loop.until_held(lambda units: not units)
    assert not loop.exact().holdings
    wanted = {"EUR_USD": 1, "GBP_USD": -1, "USD_JPY": 1}
    loop.until_done(loop.bar(wanted))
    loop.until_held(lambda units: len(units) == len(PAIRS) and _on_target(loop, units))
    ledger = loop.exact()
    assert {name: held.direction for name, held in ledger.holdings.items()} == wanted
    loop.until_done(loop.bar(dict.fromkeys(PAIRS, 0)))
    loop.until_held(lambda units: not units)
    assert not loop.exact().holdings
    loop.require_candles()
    late_s = loop.require_nothing_opened(IN_FLIGHT_S)
    print(f"engaged {len(loop.stopped)} times; the last opening order came {late_s:.3f} s after")
    loop.require_sound()


def _on_target(loop: LiveLoop, units: dict[str, float]) -> bool:
    targets: dict[str, float] = {}
    for intent in loop.deployment.events(ORDERS):
        if isinstance(intent, OrderIntent) and intent.kind in ("open", "increase"):
            targets[intent.instrument] = intent.target_units
    return all(
        abs(abs(units[name]) - targets[name]) <= LEFT_ALONE * targets[name] for name in PAIRS
    )
