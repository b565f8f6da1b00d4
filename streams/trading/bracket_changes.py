"""Stop and target of an open trade: whose they are, and whether the run's are to be set. Pure.

What somebody else set is kept, whether tighter, looser, trailing or taken away. The run's level is
set where the trade still has one of the executor's own, or has none at all and nobody removed it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from streams.records.trading_events import OrderIntent

KIND: Final = "brackets"
EXECUTOR: Final = "executor"
OPERATOR: Final = "operator"
REMOVED: Final = ("CLIENT_REQUEST",)
"""Why a bracket ends when somebody cancels it; other reasons are the venue's own."""

Verdict = Literal["keep", "set", "others", "ask"]


class Level(NamedTuple):
    """A stop or a target: a price, or the distance of a trailing stop; neither: there is none."""

    price: float | None
    trailing: float | None = None

    @property
    def none(self) -> bool:
        """Whether there is none."""
        return self.price is None and self.trailing is None


@dataclass
class Side:
    """What the log says of the stop, or of the target, of one trade.

    Attributes
    ----------
    ours
        Prices that the executor has asked for.
    by_others
        What was found set by somebody else last; None while it is the executor's.
    """

    ours: set[float] = field(default_factory=set)
    by_others: Level | None = None

    def take(self, by: str, level: Level) -> None:
        """Take in a record."""
        if by == OPERATOR:
            self.by_others = level
        elif by == EXECUTOR and level.price is not None:
            self.ours.add(level.price)


@dataclass
class TradeBrackets:
    """What the log says of the brackets of one trade."""

    stop: Side = field(default_factory=Side)
    target: Side = field(default_factory=Side)

    def take(self, record: OrderIntent) -> None:
        """Take in a record of kind ``brackets``, in the order of the log."""
        self.stop.take(record.stop_by, Level(record.stop_loss, record.trailing_stop))
        self.target.take(record.target_by, Level(record.take_profit))

    def opened_with(self, opening: OrderIntent) -> None:
        """Take in what the order that opened the trade asked for."""
        self.stop.take(EXECUTOR, Level(opening.stop_loss))
        self.target.take(EXECUTOR, Level(opening.take_profit))


def verdict(found: Level, wanted: float | None, known: Side, removed: str | None) -> Verdict:
    """Return what is to be done about a stop or a target.

    Parameters
    ----------
    found
        What the trade has at the venue.
    wanted
        The run's level in the venue's precision; None when the run has none.
    known
        What the log says of it.
    removed
        Why the venue ended the last one; empty when it never had one, None when nobody has asked.

    Returns
    -------
    Verdict
        ``keep``: nothing is to be done; ``set``: the run's level is to be set; ``others``: it was
        changed by somebody else since, which is to be recorded; ``ask``: why it is missing has to
        be known first.
    """
    if known.by_others is not None:
        return "keep" if found == known.by_others else "others"
    if not found.none:
        if found.trailing is not None or found.price not in _own(known.ours, wanted):
            return "others"
        return "keep" if wanted in (None, found.price) else "set"
    if wanted is None:
        return "keep"
    if not known.ours:
        return "set"
    if removed is None:
        return "ask"
    return "others" if removed in REMOVED else "set"


def _own(ours: Collection[float], wanted: float | None) -> set[float]:
    return {*ours} if wanted is None else {*ours, wanted}


def sentence(what: str, trade_id: str, found: Level, wanted: float | None, direction: int) -> str:
    """Return what somebody else did to a stop or a target, in words.

    Parameters
    ----------
    what
        ``stop`` or ``target``.
    direction
        Of the trade: 1 for long.
    """
    run = "the run has none" if wanted is None else f"the run's is {wanted!r}"
    if found.trailing is not None:
        fixed = "" if found.price is None else f" beside one at {found.price!r}"
        how = f"trails at a distance of {found.trailing!r}{fixed}"
    elif found.price is None:
        how = "was removed"
    elif wanted is None or what == "target":
        how = f"is {found.price!r}"
    else:
        closer = (found.price - wanted) * direction > 0
        how = f"is {found.price!r}, {'tighter' if closer else 'looser'}"
    return f"the {what} of trade {trade_id} {how} by hand ({run}): it stays so"
