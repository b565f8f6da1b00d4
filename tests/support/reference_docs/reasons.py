"""``docs/reference/reasons.md``: the closed lists of codes that records, files and orders carry."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import streams
from streams.core.layout import EXIT_REASONS
from streams.monitoring.alerts import NAMES, RULES
from streams.pipeline.allocation import REASONS as ALLOCATION_REASONS
from streams.records.codec import DECODE_REASONS
from streams.records.reasons import DecisionRefusal, Reason, Refusal
from tests.support.reference_docs.markdown import code, page, table

INTRO = """
Codes are stable: a program may compare them. Their texts (`detail`) may change.
"""
EXITS = {
    "stop": "the stop was touched, or the bar opened beyond it",
    "target": "the target was touched",
    "session_close": "the session or the market week is closed, or near its close",
    "slope_reversal": "the direction turned against the position (EXIT_SLOPE_ENABLED)",
    "max_hold": "the position was held for PM_DEFAULT_HOLD_SECONDS",
}
ALLOCATIONS = {
    "selected": "`published`: the entries are those of this epoch",
    "none_eligible": "`held`: no instrument can be selected, the last entries are kept; "
    "`cleared`: there are none",
    "hold_expired": "`cleared`: held for ALLOC_MAX_HOLD_SEC",
}


def document() -> str:
    """Return the page."""
    return page(
        "Reasons",
        INTRO,
        "## Why an instrument is not eligible\n",
        "`reasons` of `opt.gates`. All that apply are given; none means eligible.\n",
        table(["reason", "when"], [(code(one.value), one.doc) for one in Reason]),
        "## Why a record of the log was refused\n",
        "`reason` of `dead.letters`: the record could be read, and a stage refused it.\n",
        table(["reason", "when"], [(code(one.value), one.doc) for one in Refusal]),
        "`reason` of `dead.letters`: the bytes could not be read.\n",
        table(["reason", "when"], [(code(name), doc) for name, doc in DECODE_REASONS.items()]),
        "## Why the executor does not act on a decision or on weights\n",
        "`refused_decisions` of the executor's `/status`, "
        "`manifold_refused_decisions_total{topic,reason}`.\n",
        table(["reason", "when"], [(code(one.value), one.doc) for one in DecisionRefusal]),
        "## Why a simulated trade ended\n",
        "`exit_reason` of `bt.trades`.\n",
        table(["reason", "when"], [(code(one), EXITS[one]) for one in EXIT_REASONS if one]),
        "## Why weights are as they are\n",
        "`reason` of `risk.weights`.\n",
        table(["reason", "when"], [(code(one), ALLOCATIONS[one]) for one in ALLOCATION_REASONS]),
        "## Failure signals\n",
        "`sep_failure_signal{name}`, `GET /api/preflight` and the page; what to do about each is "
        "in [operations.md](../operations.md#failure-signals).\n",
        table(["signal", "condition"], signals()),
        "## Errors of the REST API\n",
        "`error` of an error response; `detail` is a sentence.\n",
        table(["error", "status"], [(code(one), status) for one, status in api_errors()]),
        "## Rows of candle files\n",
        "See [candle-files.md](../candle-files.md).\n",
    )


def signals() -> list[tuple[str, str]]:
    """Return every failure signal with the first line of its rule."""
    docs = [(rule.__doc__ or "").strip().splitlines()[0] for rule in RULES]
    return [
        (code(name), re.sub(r" \(docs/.*?\)", "", doc.removeprefix("Judge ")))
        for name, doc in zip(NAMES, docs, strict=True)
    ]


def api_errors() -> list[tuple[str, str]]:
    """Return the codes that the service's source answers with, and their HTTP status."""
    found: dict[str, set[int]] = {"not_found": {404}}
    for path in Path(streams.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            values = [one.value for one in node.args[:2] if isinstance(one, ast.Constant)]
            if node.func.id in ("ApiError", "_answer") and len(values) == 2:
                status, name = values
                if isinstance(name, str) and isinstance(status, int):
                    found.setdefault(name, set()).add(status)
    return [(name, ", ".join(map(str, sorted(found[name])))) for name in sorted(found)]
