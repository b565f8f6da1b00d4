"""An operator's word that the executor is to compare itself with the broker now.

It stands in the log, so nothing has to be sent to the executor: its port only answers questions.
An executor that starts after the word reconciles anyhow.
"""

from __future__ import annotations

from typing import Final

from streams.records.events import Control
from streams.trading.account_command import account_of, account_word

KIND: Final = "reconcile"


def reconcile_record(account_id: str, actor: str, reason: str, now_ms: int) -> Control:
    """Return the record that lets the executor of an account reconcile at once."""
    return account_word(KIND, account_id, actor, reason, now_ms)


def asks_to_reconcile(record: Control, account_id: str) -> bool:
    """Return whether a record lets the executor of an account reconcile at once."""
    return record.kind == KIND and account_of(record) == account_id
