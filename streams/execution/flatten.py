"""An operator's word that everything is to be closed: a record of ``ops.control``.

The record stands in the log, so it does not matter which executor reads it, or when: every position
whose opening order was made before the record is closed, and nothing that is opened later is. It
goes with an engaged kill switch, so that nothing is opened in the meantime.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from streams.events import Control
from streams.execution.plan import Flatten

KIND = "flatten"


def flatten_record(account_id: str, actor: str, reason: str, now_ms: int) -> Control:
    """Return the record that closes everything of an account."""
    value = json.dumps({"account_id": account_id}, sort_keys=True, separators=(",", ":"))
    return Control("flatten", None, value, actor, reason, now_ms)


def flatten_problem(record: Control) -> str | None:
    """Return why a ``flatten`` record is not what its kind demands; None when it is."""
    try:
        said = json.loads(record.value)
    except ValueError:
        return "flatten record: its value is not JSON"
    names = isinstance(said, dict) and list(said) == ["account_id"]
    if not names or not isinstance(said["account_id"], str) or not said["account_id"]:
        return "flatten record: it needs account_id, a text, and nothing else"
    return None


def flatten_of(records: Iterable[tuple[int, Control]], account_id: str) -> Flatten | None:
    """Return the last word to close everything of an account; None when there is none."""
    found = None
    for offset, record in records:
        if record.kind != KIND or flatten_problem(record) is not None:
            continue
        if json.loads(record.value)["account_id"] == account_id:
            found = Flatten(offset, record.actor, record.reason)
    return found
