"""Write a planned change of the configuration, and detect concurrent changes."""

from __future__ import annotations

from streams.config.runtime import Runtime
from streams.errors import Fatal
from streams.kafka.control_topic import append_control, read_control
from streams.records.codec import Codec
from streams.records.config_change import ConfigChange
from streams.records.control import ControlLog
from streams.records.events import Control


def require_unchanged(change: ConfigChange, log: ControlLog) -> None:
    """Refuse a change that was planned on a configuration that is no longer active.

    Raises
    ------
    Fatal
        The configuration has changed since.
    """
    planned_on = change.before.config_id if change.before else ""
    if log.state(log.end).config_id != planned_on:
        raise Fatal(
            "the configuration was changed by another user meanwhile: nothing was written; check "
            "it (manifold config show) and change it again"
        )


def undone(log: ControlLog, start: int, offset: int) -> str:
    """Return a message about a concurrent change that the one at ``offset`` overwrote, or "".

    Parameters
    ----------
    log
        ``ops.control``, read at least to ``offset``.
    start
        End of the log when the change was planned.
    """
    between = [r for at, r in log.records if start <= at < offset and r.kind == "config"]
    if not between:
        return ""
    last = between[-1]
    return (
        f"{last.actor} changed the configuration at the same moment ({last.reason}): this change "
        "overwrites it; compare both (manifold tail ops.control -n 5)"
    )


def write_change(
    runtime: Runtime, codec: Codec, log: ControlLog, change: ConfigChange, record: Control
) -> tuple[int, str]:
    """Write the record of a change.

    Parameters
    ----------
    log
        ``ops.control`` as read for the plan; it is read to its end again.

    Returns
    -------
    tuple
        Offset of the record, and the result of ``undone``.

    Raises
    ------
    Fatal
        As ``require_unchanged``; nothing was written.
    Recoverable
        As ``append_control``.
    """
    start = read_control(runtime, codec, log).end
    require_unchanged(change, log)
    (offset,) = append_control(runtime, codec, [record])
    return offset, undone(read_control(runtime, codec, log), start, offset)
