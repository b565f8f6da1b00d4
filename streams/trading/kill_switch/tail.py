"""The kill switch according to ``ops.control``, which is read to its end at every query."""

from __future__ import annotations

from streams.config.runtime import Runtime
from streams.kafka.decoding import decode_record
from streams.kafka.tail import LogReplaced, PartitionTail
from streams.records.codec import Codec, DecodeError
from streams.records.events import Control
from streams.records.kill_switch import KillSwitch, Unreadable, after
from streams.records.log_record import SourceRecord
from streams.records.topics import CONTROL


class ControlTail:
    """The kill switch according to the log alone.

    Parameters
    ----------
    runtime, codec
        The deployment. Connects at the first query. For one thread at a time.
    """

    def __init__(self, runtime: Runtime, codec: Codec) -> None:
        self._codec = codec
        self._tail = PartitionTail(runtime, CONTROL, "kill-switch")
        self.switch = KillSwitch()

    @property
    def position(self) -> int:
        """The offset after the last record that was read."""
        return self._tail.position

    @property
    def log_name(self) -> str:
        """Cluster and topic; empty before the first query."""
        return f"{self._tail.cluster_id}/{self._tail.topic}" if self._tail.cluster_id else ""

    def refresh(self, within_s: float) -> KillSwitch:
        """Read to the end of the topic at the moment of the call; return the state.

        Parameters
        ----------
        within_s
            Seconds after which it gives up.

        Raises
        ------
        Recoverable
            The end cannot be queried or reached in time.
        Fatal
            The topic does not exist, or the broker refuses this client.
        """
        try:
            for record in self._tail.read_new(within_s):
                self.switch = self._after(record)
        except LogReplaced:
            self.switch = KillSwitch()
            raise
        return self.switch

    def close(self) -> None:
        """Close the clients."""
        self._tail.close()

    def _after(self, record: SourceRecord) -> KillSwitch:
        try:
            event = decode_record(self._codec, record)
        except DecodeError as problem:
            kind = problem.event.kind if isinstance(problem.event, Control) else ""
            unreadable = Unreadable(record.key, str(problem), record.timestamp_ms, kind)
            return after(self.switch, record.offset, unreadable)
        if isinstance(event, Control):
            return after(self.switch, record.offset, event)
        return self.switch
