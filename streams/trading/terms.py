"""The trading terms of the instruments, and the instruments the venue does not trade."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from streams.trading.brokers.broker import Broker, InstrumentTerms
from streams.trading.metrics import ExecutorMetrics

NOT_TRADED = "the venue does not trade it: it was delisted, or is not for this account"

log = logging.getLogger("manifold.executor")


class Terms:
    """The terms read so far.

    Attributes
    ----------
    untraded
        Instruments that the venue does not trade.
    """

    def __init__(self, broker: Broker, metrics: ExecutorMetrics) -> None:
        self._broker, self._metrics = broker, metrics
        self._known: dict[str, InstrumentTerms] = {}
        self.untraded: set[str] = set()

    @property
    def known(self) -> Mapping[str, InstrumentTerms]:
        """Instrument -> its terms."""
        return self._known

    def of(self, instrument: str) -> InstrumentTerms | None:
        """Return the terms of an instrument; None when the venue does not trade it."""
        return self._known.get(instrument)

    async def learn(self, names: Iterable[str], *, again: bool) -> None:
        """Query the missing terms.

        Parameters
        ----------
        again
            Whether to query also those that the venue did not trade at the last query.
        """
        missing = [n for n in names if n not in self._known and (again or n not in self.untraded)]
        if not missing:
            return
        found = await self._broker.instruments(missing)
        self._known |= found
        for name in missing:
            if name in found:
                self.untraded.discard(name)
            elif name not in self.untraded:
                self.untraded.add(name)
                log.error("%s: %s; no position is opened in it", name, NOT_TRADED)
            self._metrics.untraded.labels(name).set(int(name in self.untraded))

    def forget(self, names: Iterable[str]) -> None:
        """Query the terms of instruments without a price again."""
        for name in names:
            self._known.pop(name, None)
