"""An operator's command to reconcile with the broker now.

The command is in the log; the executor's port is read-only. An executor that starts after the
command reconciles at its start anyway.
"""

from __future__ import annotations

from typing import Final

from streams.records.events import Control
from streams.trading.account_command import account_word, record_account

KIND: Final = "reconcile"


def reconcile_record(account_id: str, actor: str, reason: str, now_ms: int) -> Control:
    """Return the record that makes the executor of an account reconcile at once."""
    return account_word(KIND, account_id, actor, reason, now_ms)


def asks_to_reconcile(record: Control, account_id: str) -> bool:
    """Return whether a record makes the executor of an account reconcile at once."""
    return record.kind == KIND and record_account(record) == account_id
