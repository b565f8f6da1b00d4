"""Stop loss and take profit of an open trade: who set them, and which to set. Pure.

A manual change is kept, whether tighter, looser, trailing or removed. The run's level is set where
the trade still has one set by the executor, or none that was removed manually.
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
"""Reason of the end of a bracket that was cancelled by hand; other reasons are the venue's."""

Verdict = Literal["keep", "set", "others", "ask"]


class Level(NamedTuple):
    """A stop or a target: a price, or the distance of a trailing stop; none if both are None."""

    price: float | None
    trailing: float | None = None

    @property
    def none(self) -> bool:
        """Whether there is none."""
        return self.price is None and self.trailing is None


@dataclass
class Side:
    """The stop, or the target, of one trade according to the log.

    Attributes
    ----------
    ours
        Prices that the executor has asked for.
    by_others
        The last manual change; None while the executor's level is set.
    """

    ours: set[float] = field(default_factory=set)
    by_others: Level | None = None

    def take(self, by: str, level: Level) -> None:
        """Apply a record."""
        if by == OPERATOR:
            self.by_others = level
        elif by == EXECUTOR and level.price is not None:
            self.ours.add(level.price)


@dataclass
class TradeBrackets:
    """The brackets of one trade according to the log."""

    stop: Side = field(default_factory=Side)
    target: Side = field(default_factory=Side)

    def take(self, record: OrderIntent) -> None:
        """Apply a record of kind ``brackets``, in log order."""
        self.stop.take(record.stop_by, Level(record.stop_loss, record.trailing_stop))
        self.target.take(record.target_by, Level(record.take_profit))

    def opened_with(self, opening: OrderIntent) -> None:
        """Apply the brackets requested by the opening order."""
        self.stop.take(EXECUTOR, Level(opening.stop_loss))
        self.target.take(EXECUTOR, Level(opening.take_profit))


def verdict(found: Level, wanted: float | None, known: Side, removed: str | None) -> Verdict:
    """Return the action for a stop or a target.

    Parameters
    ----------
    found
        The trade's bracket at the venue.
    wanted
        The run's level in the venue's precision; None when the run has none.
    known
        Its state according to the log.
    removed
        Why the venue ended the last one; empty when it never had one, None when not queried yet.

    Returns
    -------
    Verdict
        ``keep``: no action; ``set``: set the run's level; ``others``: record a manual change;
        ``ask``: first query why it is missing.
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
    """Return a manual change of a stop or a target as text.

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
