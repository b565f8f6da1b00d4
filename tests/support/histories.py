"""Histories of an executor: what happens to it and around it, as a list of steps.

A history is drawn by hypothesis, run by `tests.support.history_run` (one process, virtual clock) or
`tests.support.history_processes` (real ones, on Kafka), and judged by
`tests.support.history_checks`. A step's ``repr`` is Python: a failing history can be pasted as an
example.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from hypothesis import strategies as st

PAIRS = ("EUR_USD", "GBP_USD", "USD_JPY")
PRICES = {"EUR_USD": 1.1, "GBP_USD": 1.27, "USD_JPY": 145.0}
READS = {
    "trades": r"/openTrades$",
    "positions": r"/openPositions$",
    "orders": r"/pendingOrders$",
    "summary": r"/summary$",
    "transactions": r"/transactions/sinceid$",
    "pricing": r"/pricing$",
    "instruments": r"/instruments$",
}
SENDS = {"orders": r"/orders$", "close": r"/close$"}
REJECTED = ("INSUFFICIENT_MARGIN", "INSTRUMENT_NOT_TRADEABLE", "INTERNAL_SERVER_ERROR")
CANCELLED = ("INSUFFICIENT_MARGIN", "MARKET_HALTED", "FIFO_VIOLATION", "BOUNDS_VIOLATION")

Json = dict[str, Any]


class Venue(Protocol):
    """The test broker, seen from outside of the executor."""

    async def api(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Make a request of OANDA's API as somebody else than the executor."""
        ...

    async def control(self, method: str, path: str, body: Any = None) -> Any:
        """Use the control API."""
        ...


class Wait(NamedTuple):
    """Nothing happens for so many seconds."""

    seconds: float


class Bar(NamedTuple):
    """The next bar ends: the positions of the runs of `PAIRS` (None: as before), and how much of
    the account is wanted in each that has one.
    """

    positions: tuple[int | None, int | None, int | None]
    pct: float = 0.05
    eligible: bool = True


class Kill(NamedTuple):
    """The executor is killed, and started again after so many seconds."""

    seconds: float = 0.0


class Switch(NamedTuple):
    """The kill switch is engaged, or cleared."""

    engaged: bool


class Flatten(NamedTuple):
    """An operator says that everything is to be closed; the switch is engaged with it."""


class Price(NamedTuple):
    """A price moves by so many basis points, and stays there."""

    instrument: str
    bps: int


class Lose(NamedTuple):
    """The next order or closing loses its answer: nothing of it is carried out (``before``), or all
    (``cut``, ``hang``), or all of it so many seconds later (``late``).
    """

    what: str
    how: str
    seconds: float = 0.0


class Refuse(NamedTuple):
    """The next order or closing is rejected, or accepted and cancelled, for a reason."""

    what: str
    reason: str
    accepted: bool


class Fail(NamedTuple):
    """A question is answered with 503 until `Heal`."""

    read: str


class Heal(NamedTuple):
    """Every fault ends: of questions, of answers, of the token."""


class Token(NamedTuple):
    """The token is refused from now on, until `Heal`."""


class HandOpen(NamedTuple):
    """Somebody else opens a trade, or nets against ours."""

    instrument: str
    units: int


class HandClose(NamedTuple):
    """Somebody else closes a part (percent) of one of the open trades, whosever it is."""

    which: int
    percent: int


class HandFlat(NamedTuple):
    """Somebody else closes everything in an instrument."""

    instrument: str


class Transfer(NamedTuple):
    """Money is moved into the account or out of it."""

    amount: int


class Halt(NamedTuple):
    """An instrument is halted, or goes on."""

    instrument: str
    halted: bool


class Delist(NamedTuple):
    """An instrument is taken from the account, or given back."""

    instrument: str
    delisted: bool


Step = (
    Wait | Bar | Kill | Switch | Flatten | Price | Lose | Refuse | Fail | Heal | Token | HandOpen
    | HandClose | HandFlat | Transfer | Halt | Delist
)  # fmt: skip
History = list[Step]
Steps = st.SearchStrategy[Any]


_PAIR, _SENDS = st.sampled_from(PAIRS), st.sampled_from(sorted(SENDS))
BARS = st.builds(
    Bar,
    st.tuples(*[st.sampled_from((None, None, 1, -1, 0))] * 3),
    st.sampled_from((0.05, 0.02, 0.15)),
    st.sampled_from((True, True, True, False)),
)
ANYWHERE: tuple[tuple[int, Steps], ...] = (
    (4, st.builds(Wait, st.sampled_from((0.01, 0.1, 1.0, 5.0, 31.0, 90.0)))),
    (2, st.builds(Kill, st.sampled_from((0.0, 0.0, 0.0, 1.0, 15.0, 120.0)))),
    (4, st.builds(Switch, st.sampled_from((False, False, False, False, True)))),
    (1, st.just(Flatten())),
    (2, st.builds(Price, _PAIR, st.sampled_from((-300, -80, -20, 20, 80, 300)))),
)
"""Steps that may happen to any account, and how likely each is."""
AT_OANDA: tuple[tuple[int, Steps], ...] = (
    *ANYWHERE,
    (4, st.builds(Lose, _SENDS, st.sampled_from(("before", "cut", "hang")), st.just(0.0))),
    (2, st.builds(Lose, _SENDS, st.just("late"), st.sampled_from((0.5, 8.0, 25.0)))),
    (1, st.builds(Refuse, _SENDS, st.sampled_from(REJECTED), st.just(False))),
    (1, st.builds(Refuse, _SENDS, st.sampled_from(CANCELLED), st.just(True))),
    (2, st.builds(Fail, st.sampled_from(sorted(READS)))),
    (2, st.just(Heal())),
    (1, st.just(Token())),
    (1, st.builds(HandOpen, _PAIR, st.sampled_from((700, -700, 9000, -9000)))),
    (1, st.builds(HandClose, st.integers(0, 3), st.sampled_from((100, 40)))),
    (1, st.builds(HandFlat, _PAIR)),
    (1, st.builds(Transfer, st.sampled_from((-20_000, 500, 30_000)))),
    (1, st.builds(Halt, _PAIR, st.sampled_from((True, False, False)))),
    (1, st.builds(Delist, _PAIR, st.sampled_from((True, False, False)))),
)


def histories(
    steps: Sequence[tuple[int, Steps]] = AT_OANDA, least: int = 0, most: int = 10
) -> st.SearchStrategy[History]:
    """Return histories of so many bars, with other steps between them."""
    # the same strategy twice counts once, one that is mapped is another
    likely = [each.map(lambda step: step) for count, each in steps for _ in range(count)]
    between = st.lists(st.one_of(likely), max_size=8)
    scene = st.builds(lambda bar, others: [bar, *others], BARS, between)
    scenes = st.lists(scene, min_size=least, max_size=most)
    return scenes.map(lambda found: [step for scene in found for step in scene])


TOKEN = "the-token-of-the-test-broker"
OTHER_TOKEN = "another-token-of-the-test-broker"


async def prepare(venue: Venue) -> dict[str, float]:
    """Hold the prices, which move by steps alone; return them, to be given to every step."""
    for name, price in PRICES.items():
        await _place(venue, name, price)
    return dict(PRICES)


async def _place(venue: Venue, name: str, middle: float) -> None:
    digits = 3 if name.endswith("JPY") else 5
    half = middle * 1e-5
    sides = {"bid": f"{middle - half:.{digits}f}", "ask": f"{middle + half:.{digits}f}"}
    await venue.control("POST", "/prices", {"instrument": name, "hold": True} | sides)


async def happen_at_venue(step: Step, venue: Venue, prices: dict[str, float]) -> None:
    """Let a step happen that is one of the broker's or of somebody else's."""
    if isinstance(step, Price):
        prices[step.instrument] *= 1 + step.bps / 1e4
        await _place(venue, step.instrument, prices[step.instrument])
    elif isinstance(step, Lose):
        await venue.control("POST", "/faults", _lost(step) | {"path": SENDS[step.what], "count": 1})
    elif isinstance(step, Refuse):
        kind = "cancel_order" if step.accepted else "reject_order"
        where = {"path": SENDS[step.what], "count": 1}
        await venue.control("POST", "/faults", {"kind": kind, "reason": step.reason} | where)
    elif isinstance(step, Fail):
        fault = {"kind": "status", "code": 503, "method": "GET", "path": READS[step.read]}
        await venue.control("POST", "/faults", fault)
    elif isinstance(step, Heal):
        await venue.control("DELETE", "/faults")
        await venue.control("POST", "/token", {"token": TOKEN})
    elif isinstance(step, Token):
        await venue.control("POST", "/token", {"token": OTHER_TOKEN})
    elif isinstance(step, Transfer):
        await venue.control("POST", "/transfer", {"amount": str(step.amount)})
    elif isinstance(step, Halt):
        body = {"instruments": [step.instrument], "halted": step.halted}
        await venue.control("POST", "/halt", body)
    elif isinstance(step, Delist):
        body = {"instruments": [step.instrument], "delisted": step.delisted}
        await venue.control("POST", "/delist", body)
    else:
        await _by_hand(step, venue)


def _lost(step: Lose) -> Json:
    if step.how == "before":
        return {"kind": "cut_before"}
    if step.how == "late":
        return {"kind": "slow", "delay_sec": step.seconds}
    return {"kind": "lost_answer", "how": step.how}


async def _by_hand(step: Step, venue: Venue) -> None:
    account = "/accounts/{account}"
    if isinstance(step, HandOpen):
        order = {
            "type": "MARKET", "instrument": step.instrument, "units": str(step.units),
            "timeInForce": "FOK", "positionFill": "DEFAULT",
        }  # fmt: skip
        await venue.api("POST", f"{account}/orders", {"order": order})
    elif isinstance(step, HandFlat):
        _, answer = await venue.api("GET", f"{account}/openPositions")
        for held in answer["positions"]:
            sides = [s for s in ("long", "short") if float(held[s]["units"])]
            if held["instrument"] == step.instrument:
                body = {f"{side}Units": "ALL" for side in sides}
                await venue.api("PUT", f"{account}/positions/{step.instrument}/close", body)
    elif isinstance(step, HandClose):
        _, answer = await venue.api("GET", f"{account}/openTrades")
        trades = sorted(answer["trades"], key=lambda t: int(t["id"]))
        if trades:
            trade = trades[step.which % len(trades)]
            units = abs(int(float(trade["currentUnits"]))) * step.percent // 100
            body = {"units": "ALL" if step.percent == 100 else str(units)}
            if units:
                await venue.api("PUT", f"{account}/trades/{trade['id']}/close", body)
    else:
        raise AssertionError(f"{step} happens elsewhere")


def shown(history: History) -> str:
    """Return a history as it can be pasted."""
    return "[\n" + "".join(f"    {step!r},\n" for step in history) + "]"
