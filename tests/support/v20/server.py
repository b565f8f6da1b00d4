"""How the broker is served: until it is told to stop, or in a thread of this process."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any

from aiohttp import web

from tests.support.v20.broker import Broker
from tests.support.v20.handle import Handle
from tests.support.v20.options import Options


async def serve(broker: Broker, ready: Callable[[int], None], until: asyncio.Event) -> None:
    """Serve until the event, then end every stream and connection."""
    runner = web.AppRunner(broker.app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", broker.options.port)
    await site.start()
    pump = asyncio.create_task(broker.pump())
    pump.add_done_callback(_report)
    ready(runner.addresses[0][1])
    await until.wait()
    broker.stopping.set()
    await pump
    await runner.cleanup()
    broker.exchange.journal.close()


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        logging.getLogger(__name__).error("the market stopped", exc_info=task.exception())


class V20Server(Handle):
    """A broker inside this process, in a thread of its own: for async and plain tests alike.

    Parameters
    ----------
    options
        As ``Options``, by name.
    """

    def __init__(self, **options: Any) -> None:
        self.options = Options(**options)
        self.account_id = self.options.account_id
        self.broker: Broker | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._until: asyncio.Event | None = None
        self._failed: BaseException | None = None

    def start(self) -> V20Server:
        """Start; return when it listens."""
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        if not ready.wait(20) or self._failed is not None:
            raise RuntimeError(f"the test broker did not start: {self._failed}")
        return self

    def _run(self, ready: threading.Event) -> None:
        async def main() -> None:
            self._loop, self._until = asyncio.get_running_loop(), asyncio.Event()
            self.broker = Broker(self.options)
            self.token = self.broker.token

            def listening(port: int) -> None:
                self.port = port
                ready.set()

            await serve(self.broker, listening, self._until)

        try:
            asyncio.run(main())
        except BaseException as error:
            self._failed = error
            ready.set()
            raise

    def stop(self) -> None:
        """End it and every connection."""
        if self._loop is not None and self._until is not None and self._loop.is_running():
            self._loop.call_soon_threadsafe(self._until.set)
        if self._thread is not None:
            self._thread.join(10)
            self._thread = None
