"""One source partition, derived again."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator

from streams.pipeline.stage import Processor, Stage
from streams.records.log_record import Output, SourceRecord


class DerivedAgain:
    """The expected outputs of a source partition, in order per derived topic.

    Attributes
    ----------
    read
        Number of source records read.
    """

    def __init__(
        self, stage: Stage, processor: Processor, batches: Iterator[list[SourceRecord]]
    ) -> None:
        self._stage, self._processor, self._batches = stage, processor, batches
        self._queues: defaultdict[str, deque[Output]] = defaultdict(deque)
        self.read = 0

    async def _more(self) -> bool:
        records = next(self._batches, None)
        if records is None:
            return False
        await self._stage.prepare(records, self._processor)
        self.read += len(records)
        for output in self._processor.process(records).outputs:
            self._queues[output.topic].append(output)
        return True

    def queue(self, topic: str) -> deque[Output]:
        """Return the outputs of a topic that are derived and not taken."""
        return self._queues[topic]

    async def next(self, topic: str) -> Output | None:
        """Take the next output of a topic; None after the last."""
        queue = self._queues[topic]
        while not queue:
            if not await self._more():
                return None
        return queue.popleft()
