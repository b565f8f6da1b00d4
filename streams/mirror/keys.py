"""The table of Valkey keys that the mirror writes (docs/spec/trading-loop.md 2.1)."""

from __future__ import annotations

from typing import Literal, NamedTuple

HISTORY_MS = 86_400_000
HOUR_MS = 3_600_000
SUMMARY_TTL_MS = 3_600_000
EVALUATIONS_TTL_MS = 35 * 86_400_000
BEST_CONFIG_TTL_MS = 14 * 86_400_000
DAY_MANIFOLD_TTL_SEC = 35 * 86_400
MANIFOLD_CHANNEL = "ws:manifold"
GATES_BLOB = "opt:rolling:gates_blob"
ALLOCATION_WEIGHTS = "risk:allocation_weights"
ALLOCATOR_STATUS = "opt:allocator:status"
GLOBAL = "GLOBAL"
"""Stands for the whole deployment in keys that name an instrument."""
LEDGER = "sep:ledger:events"
LEDGER_ENTRIES = 5_000
ALLOC_BUDGET = "risk:alloc_budget"
ALLOC_BUDGET_TTL_SEC = 60
BACKTEST_REPORT = "opt:backtests:report:latest"
BACKTEST_REPORT_TTL_SEC = 14 * 86_400
GUARD = "manifold:mirror:as_of"
"""Hash: key -> ``as_of_ms`` of its value. It outlives the values, so that a value that expired is
never followed by an older one. One field per last-value key."""
POSITIONS = "manifold:mirror:positions"
"""Hash: partition -> offset up to which it is mirrored. Stored with the values: a server that loses
its last writes (killed before they were on disk, or failed over) loses these too."""


ValueType = Literal["string", "hash", "zset"]


class KeyKind(NamedTuple):
    """One family of keys.

    Attributes
    ----------
    pattern
        Name, with placeholders such as ``{INST}``.
    glob
        Pattern for SCAN that matches all keys of the family.
    content
        One line of documentation.
    """

    pattern: str
    glob: str
    content: str

    @property
    def value_type(self) -> ValueType:
        """Type of its values in Valkey; the first word of its documentation names other types."""
        if self.content.startswith("ZSET"):
            return "zset"
        return "hash" if self.content.startswith("HASH") else "string"


KEYS = (
    KeyKind(
        "md:candles:{INST}:{GRAN}", "md:candles:*", "ZSET, score bar_ms, one JSON candle per bar"
    ),
    KeyKind("sep:signal:{INST}:{ts_ns}", "sep:signal:*", "JSON signal; ts_ns = bar_ms * 1e6"),
    KeyKind("sep:signal_index:{INST}", "sep:signal_index:*", "ZSET, score bar_ms, signal keys"),
    KeyKind(
        "ws:last:manifold:{INST}",
        "ws:last:manifold:*",
        "JSON; expires 300 s after as_of_ms, with longer bars a bar + FEED_SETTLE_MS + 60 s",
    ),
    KeyKind(
        "ws:manifold:hist:{INST}", "ws:manifold:hist:*", "ZSET, score as_of_ms, the last 24 hours"
    ),
    KeyKind(
        "bt:rolling:summary:{INST}",
        "bt:rolling:summary:*",
        "JSON: the last evaluation of the rolling backtest; expires 1 h after as_of_ms",
    ),
    KeyKind("opt:rolling:eligible:{INST}", "opt:rolling:eligible:*", '"1" or "0"'),
    KeyKind("opt:rolling:passes:{INST}", "opt:rolling:passes:*", "passes in a row"),
    KeyKind("opt:rolling:fails:{INST}", "opt:rolling:fails:*", "fails in a row"),
    KeyKind("opt:rolling:misses:{INST}", "opt:rolling:misses:*", "misses in a row"),
    KeyKind("opt:rolling:cooldown:{INST}", "opt:rolling:cooldown:*", '"1" or "0"'),
    KeyKind(
        "bt:rolling:hist:{INST}:{params_id}",
        "bt:rolling:hist:*",
        "ZSET, score the hour (ms), JSON of its first evaluation; the floors are percentiles of "
        "these, the newest EVAL_HISTORY_HOURS are kept; expires 35 days after the last one",
    ),
    KeyKind(
        "opt:best_config:{INST}",
        "opt:best_config:*",
        "JSON {params, env, summary, ts, reason, actor}: the instrument's own parameters (manifold "
        "params), while they are active; INST is GLOBAL: those of the active "
        "configuration. Expires 14 days after they are withdrawn",
    ),
    KeyKind(
        "opt:best_config_meta:{INST}",
        "opt:best_config_meta:*",
        "JSON {instrument, ts, actor, reason, in_force, names, source}: who set them, and why",
    ),
    KeyKind(
        LEDGER,
        LEDGER,
        "ZSET, score ms, JSON: every order intent, with the guards that refused it, and every "
        "broker report; the newest 5,000",
    ),
    KeyKind(GATES_BLOB, GATES_BLOB, "JSON: ts, gates, cooldowns, bufs; one write per epoch"),
    KeyKind(ALLOCATION_WEIGHTS, ALLOCATION_WEIGHTS, "JSON {INST: weight}"),
    KeyKind(ALLOCATOR_STATUS, ALLOCATOR_STATUS, "JSON status of the last epoch"),
    KeyKind(
        GUARD,
        GUARD,
        "HASH: event time of every last value; an older value never replaces a newer one",
    ),
    KeyKind(POSITIONS, POSITIONS, "HASH: offset up to which each partition of the log is mirrored"),
)
"""The keys that the mirror writes; a rebuild removes exactly these."""

KEYS_OF_OTHERS = (
    KeyKind(
        "ops:kill_switch",
        "ops:kill_switch",
        '"1" or "0"; the lease holder writes it, an operator may SET it to 1; expires '
        "without a lease holder; name: KILL_SWITCH_KEY",
    ),
    KeyKind(
        "ops:kill_switch:kept",
        "ops:kill_switch:kept",
        "JSON: the value the lease holder last wrote, when, and up to which offset of ops.control",
    ),
)
"""Keys of the kill switch: neither the mirror nor a rebuild writes or removes them."""

KEYS_OF_THE_SERVICE = (
    KeyKind(
        ALLOC_BUDGET,
        ALLOC_BUDGET,
        "HASH of GET /api/risk/budget: currency, balance, nav, margin_available, base, target_pct, "
        "budget, ts_ms; written by manifold serve while an executor reports its account; expires "
        "60 s later",
    ),
)
"""Values that the service writes and the log does not hold."""

PROCESS_STARTS = "ops:process_starts"
KEYS_OF_PROCESSES = (
    KeyKind(
        PROCESS_STARTS,
        PROCESS_STARTS,
        "ZSET, score ms: every start of worker, feed, mirror, executor and service in the last "
        "hour, as `START_MS PROGRAM INSTANCE`; for the failure signal restarts",
    ),
)
"""Values that every process writes and the log does not hold."""

KEYS_ON_DEMAND = (
    KeyKind(
        BACKTEST_REPORT,
        BACKTEST_REPORT,
        "JSON {filename, content, ts, days, instruments}: the report of manifold report or replay "
        "with --publish; content is its JSON; expires after 14 days",
    ),
    KeyKind(
        "manifold:{INST}:{day}",
        "manifold:*:[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]",
        "gzip JSON: the manifold of a UTC day, written by manifold snapshot --output valkey; "
        "expires after 35 days",
    ),
)
"""Written by a command on demand; neither the mirror nor a rebuild touches them."""

KEYS_NOT_WRITTEN = (
    KeyKind(
        "manifold:metrics:latest",
        "manifold:metrics:latest",
        "ws:last:manifold:{INST} and GET /api/manifold/latest have the same figures of every pair",
    ),
    KeyKind(
        "bt:trial:*",
        "bt:trial:*",
        "a trial is POST /api/studies/enqueue-long-run, or manifold replay --set; GET "
        "/api/backtest/latest-run, /results and /trades have the results",
    ),
    KeyKind(
        "gate:last:{INST}, gate:index:{INST}, pricing:history:*, ops:risk_summary, ...",
        "gate:*",
        "of later generations: opt.gates and GET /api/trade/readiness, /api/candles, "
        "/api/global-status",
    ),
)
"""Keys of the original that are not written here, each with its replacement."""


def position_field(cluster_id: str, topic: str, partition: int) -> str:
    """Return the field of a partition in ``POSITIONS``; the cluster id is part of it."""
    return f"{cluster_id}/{topic}/{partition}"


def candles_key(instrument: str, granularity: str) -> str:
    """Return the key of an instrument's candles."""
    return f"md:candles:{instrument}:{granularity}"


def signal_key(instrument: str, bar_ms: int) -> str:
    """Return the key of a signal; its timestamp is in nanoseconds, as in the profile."""
    return f"sep:signal:{instrument}:{bar_ms * 1_000_000}"


def signal_index_key(instrument: str) -> str:
    """Return the key of an instrument's signal index."""
    return f"sep:signal_index:{instrument}"


def live_config_channel(instrument: str) -> str:
    """Return the channel on which the parameters of an instrument are published."""
    return f"opt:live_config:changed:{instrument}"


def manifold_key(instrument: str) -> str:
    """Return the key of an instrument's last manifold."""
    return f"ws:last:manifold:{instrument}"


def history_key(instrument: str) -> str:
    """Return the key of an instrument's recent manifolds."""
    return f"ws:manifold:hist:{instrument}"


def day_manifold_key(instrument: str, day: str) -> str:
    """Return the key of an instrument's manifold of a UTC day, such as 2014-05-30."""
    return f"manifold:{instrument}:{day}"


def summary_key(instrument: str) -> str:
    """Return the key of an instrument's last evaluation."""
    return f"bt:rolling:summary:{instrument}"


def rolling_key(what: str, instrument: str) -> str:
    """Return the key of ``passes``, ``fails``, ``misses`` or ``cooldown`` of an instrument."""
    return f"opt:rolling:{what}:{instrument}"


def evaluations_key(instrument: str, params_id: str) -> str:
    """Return the key of the hourly evaluations of an instrument's run."""
    return f"bt:rolling:hist:{instrument}:{params_id}"


def best_config_meta_key(instrument: str) -> str:
    """Return the key of the origin of an instrument's parameters (who set them, and why)."""
    return f"opt:best_config_meta:{instrument}"


def best_config_key(instrument: str) -> str:
    """Return the key of an instrument's parameters."""
    return f"opt:best_config:{instrument}"


def eligible_key(instrument: str) -> str:
    """Return the key of an instrument's gate decision."""
    return f"opt:rolling:eligible:{instrument}"
