"""An operator's command to the executor of one account: a record of ``ops.control``."""

from __future__ import annotations

import json
from typing import Literal

from streams.records.events import Control


def account_word(
    kind: Literal["flatten", "reconcile"], account_id: str, actor: str, reason: str, now_ms: int
) -> Control:
    """Return the record of a command of type ``kind`` to the executor of an account."""
    value = json.dumps({"account_id": account_id}, sort_keys=True, separators=(",", ":"))
    return Control(kind, None, value, actor, reason, now_ms)


def account_word_problem(record: Control) -> str | None:
    """Return what is wrong with the account id of a record; None when it is valid."""
    try:
        said = json.loads(record.value)
    except ValueError:
        return f"{record.kind} record: its value is not JSON"
    names = isinstance(said, dict) and list(said) == ["account_id"]
    if not names or not isinstance(said["account_id"], str) or not said["account_id"]:
        return f"{record.kind} record: it needs account_id, a text, and nothing else"
    return None


def record_account(record: Control) -> str | None:
    """Return the account that a record is for; None when it names none."""
    if account_word_problem(record) is not None:
        return None
    return str(json.loads(record.value)["account_id"])
