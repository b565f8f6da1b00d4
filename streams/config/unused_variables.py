"""Environment variables that are known from the original system and are not read here.

One table: ``manifold doctor`` names those that are set, ``manifold config set`` explains them, and
``docs/unused-variables.md`` is made of it.
"""

from __future__ import annotations

from collections.abc import Collection
from fnmatch import fnmatchcase
from typing import Final, NamedTuple


class Unused(NamedTuple):
    """Variables that are not read.

    Attributes
    ----------
    names
        Environment names; ``*`` matches the rest of any name that is not a setting.
    why
        Why they are not read.
    instead
        What to use instead.
    """

    names: tuple[str, ...]
    why: str
    instead: str


UNUSED: Final[tuple[Unused, ...]] = (
    Unused(
        ("AUTO_UNITS",),
        "no order has a fixed size: it follows from the weights and the account",
        "RISK_ALLOC_TARGET_PCT and PM_MAX_PER_POS_PCT; RISK_MAX_POSITION_SIZE is the maximum "
        "units of "
        "one order",
    ),
    Unused(
        ("AUTO_SL_PIPS",),
        "the stop is that of the backtest run, so that both close at the same price: in percent of "
        "the entry price or in average true ranges, not in pips",
        "EXIT_PNL_STOP_PCT, or AUTO_TP_MODE=atr with ATR_STOP_MULT and ATR_BARS",
    ),
    Unused(
        ("AUTO_TP_*",),
        "of the brackets only AUTO_TP_MODE, AUTO_TP_RR and AUTO_TP_ON_FILL_ENABLED are settings; "
        "the average true range is that of bars of CANDLE_GRAN",
        "ATR_BARS, ATR_STOP_MULT and AUTO_TP_RR; EXIT_PNL_TARGET_PCT for a target in percent",
    ),
    Unused(
        ("PULSE_INTERVAL_SEC",),
        "no order is sent without a signal: there is no pulse trader",
        "thresholds that let more through, as manifold calibrate suggests them",
    ),
    Unused(
        ("BACKFILL_ON_DEPLOY", "BACKFILL"),
        "starting a process does not backfill anything",
        "manifold warmup, whose steps are backfill, prime and hydrate",
    ),
    Unused(
        ("RUN_TRIALS_ON_DEPLOY", "RUN_TRIALS"),
        "starting a process does not run trials",
        "manifold calibrate, manifold replay --set NAME=VALUE, or POST "
        "/api/studies/enqueue-long-run",
    ),
    Unused(
        ("APPLY_WINNERS_ON_DEPLOY",),
        "parameters change only on an operator's command, with a reason",
        "manifold params set or import for one instrument, manifold config set for all",
    ),
    Unused(
        ("DISENGAGE_KILL_ON_SUCCESS",),
        "the kill switch is cleared by a person only, with a reason",
        "manifold kill off --reason TEXT; KILL_SWITCH=0 lets a new deployment begin without",
    ),
    Unused(
        ("SEP_SKIP_PROCESSOR",),
        "every component is a separate process; leave out the ones you do not need",
        "start manifold worker, mirror, serve and trade as needed",
    ),
    Unused(
        ("STRANDS_C_MIN",),
        "there are no strands: coherence has one threshold",
        "AUTO_MIN_COHERENCE",
    ),
    Unused(
        ("REQ_CONSEC",),
        "a gate always opens after two consecutive passes and closes after two consecutive "
        "failures",
        "HYSTERESIS_DEFAULT and HYSTERESIS_PAIR_JSON, the bands around the floors",
    ),
    Unused(
        ("HOTBAND_PROCESSING_INTERVAL",),
        "there is no polling: every candle is processed as soon as it is in the log",
        "CANDLE_GRAN, EVAL_INTERVAL_SEC and ALLOC_INTERVAL_SEC, in event time",
    ),
    Unused(
        ("HOTBAND_WINDOW_DAYS",),
        "each purpose has its own lookback setting",
        "EVAL_SLICES_DAYS and EVAL_SPAN_DAYS for the backtest, CANDLE_COUNT for the manifold",
    ),
    Unused(
        ("QUANTUM_METRICS_LIB",),
        "there is no shared library: the metrics are C++ headers, compiled when a process starts",
        "nothing; manifold doctor checks the engine",
    ),
    Unused(
        ("WS_REQUIRE_DIAGNOSTICS",),
        "diagnostics are always on: every record names its source",
        "GET /api/authenticity",
    ),
    Unused(
        ("WS_REQUIRE_NATIVE",),
        "all metrics come from the engine: without it nothing is derived",
        "nothing; GET /api/authenticity says native for every instrument",
    ),
    Unused(
        ("WS_VALKEY_RETRY_*",),
        "the WebSocket follows the log, not Valkey",
        "nothing; unavailable servers are retried with back-off",
    ),
    Unused(
        ("WS_TOKEN",),
        "REST and WebSocket use the same token",
        "API_TOKEN or API_TOKEN_FILE",
    ),
    Unused(
        ("BACKEND_API_URL",),
        "processes communicate through the log and call no backend",
        "KAFKA_BOOTSTRAP_SERVERS; TRADE_STATUS_URL and FEED_METRICS_URL where the service queries "
        "other processes",
    ),
    Unused(
        ("RISK_MAX_*",),
        "no limit has this name",
        "the RISK_MAX_ settings of manifold config show",
    ),
    Unused(
        ("OANDA_HTTP_*", "OANDA_CB_*"),
        "no setting of the OANDA client has this name",
        "the OANDA_HTTP_ and OANDA_CB_ settings of manifold config show",
    ),
)


def unused(name: str, known: Collection[str]) -> Unused | None:
    """Return the row of a variable that is not read; None when it is a setting or unknown.

    Parameters
    ----------
    name
        Environment name.
    known
        The environment names of all settings.
    """
    if name in known:
        return None
    for row in UNUSED:
        if any(fnmatchcase(name, pattern) for pattern in row.names):
            return row
    return None


def describe_unused(name: str, row: Unused) -> str:
    """Return one sentence: why a variable is not read and what to use instead."""
    return f"{name} is not read: {row.why}; use instead: {row.instead}"


def as_markdown() -> str:
    """Return the table as ``docs/unused-variables.md``."""
    lines = [
        "# Variables that are not read",
        "",
        "Known from the original system. `manifold doctor` names those that are set; nothing reads",
        "them. The table is that of `streams/config/unused_variables.py`:",
        "`python -m streams.config.unused_variables > docs/unused-variables.md` writes this page.",
        "",
        "| variable | why it is not read | instead |",
        "|---|---|---|",
    ]
    for row in UNUSED:
        names = ", ".join(f"`{name}`" for name in row.names)
        lines.append(f"| {names} | {row.why} | {row.instead} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(as_markdown(), end="")
