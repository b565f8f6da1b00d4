"""Keeps ``risk:alloc_budget`` in Valkey equal to the answer of GET /api/risk/budget."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from streams.errors import Fatal, Recoverable
from streams.mirror.published import BudgetKey
from streams.service.errors import ApiError
from streams.service.live import Live
from streams.service.routes_trading import risk_budget

EVERY_S: Final = 10.0

log = logging.getLogger("manifold.api")


async def keep_budget(live: Live) -> None:
    """Write the budget periodically, until cancelled; skipped while no executor reports it."""
    key, trouble = BudgetKey(live.runtime), ""
    try:
        while True:
            try:
                if live.facts.executor.state == "running":
                    budget = await risk_budget(live)
                    await key.write(budget.model_dump() | {"ts_ms": live.now_ms()})
                trouble = ""
            except ApiError:
                trouble = ""  # the executor does not know the account yet
            except (Fatal, Recoverable) as error:
                if str(error) != trouble:
                    log.warning("risk:alloc_budget is not written: %s", error)
                trouble = str(error)
            await asyncio.sleep(EVERY_S)
    finally:
        await key.close()
