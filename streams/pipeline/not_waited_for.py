"""The instruments that epochs no longer wait for, and the decision used for each of them.

A feed that has waited EPOCH_MAX_WAIT_SEC for an instrument lists it in a watermark of the
instrument's partition (``not_waited_for``). Up to that time no epoch waits for the instrument; the
epoch uses its latest decision before the watermark, even if its candle for the epoch arrives before
the epoch is closed. The instrument's decisions and that watermark are in one partition, so their
order, and therefore the result, is the same in every run.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from streams.records.events import Watermark


class EpochSpan(NamedTuple):
    """Epochs in (``after_ms``, ``until_ms``] use the latest decision up to ``decided_ms``."""

    after_ms: int
    until_ms: int
    decided_ms: int


class NotWaitedFor:
    """The instruments not waited for, according to the watermarks so far.

    Parameters
    ----------
    spans
        Instrument -> its spans, ascending, as in ``spans``.
    """

    def __init__(self, spans: dict[str, list[Iterable[int]]] | None = None) -> None:
        self._spans = {
            name: [EpochSpan(*one) for one in each] for name, each in (spans or {}).items()
        }

    @property
    def spans(self) -> dict[str, list[EpochSpan]]:
        """Instrument -> the spans that an open epoch may need."""
        return self._spans

    def add(self, name: str, until_ms: int, decided_ms: int) -> bool:
        """Record that an instrument is not waited for; return whether that is new.

        Parameters
        ----------
        until_ms
            Time of the watermark.
        decided_ms
            Time of the instrument's latest decision before it, -1 without one.
        """
        after_ms = max(decided_ms, self.until_ms(name))
        if until_ms <= after_ms:
            return False
        self._spans.setdefault(name, []).append(EpochSpan(after_ms, until_ms, decided_ms))
        return True

    def until_ms(self, name: str) -> int:
        """Return the time up to which no epoch waits for an instrument, -1 when all wait."""
        spans = self._spans.get(name)
        return spans[-1].until_ms if spans else -1

    def counted_ms(self, name: str, epoch_ms: Any) -> Any:
        """Return the time up to which an instrument's decisions count in an epoch.

        Parameters
        ----------
        epoch_ms
            An epoch, or an array of int64; the result has the same type.
        """
        for after_ms, until_ms, decided_ms in self._spans.get(name, ()):
            # arithmetic works for one epoch and for arrays
            inside = (epoch_ms > after_ms) & (epoch_ms <= until_ms)
            epoch_ms = epoch_ms + inside * (decided_ms - epoch_ms)
        return epoch_ms

    def effective_ms(self, watermark: Watermark) -> int:
        """Return the time from which the control offset of a watermark applies to epochs.

        A watermark after one that ended the wait for its instruments changes no epoch before that.
        """
        return max(watermark.as_of_ms, *map(self.until_ms, watermark.instruments), -1)

    def forget_before(self, epoch_ms: int) -> bool:
        """Drop spans that no epoch after ``epoch_ms`` needs; return whether any was dropped."""
        kept = {
            name: [span for span in spans if span.until_ms > epoch_ms]
            for name, spans in self._spans.items()
        }
        changed = kept != self._spans
        self._spans = {name: spans for name, spans in kept.items() if spans}
        return changed
