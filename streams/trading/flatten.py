"""An operator's flatten command: a record of ``ops.control``.

The command is in the log, so it does not matter which executor reads it, or when: every position
whose opening order precedes the record is closed, and none that is opened later. It comes with an
engaged kill switch, so that no position is opened meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from streams.records.events import Control
from streams.trading.account_command import account_word, record_account
from streams.trading.planning_state import Flatten

KIND: Final = "flatten"


def flatten_record(account_id: str, actor: str, reason: str, now_ms: int) -> Control:
    """Return the record that closes all positions of an account."""
    return account_word(KIND, account_id, actor, reason, now_ms)


def flatten_of(records: Iterable[tuple[int, Control]], account_id: str) -> Flatten | None:
    """Return the last flatten command of an account; None when there is none."""
    found = None
    for offset, record in records:
        if record.kind == KIND and record_account(record) == account_id:
            found = Flatten(offset, record.actor, record.reason)
    return found
