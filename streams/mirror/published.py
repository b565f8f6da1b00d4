"""Values written into Valkey on demand or by the service, in addition to the mirror's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from redis.exceptions import RedisError

from streams.config.runtime import Runtime
from streams.mirror.keys import (
    ALLOC_BUDGET,
    ALLOC_BUDGET_TTL_SEC,
    BACKTEST_REPORT,
    BACKTEST_REPORT_TTL_SEC,
)
from streams.mirror.writer import connect, translate_valkey_error

DAY_MS = 86_400_000


async def publish_report(
    runtime: Runtime, filename: str, report: Mapping[str, Any], now_ms: int
) -> str:
    """Write a report as the latest one; return the key.

    Parameters
    ----------
    filename
        Path of its page; empty without one.
    report
        The report's JSON (``manifold report --json``).

    Raises
    ------
    Fatal, Recoverable
        Valkey refuses the login; it cannot be reached.
    """
    header = report["header"]
    span_ms = (header["to_ms"] or 0) - (header["from_ms"] or 0)
    content = {
        "filename": filename,
        "content": report,
        "ts": now_ms,
        "days": round(max(0, span_ms) / DAY_MS, 3),
        "instruments": list(report["instruments"]),
    }
    client = connect(runtime)
    try:
        text = json.dumps(content, separators=(",", ":"), allow_nan=False)
        await client.set(BACKTEST_REPORT, text, ex=BACKTEST_REPORT_TTL_SEC)
    except (RedisError, OSError) as error:
        raise translate_valkey_error(error, client) from error
    finally:
        await client.aclose()
    return BACKTEST_REPORT


class BudgetKey:
    """Writes the account's budget over one connection, kept while the service runs.

    Parameters
    ----------
    runtime
        The deployment.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._client = connect(runtime)

    async def write(self, budget: Mapping[str, Any]) -> None:
        """Replace the whole budget; it expires unless renewed.

        Raises
        ------
        Fatal, Recoverable
            Valkey refuses the login; it cannot be reached.
        """
        fields = {name: value for name, value in budget.items() if value is not None}
        try:
            async with self._client.pipeline(transaction=True) as both:
                both.delete(ALLOC_BUDGET)
                both.hset(ALLOC_BUDGET, mapping=fields)
                both.expire(ALLOC_BUDGET, ALLOC_BUDGET_TTL_SEC)
                await both.execute()
        except (RedisError, OSError) as error:
            raise translate_valkey_error(error, self._client) from error

    async def close(self) -> None:
        """Close the connection."""
        await self._client.aclose()
