"""Invalid records of ``exec.orders`` and ``exec.fills``: they block opening, and nothing else.

What such a record was about cannot be known, so the books of the log may lack an order. Positions
are then known from the broker: its trades with ids of this executor are entered in the log again,
and closed as all others. Nothing is opened until an operator has compared the account with the
broker and said so (``manifold limits reset order_log``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from streams.config.settings import Config
from streams.records.events import Control
from streams.records.trading_events import OrderIntent
from streams.trading.brokers.broker import OpenTrade
from streams.trading.holdings import NO_RUN
from streams.trading.order_ids import order_id

WAY_OUT: Final = (
    "nothing is opened until an operator has compared the account with the broker and given "
    "manifold limits reset order_log --reason TEXT (a record of a newer version: run that version)"
)
SKIPPED: Final = 1_000
"""Sequence numbers left out with an invalid record in the log: one may be that record's."""
BARS_BACK, NUMBERS = 500, 16


class InvalidRecord(NamedTuple):
    """One record: where it lies, and what is wrong with it."""

    topic: str
    partition: int
    offset: int
    problem: str

    @property
    def place(self) -> str:
        """Topic and partition."""
        return f"{self.topic}-{self.partition}"


def last_offsets(invalid: Iterable[InvalidRecord]) -> str:
    """Return the last invalid offset of every partition, as ``limits reset order_log`` has it."""
    found: dict[str, int] = {}
    for one in invalid:
        found[one.place] = max(found.get(one.place, -1), one.offset)
    return ",".join(f"{place}@{offset}" for place, offset in sorted(found.items()))


def offsets_of(text: str) -> dict[str, int]:
    """Return what ``last_offsets`` wrote.

    Raises
    ------
    ValueError
        It is another text.
    """
    found = {}
    for part in text.split(","):
        place, _, offset = part.rpartition("@")
        if not place or not offset.isascii() or not offset.isdigit():
            raise ValueError(f"{part!r} is not topic-partition@offset")
        found[place] = int(offset)
    return found


def why_blocked(
    invalid: Sequence[InvalidRecord], checked: Mapping[str, int], unreconciled: str = ""
) -> str:
    """Return why nothing is opened; empty when it may be.

    Parameters
    ----------
    checked
        Partition -> last offset that an operator has compared with the broker.
    unreconciled
        Another reason: not reconciled with the broker.
    """
    left = [one for one in invalid if one.offset > checked.get(one.place, -1)]
    if not left:
        return unreconciled
    first = left[0]
    said = (
        f"{len(left)} invalid record(s) in the order log, the first at offset {first.offset} of "
        f"{first.place} ({first.problem[:120]}): {WAY_OUT}"
    )
    return f"{unreconciled}; {said}" if unreconciled else said


def restored_intent(
    trade: OpenTrade,
    application: str,
    mode: str,
    account_id: str,
    config: Config,
    records: Sequence[tuple[int, Control]],
) -> OrderIntent | None:
    """Return the intent of an open trade whose record is invalid; None when it is not ours.

    The id of an order is computed from its entry bar and number: the trade is ours if one of the
    last bars before it gives its id.
    """
    bar = config.granularity_ms
    newest = trade.opened_ms - trade.opened_ms % bar
    numbers = [base + n for base in (0, SKIPPED) for n in range(NUMBERS)]
    for entry_bar_ms in (NO_RUN, *range(newest, max(-1, newest - BARS_BACK * bar), -bar)):
        for number in numbers:
            named = (application, mode, account_id, trade.instrument, entry_bar_ms, number)
            if order_id(*named) == trade.client_id:
                return _intent_of(trade, named, config, records)
    return None


def _intent_of(
    trade: OpenTrade,
    named: tuple[str, str, str, str, int, int],
    config: Config,
    records: Sequence[tuple[int, Control]],
) -> OrderIntent:
    _, mode, account_id, instrument, entry_bar_ms, number = named
    before = [offset for offset, record in records if record.as_of_ms <= trade.opened_ms]
    at_ms = max(entry_bar_ms, 0) or trade.opened_ms
    by_operator = entry_bar_ms == NO_RUN
    return OrderIntent(
        instrument,
        config.candle_gran,
        at_ms,
        trade.opened_ms,
        config.config_id,
        max(before, default=-1) + 1,
        trade.client_id,
        "buy" if trade.units > 0 else "sell",
        float(abs(trade.units)),
        "open",
        0.0,
        float(trade.units),
        trade.stop_loss,
        trade.take_profit,
        (),
        True,
        account_id,
        mode,
        entry_bar_ms,
        number,
        trade.opened_ms,
        "restored from the broker: its record in the log is invalid",
        request_id=f"restored-{trade.trade_id}" if by_operator else "",
    )
