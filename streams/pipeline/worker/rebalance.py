"""The steps of a rebalance.

1. New producers for newly assigned partitions: fences the previous owner and aborts its open
   transaction.
2. Hanging transactions are aborted (``hanging_transactions``).
3. The rows are restored from the changelog, up to the last stable offset.
4. The committed offsets are compared with the position stored in the rows (``resume``).
5. The source positions are set to the committed offsets, or to the position of the state
   (``ExactlyOnceConsumer.perform_seek``).
"""

from __future__ import annotations

from typing import Any

from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery


class ExactlyOnceRecovery(Recovery):
    """Recovery that restores nothing through Faust: the exactly-once runtime has done it."""

    app: Any

    async def _build_highwaters(
        self, consumer: Any, tps: Any, destination: Any, title: str
    ) -> None:
        if title == "active":
            await self.app.safety.open(consumer.assignment())
        destination.clear()
        for tp in tps:
            destination[tp] = -1

    async def _build_offsets(self, consumer: Any, tps: Any, destination: Any, title: str) -> None:
        for tp in tps:
            # not update(), which adds for a Counter; offset = high water: nothing left to read
            destination[tp] = -1

    async def _seek_offsets(self, consumer: Any, tps: Any, offsets: Any, title: str) -> None:
        return None

    async def on_recovery_completed(self, generation_id: int = 0) -> None:
        """Stop fetching first: Faust drops its queue when it resumes streams."""
        self.app.consumer.stop_flow()
        await super().on_recovery_completed(generation_id)


class ExactlyOnceTableManager(TableManager):
    """Table manager with the recovery above."""

    @property
    def recovery(self) -> Any:
        """The recovery service."""
        if self._recovery is None:
            self._recovery = ExactlyOnceRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery
