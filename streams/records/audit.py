"""``audit`` records of ``ops.control``: a call that changed something, with who and why.

They are for people who ask later. Nothing is derived from them and nobody obeys them; a call that
is itself a word in the log (kill switch, reconcile) stands there as that word instead.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from streams.errors import Fatal
from streams.records.events import Control

KIND: Final = "audit"
MAX_VALUE = 4_096


def audit_record(
    operation: str,
    parameters: Mapping[str, Any],
    actor: str,
    reason: str,
    now_ms: int,
    instrument: str | None = None,
) -> Control:
    """Return the record of a call.

    Parameters
    ----------
    operation
        Method and path, such as ``POST /api/candles/fetch``.
    parameters
        What the call was given, as JSON has it; no secrets.
    actor, reason
        Who and why.
    now_ms
        Time stamp of the record.
    instrument
        The one it is about, where it is about one.

    Raises
    ------
    Fatal
        The parameters are longer than such a record may be.
    """
    said = {"operation": operation, "parameters": dict(parameters)}
    value = json.dumps(said, sort_keys=True, separators=(",", ":"), allow_nan=False)
    if len(value) > MAX_VALUE:
        raise Fatal(
            f"{operation}: its parameters make an audit record of {len(value)} characters, the "
            f"most is {MAX_VALUE}"
        )
    return Control(KIND, instrument, value, actor, reason, now_ms)
