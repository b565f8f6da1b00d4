"""Runs a history of an account at OANDA's test broker in one process on a virtual clock."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import aiohttp
from aiohttp import web

from streams.config.oanda import Oanda
from streams.config.trading import Trading
from streams.oanda.access import Access
from streams.oanda.client import OandaClient
from streams.trading.brokers.oanda import OandaBroker
from streams.trading.executor import Executor
from tests.support import virtual_time
from tests.support.executor_stand import parts_of
from tests.support.histories import (
    PAIRS,
    TOKEN,
    Delist,
    Halt,
    Heal,
    History,
    Step,
    happen_at_venue,
    prepare,
    shown,
)
from tests.support.history_account import HistoryAccount, ProcessJournal
from tests.support.history_checks import Seen, due_to_close, require_settled, require_sound
from tests.support.v20.broker import Broker
from tests.support.v20.control import broker_state
from tests.support.v20.faults import SPARED
from tests.support.v20.options import Options
from tests.support.virtual_network import HOST, Network, Process
from tests.support.virtual_time import VirtualLoop

TRADING = Trading(
    trading_venue="oanda", max_spread_bps=50.0, pm_ramp_step_pct=0.5, fresh_max_ws_age_sec=86_400.0,
    risk_max_daily_loss=1.0, risk_max_drawdown=1.0,
)  # fmt: skip


class LoopVenue:
    """The test broker in this loop, and somebody else who uses it."""

    def __init__(self, network: Network) -> None:
        self._network, self.process = network, Process("venue")
        self.broker = Broker(Options(token=TOKEN, hours="always"))
        # that its answers are as described is tried elsewhere, and takes half of the time
        self.broker.contract = None
        self._session: aiohttp.ClientSession
        self._runner: web.AppRunner
        self.port = 0

    @property
    def account_id(self) -> str:
        """The account."""
        return self.broker.options.account_id

    async def start(self) -> None:
        """Serve."""
        self.port = await self.process.start(self._serve())
        self._session = aiohttp.ClientSession()

    async def _serve(self) -> int:
        self._runner = web.AppRunner(self.broker.app, access_log=None)
        await self._runner.setup()
        assert self._runner.server is not None
        return self._network.listen(self.process, self._runner.server)

    async def stop(self) -> None:
        """End it and every connection."""
        self.broker.stopping.set()
        await self._session.close()
        await self.process.kill()

    async def _call(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.broker.token}", SPARED: "1"}
        url = f"http://{HOST}:{self.port}{path}"
        async with self._session.request(method, url, json=body, headers=headers) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if text else None

    async def api(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Make a request of the API."""
        return await self._call(method, "/v3" + path.replace("{account}", self.account_id), body)

    async def control(self, method: str, path: str, body: Any = None) -> Any:
        """Use the control API."""
        status, answer = await self._call(method, f"/control{path}", body)
        assert status < 400, answer
        return answer


class HistoryRun(HistoryAccount):
    """An account at the test broker."""

    mode = "practice"

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self.venue = LoopVenue(Network(loop))
        self.account_id = self.venue.account_id
        self.prices: dict[str, float] = {}

    async def trade(self, process: Process) -> None:
        """Run an executor, beginning with what the log says."""
        settings = Oanda.from_env(
            {
                "OANDA_API_KEY": TOKEN, "OANDA_ACCOUNT_ID": self.account_id,
                "OANDA_ENVIRONMENT": "practice", "OANDA_STREAM_URL": "http://127.0.0.1:1",
                "OANDA_BASE_URL": f"http://{HOST}:{self.venue.port}",
            }
        )  # fmt: skip
        async with OandaClient(settings) as client:
            client.access = Access(settings, time.monotonic)
            venue = OandaBroker(client, TRADING.order_settle_sec)
            self.arrivals = asyncio.Queue()
            parts = await parts_of(
                venue, TRADING, ProcessJournal(self, process),
                self.memory.ledger(self.account_id, self.mode), self.control, list(self.log),
                self.arrivals, self.switch,
            )  # fmt: skip
            self.executor = Executor(parts, clock=time.monotonic)
            await self.executor.run(asyncio.Event())

    async def happen_elsewhere(self, step: Step) -> None:
        """Let a step happen at the broker."""
        await happen_at_venue(step, self.venue, self.prices)

    async def heal(self) -> None:
        """End every fault, halt and delisting."""
        await self.happen(Heal())
        for name in PAIRS:
            await self.happen(Halt(name, False))
            await self.happen(Delist(name, False))

    def seen(self) -> Seen:
        """Return what there is to see."""
        account = broker_state(self.venue.broker)["accounts"][self.account_id]
        ledger = self.memory.ledger(self.account_id, self.mode)
        return Seen(ledger, account, self.venue.broker.requests, self.switch.said)

    def require_sound(self) -> None:
        """Assert what must hold at every instant."""
        require_sound(self.seen())

    async def require_settled(self) -> None:
        """Assert what must hold when everything works again and was left alone."""
        seen = self.seen()
        require_settled(seen, due_to_close(seen.ledger, self.told))

    async def run(self, history: History) -> Seen:
        """Go through a history to its end; return what there is to see then."""
        await self.venue.start()
        try:
            self.prices = await prepare(self.venue)
            await self.live(history)
        finally:
            await self.venue.stop()
        assert not self.venue.broker.violations, self.venue.broker.violations
        return self.seen()


def run(history: History, seed: int = 0) -> Seen:
    """Run a history; return what there is to see at its end.

    Raises
    ------
    AssertionError
        Something does not hold; with the history as it can be pasted.
    """
    try:
        return virtual_time.run(lambda loop: HistoryRun(loop).run(history), seed)
    except Exception as error:
        error.add_note(f"seed {seed}, history = {shown(history)}")
        raise
