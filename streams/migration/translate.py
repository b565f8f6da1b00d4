"""Translates a record of the old prefix to the new one. Pure.

Records are copied byte for byte, with two exceptions. A schema registry may assign other ids under
the new subjects. And watermarks, orders, broker reports, account states and a cleared kill switch
contain offsets of ``ops.control``: transaction markers and aborted records take offsets, and the
copy has other ones, so the same control record has another offset.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence

from streams.errors import Fatal
from streams.records.codec import Codec, DecodeError
from streams.records.events import Candle, Control, Event, Watermark
from streams.records.kill_switch import KIND, KillSwitchCommand, kill_switch_problem
from streams.records.topics import CANDLES, CONTROL, TOPICS, subject
from streams.records.trading_events import AccountState, BrokerReport, OrderIntent
from streams.records.value_rules import MOST_OFFSET

FRAME = 5
_STAMPED = (Watermark, OrderIntent, BrokerReport, AccountState)
"""The copied records that contain an offset of ``ops.control``."""


class ControlOffsets:
    """Offsets of the committed records of ``ops.control`` under both prefixes, in order.

    Parameters
    ----------
    source
        Offsets under the old prefix, ascending.
    end
        End offset of the topic there.

    Attributes
    ----------
    target
        Offsets of the first of them under the new prefix, as far as they are copied.
    """

    def __init__(self, source: Sequence[int], end: int) -> None:
        self._source, self._end = source, end
        self.target: Sequence[int] = ()

    @property
    def end(self) -> int:
        """End offset of the topic under the old prefix."""
        return self._end

    @property
    def records(self) -> int:
        """Number of records under the old prefix."""
        return len(self._source)

    def translated(self, offset: int) -> int:
        """Return the end offset under the new prefix that corresponds to an old one.

        Exactly the same records precede it.

        Raises
        ------
        Fatal
            The topic ends before that offset.
        """
        if offset > self._end:
            raise Fatal(
                f"a record is stamped with offset {offset} of {CONTROL}, which ends at "
                f"{self._end}: the topic was recreated, and this log cannot be derived again"
            )
        before = bisect_left(self._source, offset)
        if before > len(self.target):
            raise Fatal(
                f"{CONTROL} is copied up to record {len(self.target)} only, {before} are needed"
            )
        return self.target[before - 1] + 1 if before else 0


class Translator:
    """Translates the values of copied records.

    Parameters
    ----------
    codec
        Codec with the schemas of both prefixes.
    ids
        Topic -> schema id under the old prefix -> id under the new one; others stay.
    offsets
        Of ``ops.control``, under both.
    """

    def __init__(
        self, codec: Codec, ids: Mapping[str, Mapping[int, int]], offsets: ControlOffsets
    ) -> None:
        self._codec, self._ids, self._offsets = codec, ids, offsets
        self._plain: dict[bytes, bytes] = {}

    def value(self, topic: str, offset: int, value: bytes | None) -> bytes | None:
        """Return the value of a record under the new prefix.

        A value that is not an event of its topic is kept: it is refused under both prefixes.

        Parameters
        ----------
        topic
            Its name in ``streams.records.topics``.
        offset
            Offset of the record under the old prefix.

        Raises
        ------
        Fatal
            It refers to an offset of ``ops.control`` that does not exist, or was written with a
            schema of a newer version.
        """
        if value is None or len(value) < FRAME or value[0] != 0:
            return value
        head = self._plain.get(value[:FRAME]) if topic == CANDLES else None
        if head is not None:
            return head + value[FRAME:]
        old_id = int.from_bytes(value[1:FRAME], "big")
        new_id = self._ids[topic].get(old_id, old_id)
        framed = b"\0" + new_id.to_bytes(4, "big")
        try:
            event = self._codec.decode(topic, value)
        except DecodeError:
            return framed + value[FRAME:]
        if isinstance(event, Candle):
            self._plain[value[:FRAME]] = framed
        changed = self._translated(event, offset)
        if changed == event:
            return framed + value[FRAME:]
        return self._codec.encode_with_id(new_id, changed)

    def refers_back(self, value: bytes | None) -> bool:
        """Return whether a record of ``ops.control`` names an offset of that topic."""
        try:
            event = self._codec.decode(CONTROL, value)
        except DecodeError:
            return False
        return isinstance(event, Control) and _cleared_up_to(event) is not None

    def _translated(self, event: Event, offset: int) -> Event:
        if isinstance(event, Watermark) and event.control_offset > self._offsets.end:
            return event._replace(control_offset=MOST_OFFSET)  # refused under the new prefix too
        if isinstance(event, _STAMPED):
            end = self._offsets.translated(event.control_offset)
            return event._replace(control_offset=end)
        if isinstance(event, Control):
            read_to = _cleared_up_to(event)
            if read_to is not None:
                # an offset beyond the record itself clears exactly the records before it
                end = self._offsets.translated(min(read_to, offset))
                return event._replace(value=KillSwitchCommand(False, end).to_json())
        return event


def _cleared_up_to(record: Control) -> int | None:
    if record.kind != KIND or kill_switch_problem(record) is not None:
        return None
    return KillSwitchCommand.from_json(record.value).read_to


def id_changes(
    topics: Sequence[str],
    old: tuple[str, Mapping[str, Sequence[int]]],
    new: tuple[str, Mapping[str, Sequence[int]]],
) -> dict[str, dict[int, int]]:
    """Return topic -> schema id under the old prefix -> id of the same schema under the new one.

    Parameters
    ----------
    topics
        Names in ``streams.records.topics``.
    old, new
        The prefix, and subject -> ids of its versions, oldest first.
    """
    found: dict[str, dict[int, int]] = {}
    for topic in topics:
        pairs: dict[int, int] = {}
        for record in TOPICS[topic].records:
            before, after = (ids[subject(topic, record, prefix)] for prefix, ids in (old, new))
            pairs.update(zip(before, after, strict=True))
        found[topic] = pairs
    return found
