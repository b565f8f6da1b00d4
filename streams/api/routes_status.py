"""Whether it lives, and the aggregate of everything."""

from __future__ import annotations

from fastapi import APIRouter

from streams.api.global_status import GlobalStatus, global_status
from streams.api.live import LiveDep
from streams.api.responses import READS

router = APIRouter(tags=["status"])


@router.get("/api/global-status", responses=READS)
async def read_global_status(live: LiveDep) -> GlobalStatus:
    """Everything of now: market, kill switch, account, instruments, weights, orders, lag."""
    return global_status(live)
