"""The order of things in a rebalance.

1. New producers for the partitions that are new here: fences the former owner and ends its open
transaction. 2. What the broker has left open all the same is ended (``leftovers``). 3. Their
rows are restored from the changelog, up to the last stable offset. 4. The committed offsets are
held against the position that lies among the rows (``positions``). 5. The source positions are set
to the committed offsets, or to where the state ends (``ExactlyOnceConsumer.perform_seek``).
"""

from __future__ import annotations

from typing import Any

from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery


class ExactlyOnceRecovery(Recovery):
    """Recovery that restores nothing through Faust: the safety runtime has done it."""

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
            # a Counter, whose update() would add; equal to the highwater: nothing left to read
            destination[tp] = -1

    async def _seek_offsets(self, consumer: Any, tps: Any, offsets: Any, title: str) -> None:
        return None

    async def on_recovery_completed(self, generation_id: int = 0) -> None:
        """Stop the flow first: Faust drops what it has queued when it resumes streams."""
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
