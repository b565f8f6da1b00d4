"""The one list of names in Valkey that the mirror writes (core-trading-loop.md 2.1)."""

from __future__ import annotations

from typing import NamedTuple

HISTORY_MS = 86_400_000
SUMMARY_TTL_MS = 3_600_000
BEST_CONFIG_TTL_MS = 14 * 86_400_000
MANIFOLD_CHANNEL = "ws:manifold"
GATES_BLOB = "opt:rolling:gates_blob"
ALLOCATION_WEIGHTS = "risk:allocation_weights"
ALLOCATOR_STATUS = "opt:allocator:status"
GUARD = "manifold:mirror:as_of"
"""Hash: key -> ``as_of_ms`` of its value. It outlives the values, so that a value that expired is
never followed by an older one. One field per last-value key."""
POSITIONS = "manifold:mirror:positions"
"""Hash: partition -> offset up to which it is in here. Kept beside the values: a server that loses
its last writes (killed before they were on disk, failed over) loses these with them."""


class KeyKind(NamedTuple):
    """One family of keys.

    Attributes
    ----------
    pattern
        Name, with ``{INST}`` and the like for what varies.
    glob
        What finds all of them.
    content
        One line of documentation.
    """

    pattern: str
    glob: str
    content: str


KEYS = (
    KeyKind(
        "md:candles:{INST}:{GRAN}", "md:candles:*", "ZSET, score bar_ms, one JSON candle a bar"
    ),
    KeyKind("sep:signal:{INST}:{ts_ns}", "sep:signal:*", "JSON signal; ts_ns = bar_ms * 1e6"),
    KeyKind("sep:signal_index:{INST}", "sep:signal_index:*", "ZSET, score bar_ms, signal keys"),
    KeyKind(
        "ws:last:manifold:{INST}",
        "ws:last:manifold:*",
        "JSON; gone 300 s after as_of_ms, with longer bars a bar + FEED_SETTLE_MS + 60 s",
    ),
    KeyKind(
        "ws:manifold:hist:{INST}", "ws:manifold:hist:*", "ZSET, score as_of_ms, the last 24 hours"
    ),
    KeyKind(
        "bt:rolling:summary:{INST}",
        "bt:rolling:summary:*",
        "JSON: the last evaluation of the rolling backtest; gone 1 h after as_of_ms",
    ),
    KeyKind("opt:rolling:eligible:{INST}", "opt:rolling:eligible:*", '"1" or "0"'),
    KeyKind("opt:rolling:passes:{INST}", "opt:rolling:passes:*", "passes in a row"),
    KeyKind("opt:rolling:fails:{INST}", "opt:rolling:fails:*", "fails in a row"),
    KeyKind("opt:rolling:misses:{INST}", "opt:rolling:misses:*", "misses in a row"),
    KeyKind("opt:rolling:cooldown:{INST}", "opt:rolling:cooldown:*", '"1" or "0"'),
    KeyKind(
        "opt:best_config:{INST}",
        "opt:best_config:*",
        "JSON: the last parameters set for the instrument; gone after 14 days",
    ),
    KeyKind(GATES_BLOB, GATES_BLOB, "JSON: ts, gates, cooldowns, bufs; one write per epoch"),
    KeyKind(ALLOCATION_WEIGHTS, ALLOCATION_WEIGHTS, "JSON {INST: weight}"),
    KeyKind(ALLOCATOR_STATUS, ALLOCATOR_STATUS, "JSON status of the last epoch"),
    KeyKind(GUARD, GUARD, "HASH: event time of every last value, so that none goes backwards"),
    KeyKind(POSITIONS, POSITIONS, "HASH: up to where each partition of the log is in here"),
)
"""Everything the mirror writes, and nothing else: a rebuild removes exactly these."""

KEYS_OF_OTHERS = (
    KeyKind(
        "ops:kill_switch",
        "ops:kill_switch",
        '"1" or "0"; the keeper of the kill switch writes it, an operator may SET it to 1; gone '
        "when no keeper lives; name: KILL_SWITCH_KEY",
    ),
    KeyKind(
        "ops:kill_switch:kept",
        "ops:kill_switch:kept",
        "JSON: what the keeper last wrote there, when, and up to which offset of ops.control",
    ),
)
"""What else of ours is in Valkey: neither the mirror nor a rebuild writes or removes it."""


def position_field(cluster_id: str, topic: str, partition: int) -> str:
    """Return the field of a partition in ``POSITIONS``; another cluster's log is another log."""
    return f"{cluster_id}/{topic}/{partition}"


def candles_key(instrument: str, granularity: str) -> str:
    """Return the key of an instrument's candles."""
    return f"md:candles:{instrument}:{granularity}"


def signal_key(instrument: str, bar_ms: int) -> str:
    """Return the key of a signal; the profile stamps it in nanoseconds."""
    return f"sep:signal:{instrument}:{bar_ms * 1_000_000}"


def signal_index_key(instrument: str) -> str:
    """Return the key of an instrument's index of signals."""
    return f"sep:signal_index:{instrument}"


def manifold_key(instrument: str) -> str:
    """Return the key of an instrument's last manifold."""
    return f"ws:last:manifold:{instrument}"


def history_key(instrument: str) -> str:
    """Return the key of an instrument's recent manifolds."""
    return f"ws:manifold:hist:{instrument}"


def summary_key(instrument: str) -> str:
    """Return the key of an instrument's last evaluation."""
    return f"bt:rolling:summary:{instrument}"


def rolling_key(what: str, instrument: str) -> str:
    """Return the key of ``passes``, ``fails``, ``misses`` or ``cooldown`` of an instrument."""
    return f"opt:rolling:{what}:{instrument}"


def best_config_key(instrument: str) -> str:
    """Return the key of an instrument's parameters."""
    return f"opt:best_config:{instrument}"


def eligible_key(instrument: str) -> str:
    """Return the key of an instrument's verdict."""
    return f"opt:rolling:eligible:{instrument}"
