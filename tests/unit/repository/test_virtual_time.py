"""The virtual clock: time jumps, everything follows it, and a seed decides every order."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.support.virtual_network import HOST, Network, Process
from tests.support.virtual_time import START_NS, Stuck, VirtualLoop, run

YEAR_S = 365 * 86_400.0


def test_a_year_takes_no_time_and_every_clock_shows_it() -> None:
    async def main(loop: VirtualLoop) -> None:
        begun, steady = time.time_ns(), time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        assert begun == pytest.approx(START_NS, abs=1e6)
        await asyncio.sleep(YEAR_S)
        assert time.time_ns() - begun == pytest.approx(YEAR_S * 1e9)
        assert time.time() - begun / 1e9 == pytest.approx(YEAR_S)
        assert time.clock_gettime_ns(time.CLOCK_MONOTONIC) - steady == time.time_ns() - begun
        assert time.monotonic() == loop.time() == time.monotonic_ns() / 1e9

    before = time.monotonic()
    run(main)
    assert 0.0 <= time.monotonic() - before < YEAR_S / 2, "the machine's clock is back"
    assert abs(time.time_ns() - START_NS) > YEAR_S


def test_timers_go_off_in_their_order_and_on_time() -> None:
    async def main(loop: VirtualLoop) -> list[tuple[str, float]]:
        begun, seen = loop.time(), list[tuple[str, float]]()

        async def after(name: str, seconds: float) -> None:
            await asyncio.sleep(seconds)
            seen.append((name, round(loop.time() - begun, 3)))

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await asyncio.gather(
                    after("c", 3.0), after("a", 1.0), after("b", 2.5), after("d", 9)
                )
        return seen

    assert run(main) == [("a", 1.0), ("b", 2.5), ("c", 3.0)]


def test_what_never_comes_is_said() -> None:
    async def main(loop: VirtualLoop) -> None:
        await loop.create_future()

    with pytest.raises(Stuck):
        run(main)


def test_the_job_of_a_thread_is_done_here_and_its_error_arrives() -> None:
    async def main(loop: VirtualLoop) -> list[str]:
        done: list[str] = []
        job = asyncio.create_task(asyncio.to_thread(done.append, "job"))
        await asyncio.sleep(0)
        assert not done, "not at the call itself"
        await job
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 // 0)
        return done

    assert run(main) == ["job"]


async def conversation(loop: VirtualLoop) -> list[Any]:
    """Return what two clients of a server see, and when."""
    network, server, client = Network(loop), Process("server"), Process("client")
    seen: list[Any] = []

    async def answer(request: web.Request) -> web.Response:
        await asyncio.sleep(float(request.query.get("wait", "0")))
        seen.append(("served", request.query_string, time.monotonic()))
        return web.Response(text=request.query_string)

    async def serve() -> int:
        app = web.Application()
        app.router.add_get("/", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        assert runner.server is not None
        return network.listen(server, runner.server)

    port = await server.start(serve())

    async def ask(name: str, wait_s: float) -> None:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://{HOST}:{port}/?wait={wait_s}&name={name}") as response,
        ):
            seen.append((name, response.status, await response.text(), time.monotonic()))

    asked = [client.start(ask(f"c{i}", random.random())) for i in range(5)]
    late = client.start(ask("late", 60.0))
    await asyncio.gather(*asked)
    await client.kill()
    assert late.cancelled()
    await asyncio.sleep(120.0)
    with pytest.raises(aiohttp.ClientConnectionError):
        await client.start(ask("dead", 0.0))
    return seen


def test_one_seed_is_one_order_of_everything_and_another_is_another() -> None:
    first = run(conversation, 1)
    assert first == run(conversation, 1)
    assert first != run(conversation, 2)
    assert {one[0] for one in first if one[0] != "served"} == {f"c{i}" for i in range(5)}


def test_what_a_killed_process_had_sent_is_served_and_its_answer_is_lost() -> None:
    seen = run(conversation, 3)
    assert any(one[0] == "served" and "late" in one[1] for one in seen)
    assert not any(one[0] in ("late", "dead") for one in seen)
