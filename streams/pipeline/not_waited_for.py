"""For which instruments epochs no longer wait, and with which decision these count there.

A feed that has waited long enough for an instrument says so in a watermark of that instrument's
partition (``not_waited_for``). Up to that time no epoch waits for the instrument; it counts with
the latest decision that stands before the watermark, also where its candle for the epoch comes
later and the epoch is closed later still. The instrument's decisions and that watermark come from
one partition, so their order, and with it the outcome, is the same in every run.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from streams.records.events import Watermark


class Span(NamedTuple):
    """Epochs in (``after_ms``, ``until_ms``] count the latest decision up to ``decided_ms``."""

    after_ms: int
    until_ms: int
    decided_ms: int


class NotWaitedFor:
    """What the watermarks so far say of instruments that are not waited for.

    Parameters
    ----------
    spans
        By instrument, ascending, as ``spans`` gives them.
    """

    def __init__(self, spans: dict[str, list[Iterable[int]]] | None = None) -> None:
        self._spans = {name: [Span(*one) for one in each] for name, each in (spans or {}).items()}

    @property
    def spans(self) -> dict[str, list[Span]]:
        """By instrument; those that an open epoch may need."""
        return self._spans

    def add(self, name: str, until_ms: int, decided_ms: int) -> bool:
        """Take in that an instrument is not waited for; return whether that says anything new.

        Parameters
        ----------
        until_ms
            Time of the watermark.
        decided_ms
            Time of the instrument's latest decision before it, -1 when there is none.
        """
        after_ms = max(decided_ms, self.until_ms(name))
        if until_ms <= after_ms:
            return False
        self._spans.setdefault(name, []).append(Span(after_ms, until_ms, decided_ms))
        return True

    def until_ms(self, name: str) -> int:
        """Return up to which time no epoch waits for an instrument, -1 when all do."""
        spans = self._spans.get(name)
        return spans[-1].until_ms if spans else -1

    def counted_ms(self, name: str, epoch_ms: Any) -> Any:
        """Return up to when an instrument's decisions count in an epoch.

        Parameters
        ----------
        epoch_ms
            An epoch, or an array of int64; the answer is of the same kind.
        """
        for after_ms, until_ms, decided_ms in self._spans.get(name, ()):
            # as arithmetic, for one epoch and for many
            inside = (epoch_ms > after_ms) & (epoch_ms <= until_ms)
            epoch_ms = epoch_ms + inside * (decided_ms - epoch_ms)
        return epoch_ms

    def effective_ms(self, mark: Watermark) -> int:
        """Return from when on the control offset of a watermark holds for epochs.

        A watermark that comes behind one that was not waited for changes no epoch before that.
        """
        return max(mark.as_of_ms, *map(self.until_ms, mark.instruments), -1)

    def forget_before(self, epoch_ms: int) -> bool:
        """Drop what no epoch after ``epoch_ms`` can ask for; return whether that was anything."""
        kept = {
            name: [span for span in spans if span.until_ms > epoch_ms]
            for name, spans in self._spans.items()
        }
        changed = kept != self._spans
        self._spans = {name: spans for name, spans in kept.items() if spans}
        return changed
