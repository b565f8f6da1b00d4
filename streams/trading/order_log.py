"""Invalid records of ``exec.orders`` and ``exec.fills``: they block opening, and nothing else.

The content of such a record is unknown, so the ledger may lack an order. The positions are then
taken from the broker: open trades with client ids of this executor are written to the log again and
closed like all others. Nothing is opened until an operator has compared the ledger with the broker
and confirmed it (``manifold limits reset order_log``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from streams.config.settings import Config
from streams.records.events import Control
from streams.records.log_record import InvalidRecord
from streams.records.trading_events import OrderIntent
from streams.trading.brokers.broker import OpenTrade
from streams.trading.holdings import NO_RUN
from streams.trading.order_ids import order_id

WAY_OUT: Final = (
    "nothing is opened until an operator has compared the account with the broker and given "
    "manifold limits reset order_log --reason TEXT (a record of a newer version: run that version)"
)
SKIPPED: Final = 1_000
"""Sequence numbers skipped while the log has an invalid record, which may have used one."""
BARS_BACK, NUMBERS = 500, 16
KEPT: Final = 100
"""Invalid records of a partition that a running executor keeps."""


def bounded(invalid: Sequence[InvalidRecord]) -> list[InvalidRecord]:
    """Return at most ``KEPT`` records of every partition, in order: the first and the last ones.

    The last offset is one of them, so the records block, and are confirmed, like all of them.
    """
    found: dict[str, list[InvalidRecord]] = defaultdict(list)
    for one in invalid:
        found[one.place].append(one)
    kept: set[InvalidRecord] = set()
    for records in found.values():
        last = sorted(records, key=lambda one: one.offset)[1 - KEPT :]
        kept.update((records[0], *last))
    return [one for one in invalid if one in kept]


def last_offsets(invalid: Iterable[InvalidRecord]) -> str:
    """Return the last invalid offset of every partition, as text: the value of the reset record."""
    found: dict[str, int] = {}
    for one in invalid:
        found[one.place] = max(found.get(one.place, -1), one.offset)
    return ",".join(f"{place}@{offset}" for place, offset in sorted(found.items()))


def offsets_of(text: str) -> dict[str, int]:
    """Parse the text of ``last_offsets``: partition -> offset.

    Raises
    ------
    ValueError
        The text has another form.
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
    """Return why opening is blocked; empty when it is allowed.

    Parameters
    ----------
    checked
        Partition -> last invalid offset that an operator has confirmed.
    unreconciled
        Why the ledger is not reconciled with the broker; empty when it is.
    """
    left = [one for one in invalid if one.offset > checked.get(one.place, -1)]
    if not left:
        return unreconciled
    first = left[0]
    more = " or more" if len(left) >= KEPT - 1 else ""  # see bounded
    said = (
        f"{len(left)}{more} invalid record(s) in the order log, the first at offset "
        f"{first.offset} of {first.place} ({first.problem[:120]}): {WAY_OUT}"
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
    """Return the intent of an open trade whose record is invalid; None for a trade of others.

    A client order id is computed from the entry bar and a sequence number. A trade belongs to this
    executor if one of the last ``BARS_BACK`` bars before its opening gives its id.
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
