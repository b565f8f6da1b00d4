"""``audit`` records of ``ops.control``: mutating calls, with actor and reason.

Audit records have no effect. A call that is itself a control record (kill switch, reconcile) is
recorded by that record instead.
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
    """Return the audit record of a call.

    Parameters
    ----------
    operation
        Method and path, such as ``POST /api/candles/fetch``.
    parameters
        Parameters of the call as JSON values; no secrets.
    actor, reason
        Who made the call, and why.
    now_ms
        Time stamp of the record.
    instrument
        Instrument of the call, if any.

    Raises
    ------
    Fatal
        The parameters are too long.
    """
    said = {"operation": operation, "parameters": dict(parameters)}
    value = json.dumps(said, sort_keys=True, separators=(",", ":"), allow_nan=False)
    if len(value) > MAX_VALUE:
        raise Fatal(
            f"{operation}: the parameters make an audit record of {len(value)} characters, the "
            f"maximum is {MAX_VALUE}"
        )
    return Control(KIND, instrument, value, actor, reason, now_ms)
